"""What a reader sees of a figure's texts."""

import itertools


def shown_texts(figure):
    """Return the texts that a reader sees: (text, box in pixels)."""
    figure.canvas.draw()
    texts = [*figure.texts, *(part for box in figure.legends for part in (*box.get_texts(), box.get_title()))]
    for axes in figure.axes:
        shown = [axis for axis in (axes.xaxis, axes.yaxis) if axis.get_visible()]
        texts += [axes.title, *(axis.label for axis in shown), *axes.texts]
        for axis, minor in itertools.product(shown, (False, True)):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_ticklabels(minor=minor), axis.get_ticklocs(minor=minor), strict=False)
            texts += [label for label, at in ticks if low <= at <= high]
    unique = {id(text): text for text in texts if text.get_visible() and text.get_text().strip()}
    return [(text.get_text(), text.get_window_extent()) for text in unique.values()]


def outside(figure):
    """Return the texts that do not stand inside the figure."""
    width, height = figure.bbox.size
    return [
        text
        for text, box in shown_texts(figure)
        if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]


def collisions(figure):
    """Return the texts that stand outside of the figure, and the pairs that overlap."""
    boxes, found = shown_texts(figure), outside(figure)
    for (a, p), (b, q) in itertools.combinations(boxes, 2):
        if min(p.x1, q.x1) - max(p.x0, q.x0) > 1 and min(p.y1, q.y1) - max(p.y0, q.y0) > 1:
            found.append((a, b))
    return found
