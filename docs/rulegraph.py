"""Draw the rules of the workflow: `snakemake --rulegraph | python docs/rulegraph.py docs/figures/rulegraph.svg`.

An arrow says that files of the left rule are read by the right one; it is left out where a path of other arrows
joins the two.
"""

import re
import sys

import networkx
from rooms import draw

LAST = "report"
"""The rule that all others lead to, but for the target `all`."""


def rules(dot: str) -> networkx.DiGraph:
    """Return the graph of rules that Snakemake wrote in the language of Graphviz, without the target `all`."""
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', dot, re.MULTILINE))
    edges = re.findall(r"^\s*(\d+) -> (\d+)", dot, re.MULTILINE)
    graph = networkx.DiGraph((names[before], names[after]) for before, after in edges)
    graph.remove_node("all")
    return networkx.transitive_reduction(graph)


def places(graph: networkx.DiGraph) -> dict[str, tuple[float, float]]:
    """Return (column, row) of each rule: as far to the right as it can be, and beside the rules that read it."""
    outer = {"prepare_data", "train", LAST}
    inner = networkx.Graph(sorted(edge for edge in graph.edges if not outer & set(edge)))
    walk = networkx.dfs_preorder_nodes(inner, sort_neighbors=sorted)
    order = [rule for rule in walk if LAST in graph[rule]]
    place = {LAST: (1.4, (len(order) - 1) / 2)}
    for column, layer in enumerate(networkx.topological_generations(graph.reverse())):
        wanted = {}
        for rule in sorted(set(layer) - {LAST}):
            rows = [place[after][1] for after in graph[rule]]
            wanted[rule] = order.index(rule) if rule in order else sum(rows) / len(rows)
        row = -1.0
        for rule in sorted(wanted, key=wanted.__getitem__):
            row = max(row + 1, wanted[rule])
            place[rule] = (-2.1 * column, row)
    return place


if __name__ == "__main__":
    shown = rules(sys.stdin.read())
    draw(shown, places(shown), (12, 4.6), sys.argv[1])
