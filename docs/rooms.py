"""Draw the rooms of the library and their imports: `python docs/rooms.py docs/figures/rooms.svg`.

A room stands one floor above the highest room that it imports. An arrow says that the upper room imports the lower
one; it is left out where a path of other arrows joins the two.
"""

import random
import sys

import grimp
import matplotlib.pyplot as plt
import networkx

PACKAGE = "intrinsic_lr"
COLUMNS = range(7)


def rooms() -> networkx.DiGraph:
    """Return the graph of rooms, with an edge to every room of which another one imports something."""
    modules = grimp.build_graph(PACKAGE)
    graph = networkx.DiGraph()
    for module in sorted(modules.modules - {PACKAGE}):
        room = module.split(".")[1]
        graph.add_node(room)
        imported = {name.split(".")[1] for name in modules.find_modules_directly_imported_by(module)}
        graph.add_edges_from((room, below) for below in sorted(imported - {room}))
    return graph


def places(graph: networkx.DiGraph) -> dict[str, tuple[float, float]]:
    """Return (column, floor) of each room, with short arrows that pass by other rooms; a circle is an error."""
    floors = networkx.topological_generations(graph.reverse())
    height = {room: floor for floor, members in enumerate(floors) for room in sorted(members)}

    def cost(column: dict[str, int]) -> float:
        total = 0.0
        for above, below in graph.edges:
            total += 0.3 * abs(column[above] - column[below])
            for room in graph.nodes - {above, below}:
                share = (height[above] - height[room]) / (height[above] - height[below])
                crossing = column[above] + share * (column[below] - column[above])
                total += 3 * (0 < share < 1 and abs(crossing - column[room]) < 0.9)
        gaps = [abs(column[a] - column[b]) for a in graph for b in graph if a < b and height[a] == height[b]]
        return total + 5 * sum(gap < 2 for gap in gaps)

    def settle(generator: random.Random) -> dict[str, int]:
        column = {room: generator.choice(COLUMNS) for room in graph}
        for room in list(graph) * 3:
            column[room] = min(COLUMNS, key=lambda x: cost({**column, room: x}))
        return column

    column = min((settle(random.Random(seed)) for seed in range(20)), key=cost)
    return {room: (0.8 * column[room], height[room]) for room in graph}


def draw(
    graph: networkx.DiGraph, place: dict[str, tuple[float, float]], size: tuple[float, float], file: str
) -> None:
    """Draw a graph with its nodes at their places into an SVG or PNG file of `size` inches."""
    plt.rcParams.update({"svg.hashsalt": PACKAGE, "svg.fonttype": "none", "font.size": 11})
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set_axis_off()
    box = {"boxstyle": "round,pad=0.35", "facecolor": "#eef3f8", "edgecolor": "#1f4e79"}
    labels = {node: axes.text(x, y, node, ha="center", va="center", bbox=box) for node, (x, y) in place.items()}
    columns, heights = zip(*place.values(), strict=True)
    axes.set(xlim=(min(columns) - 0.7, max(columns) + 0.7), ylim=(min(heights) - 0.5, max(heights) + 0.5))
    figure.canvas.draw()
    for above, below in sorted(graph.edges):
        ends = {"patchA": labels[above].get_bbox_patch(), "patchB": labels[below].get_bbox_patch(), "shrinkB": 2}
        arrow = {"arrowstyle": "-|>", "color": "#1f4e79", "lw": 1.3, **ends}
        axes.annotate("", place[below], place[above], arrowprops=arrow)
    figure.savefig(file, metadata={"Date": None} if file.endswith(".svg") else None)


if __name__ == "__main__":
    reduced = networkx.transitive_reduction(rooms())
    draw(reduced, places(reduced), (6, 5.5), sys.argv[1])
