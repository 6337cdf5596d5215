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

    def meets(self, places: Sequence[tuple[float, float]]) -> bool:
        """Whether one of *places* lies inside, and not on the border, where edges start and end."""
        inside = Rect(self.left + 0.2, self.top + 0.2, self.right - 0.2, self.bottom - 0.2)
        return any(inside.left < x < inside.right and inside.top < y < inside.bottom for x, y in places)

    def apart(self, other: Rect) -> float:
        return max(self.left - other.right, other.left - self.right, self.top - other.bottom, other.top - self.bottom)


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
def test_an_edge_of_a_cell_passes_through_its_own_label_only(seed: int, way: str) -> None:
    picture = drawn(cell(seed), way)
    edges = [group for group in picture.iter("g") if group.attrib.get("class") == "edge"]
    assert len(edges) == 9
    for edge in edges:
        places = list(along(edge.findall("path")[0].attrib["d"]))
        crossed = {rect for rect in [*rects(picture, "box"), *rects(picture, "pill")] if rect.meets(places)}
        assert crossed == set(rects(edge, "pill"))


@pytest.mark.parametrize("seed", range(10))
def test_a_network_runs_from_left_to_right_or_from_top_to_bottom(seed: int) -> None:
    wide, tall = (rects(drawn(cell(seed), way), "box") for way in ("wide", "tall"))
    for source, target, _ in cell(seed).edges:
        assert wide[source].right < wide[target].left
        assert tall[source].bottom < tall[target].top
    assert [box.left for box in wide[:2]] == [3.0, 3.0]
    assert wide[0].top < wide[1].top


def test_a_chain_is_drawn_straight() -> None:
    picture = drawn(Graph("chain", ["a", "b", "c"], [(0, 1, "one"), (1, 2, "two")]), "wide")
    assert len({rect.top for rect in rects(picture, "box")}) == 1
    assert len({rect.top for rect in rects(picture, "pill")}) == 1


def test_an_edge_past_a_chain_leaves_the_chain_straight() -> None:
    edges = [(0, 1, "one"), (1, 2, "two"), (2, 3, "three"), (0, 3, "past")]
    tops = [rect.top for rect in rects(drawn(Graph("skip", ["a", "b", "c", "d"], edges), "wide"), "box")]
    assert max(tops) - min(tops) < 1


def test_edges_do_not_cross_where_they_need_not() -> None:
    figure = Graph("pairs", ["a", "b", "c", "of b", "of a", "of c"], [(1, 3, ""), (0, 4, ""), (2, 5, "")])
    a, b, c, of_b, of_a, of_c = (rect.top for rect in rects(drawn(figure, "wide"), "box"))
    assert (a, b, c) == pytest.approx((of_a, of_b, of_c), abs=1)


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
    assert [text.text for text in picture.iter("text")] == ["an operation of m…", "a node of many many wor…", "b"]
    assert "a node of many many words" in [title.text for title in picture.iter("title")]


def report(folder: Path, figures: Sequence[Figure] = (), history: Sequence[Mapping[str, Any]] = ()) -> str:
    data = ReportData(
        title="a run", app="classification", model="", task_line="", command="", facts={}, config={}, metrics={},
        history=history, figures=figures,
    )  # fmt: skip
    write_report(data, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def words(page: str) -> str:
    """The text of *page* without its markup and style."""
    body = page.partition("<main>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def curves(page: str) -> list[str]:
    return re.findall(r'<svg [^>]*aria-label="([^"]*)"', page)


def test_a_report_shows_a_network_for_either_width_of_the_page(tmp_path: Path) -> None:
    page = report(tmp_path, [Graph("The cell", NODES, EDGES, note="Three of these.")])
    assert re.findall(r'<div class="graph (\w+) scroll">', page) == ["wide", "tall"]
    assert "Three of these." in page


def test_edges_that_lead_to_no_later_node_are_left_out_and_counted(tmp_path: Path) -> None:
    text = words(report(tmp_path, [Graph("odd", ["a", "b"], [(0, 1, "fine"), (1, 0, "back"), (0, 7, "out")])]))
    assert "2 of 3 edges lead to no later node and are left out." in text
    assert "fine" in text
    assert "back" not in text


def test_a_network_too_large_for_a_picture_is_told_in_words(tmp_path: Path) -> None:
    edges = [(0, 1, f"edge {index}") for index in range(MOST_EDGES + 1)]
    page = report(tmp_path, [Graph("large", ["a", "b"], edges), Graph("empty", [], [])])
    assert curves(page) == []
    assert "61 edges between 2 nodes are too many for a picture." in words(page)
    assert "a to b: edge 60" in words(page)
    assert "There is no network to show." in words(page)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        points = [Point(str(i), float(x), float(y), "g") for i, (x, y) in enumerate(rng.integers(0, 6, (12, 2)))]
        beaten = {
            point
            for point in points
            for other in points
            if other.x <= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y)
        }
        assert set(unbeaten(points)) == set(points) - beaten
        assert [point.x for point in unbeaten(points)] == sorted(point.x for point in set(points) - beaten)


def test_the_front_is_drawn_as_steps_and_the_chosen_point_is_ringed_and_named() -> None:
    chart = front_chart(Front("f", "ms", "score", POINTS), size=(460, 340))
    assert chart is not None
    picture = ElementTree.fromstring(chart.drawing.svg)
    places = {
        group[0].text.partition("\n")[0]: re.findall(r"[\d.]+", group.attrib["transform"])
        for group in picture.iter("g")
        if "transform" in group.attrib
    }
    steps = next(path.attrib["d"] for path in picture.iter("path") if path.attrib["class"] == "steps")
    assert re.findall(r"H([\d.]+)V([\d.]+)", steps) == [
        tuple(places[name]) for name in ("one cell", "two cells", "three cells")
    ]
    (ring,) = [circle for circle in picture.iter("circle") if circle.attrib["class"] == "chosen"]
    assert [ring.attrib["cx"], ring.attrib["cy"]] == places["two cells"]
    assert [text.text for text in picture.iter("text") if text.attrib.get("class") == "callout"] == ["two cells"]
    assert [group.attrib["class"] for group in picture.iter("g") if "transform" in group.attrib].count("beaten") == 1


def test_each_group_has_a_mark_of_its_own_in_drawing_and_legend(tmp_path: Path) -> None:
    page = report(tmp_path, [Front("f", "ms", "score", POINTS)])
    legend = re.findall(r'<span class="key"><svg [^>]*>(.*?)</svg><span>([^<]*)', page)
    assert [text for _, text in legend] == ["derived", "drawn", "front", "chosen"]
    marks = [mark for mark, text in legend if text in ("derived", "drawn")]
    assert marks[0] != marks[1]
    # In the drawing, the legend, and the rows of the table.
    assert [page.count(mark) for mark in marks] == [3 + 1 + 3, 1 + 1]


def test_the_points_of_the_front_stand_in_a_table(tmp_path: Path) -> None:
    text = words(report(tmp_path, [Front("f", "ms", "score", POINTS)]))
    table = text.partition("on the front ms score")[2]
    assert "one cell 1.0000 0.8000 two cells chosen 2.0000 0.8500 three cells 4.0000 0.8600" in table
    assert "a slow one" not in table
    assert "ms: 3.0000" in report(tmp_path, [Front("f", "ms", "score", POINTS)])


def test_a_chosen_point_behind_the_front_stands_in_its_table_and_says_so(tmp_path: Path) -> None:
    points = [*POINTS, Point("the small one", 2.5, 0.7, "drawn", chosen=True)]
    assert "the small one chosen, not on the front 2.5000" in words(report(tmp_path, [Front("f", "x", "y", points)]))


@pytest.mark.parametrize(("fastest", "log"), [(0.39, True), (0.4, False), (0.0, False), (-1.0, False)])
def test_x_is_logarithmic_where_it_spans_more_than_a_factor_of_ten(tmp_path: Path, fastest: float, log: bool) -> None:
    figure = Front("f", "ms", "score", [*POINTS, Point("fast", fastest, 0.5, "derived")])
    chart = front_chart(figure, size=(460, 340))
    assert chart is not None
    assert chart.log is log
    assert ("ms, log scale" in words(report(tmp_path, [figure]))) is log
    x = {point.label: chart.drawing.svg.partition(f">{point.label}\n")[0] for point in figure.points}
    one, two, four = (
        float(re.findall(r"translate\(([\d.]+)", x[name])[-1]) for name in ("one cell", "two cells", "three cells")
    )
    assert (two - one) / (four - two) == pytest.approx(1.0 if log else 0.5, abs=0.01)


def test_points_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    points = [*POINTS, Point("lost", math.nan, 0.9, "derived"), Point("gone", 0.1, math.inf, "other")]
    page = report(tmp_path, [Front("f", "x", "y", points)])
    assert "2 of 6 points without a finite x or y are left out." in words(page)
    assert not re.search(r"\bnan\b|lost|gone|>other", page)
    nothing = words(report(tmp_path, [Front("f", "x", "y", points[4:])]))
    assert "There are no points to show." in nothing


def test_of_very_many_points_those_of_the_front_are_all_drawn(tmp_path: Path) -> None:
    cloud = [Point(f"p{i}", 5.0 + i / 1e4, 0.1 + (i % 7) / 100, "cloud") for i in range(5000)]
    page = report(tmp_path, [Front("f", "x", "y", [*cloud, *POINTS])])
    assert "1,003 of 5,004 points are drawn." in words(page)
    assert all(f"<title>{name}\n" in page for name in ("one cell", "two cells", "three cells"))


@pytest.mark.parametrize("point", [(1.0, 0.8), (9.9, 0.1), (0.1, 0.9), (10.0, 0.95)])
def test_the_name_of_the_chosen_point_stays_inside_the_drawing(point: tuple[float, float]) -> None:
    corners = [Point("", x, y, "g") for x in (0.1, 10.0) for y in (0.1, 0.95)]
    figure = Front("f", "x", "y", [*corners, Point("3 cells, 5.6 M parameters", *point, "g", chosen=True)])
    chart = front_chart(figure, size=(460, 340))
    assert chart is not None
    text = next(t for t in ElementTree.fromstring(chart.drawing.svg).iter("text") if t.attrib.get("class") == "callout")
    # A letter takes seven pixels and a little on average.
    width = 7.2 * len(text.text or "")
    start = float(text.attrib["x"]) - {"start": 0, "middle": width / 2, "end": width}[text.attrib["text-anchor"]]
    assert start >= 0
    assert start + width <= 460
    assert 12 <= float(text.attrib["y"]) <= 340 - 26


READINGS = [
    {"step": step, "loss": 1.0, "lr": 1e-4, "search/operation_entropy": 2.0 - step, "search/cells": 3.0, "loss/kd": 0.5}
    for step in (1, 2, 3)
]


def test_what_an_objective_logs_beside_the_loss_has_curves(tmp_path: Path) -> None:
    history = [*READINGS, *({"step": step, "dev/accuracy": 0.5 + step / 10} for step in (1, 2, 3))]
    page = report(tmp_path, history=history)
    assert curves(page) == [
        *("Loss", "Metrics on dev", "Terms of the loss"),
        *("Operation entropy", "Cells", "Learning rate"),
    ]
    assert "step 3\noperation entropy -1.0000" in page


def test_an_evaluation_on_another_split_is_no_reading(tmp_path: Path) -> None:
    history = [*READINGS, *({"step": step, "test/accuracy": 0.5} for step in (1, 2))]
    assert "Metrics on test" in curves(report(tmp_path, history=history))


def test_without_such_readings_there_is_no_curve_of_them(tmp_path: Path) -> None:
    history = [{key: value for key, value in line.items() if "search/" not in key} for line in READINGS]
    assert curves(report(tmp_path, history=history)) == ["Loss", "Terms of the loss", "Learning rate"]


def test_readings_of_one_name_say_whose_they_are(tmp_path: Path) -> None:
    history = [{"step": step, "loss": 1.0, "search/cells": 2.0, "teacher/cells": 4.0} for step in (1, 2)]
    assert curves(report(tmp_path, history=history)) == ["Loss", "Cells of search", "Cells of teacher"]


def test_a_reading_that_was_logged_once_stands_in_the_table(tmp_path: Path) -> None:
    page = report(tmp_path, history=READINGS[:1])
    assert curves(page) == []
    assert "metric train" in words(page)
    assert "operation entropy 1.0000" in words(page)
