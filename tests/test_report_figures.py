"""Networks and fronts in a report, and the curves of what an objective logs beside the loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from et_adabert.student.cell import Cell

from et_core.interfaces.figures import Figure, Front, Graph, Point
from et_core.report import ReportData, write_report
from et_core.report.front import front_chart, unbeaten
from et_core.report.graph import MOST_EDGES, graph_drawings

NODES = ["cell k-2", "cell k-1", "node 2", "node 3", "node 4", "output"]
EDGES = [(0, 2, "conv7"), (1, 2, "dilated5"), (0, 3, "skip"), (2, 3, "avg3"), (0, 4, "max3"), (2, 4, "skip")]
TO_OUTPUT = [(node, 5, "") for node in (2, 3, 4)]
POINTS = [
    Point("one cell", 1.0, 0.80, "derived"),
    Point("two cells", 2.0, 0.85, "derived", chosen=True),
    Point("a slow one", 3.0, 0.82, "drawn"),
    Point("three cells", 4.0, 0.86, "derived"),
]


class Rect(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def apart(self, other: Rect) -> float:
        return max(
            self.left - other.right, other.left - self.right, self.top - other.bottom, other.top - self.bottom
        )


def cell(seed: int) -> Graph:
    nodes = Cell.random(seed).nodes
    edges = [(edge.source, target, edge.operation) for target, node in enumerate(nodes, start=2) for edge in node]
    return Graph("The cell", NODES, [*edges, *TO_OUTPUT])


def drawn(figure: Graph, way: str) -> ElementTree.Element:
    return ElementTree.fromstring(graph_drawings(figure)[way].svg)


def rects(picture: ElementTree.Element, kind: str) -> list[Rect]:
    found = []
    for rect in picture.iter("rect"):
        if rect.attrib["class"].startswith(kind):
            x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
            found.append(Rect(x, y, x + width, y + height))
    return found


def along(path: str) -> Iterator[tuple[float, float]]:
    """Points of *path*, which starts with M and goes on with L and C, close to each other."""
    here = (0.0, 0.0)
    for command, written in re.findall(r"([MLC])([^MLC]*)", path):
        numbers = [float(number) for number in written.split()]
        stops = [here, *zip(numbers[::2], numbers[1::2], strict=True)]
        weights = {"M": [(0, 1)], "L": [(1 - t, t) for t in np.linspace(0, 1, 60)]}.get(
            command, [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3) for t in np.linspace(0, 1, 60)]
        )
        for each in weights:
            yield tuple(sum(w * stop[axis] for w, stop in zip(each, stops, strict=True)) for axis in (0, 1))
        here = stops[-1]


@pytest.mark.parametrize("way", ["wide", "tall"])
@pytest.mark.parametrize("seed", range(40))
def test_boxes_and_labels_of_a_cell_keep_apart(seed: int, way: str) -> None:
    picture = drawn(cell(seed), way)
    boxes, pills = rects(picture, "box"), rects(picture, "pill")
    width, height = (float(number) for number in picture.attrib["viewBox"].split()[2:])
    assert (len(boxes), len(pills)) == (6, 6)
    assert min(one.apart(other) for one, other in combinations([*boxes, *pills], 2)) > 8
    assert all(r.left > 0 and r.top > 0 and r.right < width and r.bottom < height for r in [*boxes, *pills])


@pytest.mark.parametrize("way", ["wide", "tall"])
@pytest.mark.parametrize("seed", range(40))
def test_an_edge_of_a_cell_passes_through_nothing(seed: int, way: str) -> None:
    picture = drawn(cell(seed), way)
    boxes, pills = rects(picture, "box"), rects(picture, "pill")
    edges = [group for group in picture.iter("g") if group.attrib.get("class") == "edge"]
    assert len(edges) == 9
    for edge in edges:
        own = rects(edge, "pill")
        others = [rect for rect in [*boxes, *pills] if rect not in own]
        for x, y in along(edge.findall("path")[0].attrib["d"]):
            assert not any(r.left + 0.5 < x < r.right - 0.5 and r.top < y < r.bottom for r in others)
        assert all(any(r.left < x < r.right and r.top < y < r.bottom for x, y in along(edge[1].attrib["d"])) for r in own)


@pytest.mark.parametrize("seed", range(10))
def test_a_network_runs_from_left_to_right_or_from_top_to_bottom(seed: int) -> None:
    wide, tall = (rects(drawn(cell(seed), way), "box") for way in ("wide", "tall"))
    for source, target, _ in cell(seed).edges:
        assert wide[source].right < wide[target].left
        assert tall[source].bottom < tall[target].top
    assert [box.left for box in wide[:2]] == [3.0, 3.0]


def test_a_chain_is_drawn_straight() -> None:
    picture = drawn(Graph("chain", ["a", "b", "c"], [(0, 1, "one"), (1, 2, "two")]), "wide")
    assert len({rect.top for rect in rects(picture, "box")}) == 1
    assert len({rect.top for rect in rects(picture, "pill")}) == 1


def test_two_edges_between_the_same_nodes_are_both_read() -> None:
    picture = drawn(Graph("twice", ["a", "b"], [(0, 1, "one"), (0, 1, "two")]), "wide")
    one, two = rects(picture, "pill")
    assert one.apart(two) > 8


def test_the_edges_of_a_network_can_be_heard() -> None:
    for way in ("wide", "tall"):
        picture = drawn(Graph("The cell", NODES, [*EDGES, *TO_OUTPUT]), way)
        assert picture.attrib["aria-label"].startswith("The cell: cell k-2 to node 2: conv7; cell k-1 to node 2: dil")
        assert picture.attrib["aria-label"].endswith("; node 4 to output")
        titles = [title.text for title in picture.iter("title")]
        assert titles[:2] == ["cell k-2 to node 2: conv7", "cell k-1 to node 2: dilated5"]


def test_long_names_are_cut_and_whole_in_the_tip() -> None:
    picture = drawn(Graph("long", ["a node of many many words", "b"], [(0, 1, "an operation of many words")]), "wide")
    assert {text.text for text in picture.iter("text")} == {"a node of many many word…", "an operation of m…", "b"} - {
        "a node of many many word…"
    } | {"a node of many many wor…"}
    assert "a node of many many words" in [title.text for title in picture.iter("title")]
