"""What the tests of claims share: experiments of stand-in points, findings as a table, and drawing."""

from types import SimpleNamespace

import matplotlib.pyplot as plt

from intrinsic_lr.claims.shared.verdicts import findings_table


class Point(SimpleNamespace):
    """A planned point that has no more axes than a test needs."""

    def __getitem__(self, axis):
        return getattr(self, axis)


def experiment(name, points=(), replicates=0):
    """Return an experiment of these points, which may be given as mappings."""
    made = [point if isinstance(point, Point) else Point(**point) for point in points]
    return SimpleNamespace(name=name, points=made, replicates=replicates)


def grid(*mappings):
    """Return a grid as the config's type reads it: every axis with a list of values."""
    return [{axis: v if isinstance(v, list) else [v] for axis, v in mapping.items()} for mapping in mappings]


def judged(claim, table, spec):
    """Return the findings on a table as the workflow writes them."""
    return findings_table(spec.name, "", "", claim.judge(table, spec))


def verdicts(findings, role="criterion"):
    """Return the verdicts of the criteria or of the controls."""
    return list(findings.loc[findings["role"] == role, "verdict"])


def draws(claim, table, spec, findings=None):
    """Draw a table, and return the figure's titles, axes' titles, and texts of the legend in one string."""
    figure = claim.draw(table, spec, judged(claim, table, spec) if findings is None else findings)
    figure.draw_without_rendering()
    texts = [axes.get_title() for axes in figure.axes]
    texts += [figure.get_suptitle(), *(text.get_text() for text in figure.legends[0].get_texts())]
    texts.append(figure.legends[0].get_title().get_text())
    plt.close(figure)
    return "\n".join(texts)
