from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from et_core.interfaces.figures import Bars, Examples, Figure, Front, Graph, Matrix, Point, Scatter
from et_core.report import ReportData, write_report

HOSTILE = "<script>alert('x')</script><img src=//evil.example onerror=alert(1)>\"'&"
VOID = {"meta", "br", "img", "link", "input"}

HISTORY = [
    {"step": 10, "epoch": 0.5, "loss": 0.7, "lr": 1e-5, "tokens_per_second": 900.0, "grad_norm": 2.0},
    {"step": 10, "epoch": 0.5, "dev/accuracy": 0.7, "dev/loss": 0.6},
    {"step": 20, "epoch": 1.0, "loss": 0.5, "lr": 2e-5, "tokens_per_second": 950.0, "grad_norm": 1.5},
    {"step": 20, "epoch": 1.0, "dev/accuracy": 0.8, "dev/loss": 0.5},
    {"step": 30, "epoch": 1.5, "loss": 0.4, "lr": 1e-5, "tokens_per_second": 940.0, "grad_norm": 1.2},
    {"step": 30, "epoch": 1.5, "dev/accuracy": 0.75, "dev/loss": 0.55},
]
DATA = ReportData(
    title="sst2",
    app="classification",
    model="minilm-l6-en@zoo",
    task_line="2 labels: negative, positive",
    command="et train sst2.yaml train.epochs=3",
    facts={"Rows": "6,920 train, 872 dev", "Device": "CPU"},
    config={"model": {"ref": "minilm-l6-en@zoo"}, "data": {"train": Path("train.tsv")}, "train": {"lr": 2e-5}},
    metrics={"dev": {"accuracy": 0.8, "f1": 0.79, "loss": 0.5}},
    history=HISTORY,
    figures=[Matrix("Confusion matrix, dev", ["negative", "positive"], [[30, 10], [5, 55]])],
    notes=["2 rows were skipped."],
    model_license="Apache-2.0",
    usage={"Python": "import et_core as et", "Command line": "et predict runs/sst2"},
    best_step=20,
)


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on an element that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def count(self, tag: str, **attributes: str) -> int:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return sum(name == tag and wanted.items() <= found.items() for name, found in self.elements)


def page(folder: Path, **changes: Any) -> Page:
    path = folder / "report.html"
    write_report(replace(DATA, **changes), path)
    return Page(path.read_text(encoding="utf-8"))


def test_report_shows_figures_notes_facts_and_settings(tmp_path: Path) -> None:
    text = page(tmp_path).text
    for shown in ("sst2", "0.8000", "2 rows were skipped.", "6,920 train, 872 dev", "train: train.tsv", DATA.command):
        assert shown in text
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    figures: list[Figure] = [
        Matrix(HOSTILE, [HOSTILE, "b"], [[1, 2], [3, 4]]),
        Matrix(HOSTILE, [f"{HOSTILE}{i}" for i in range(40)], np.ones((40, 40), dtype=int).tolist()),
        Bars(HOSTILE, {HOSTILE: 0.5}),
        Scatter(HOSTILE, HOSTILE, HOSTILE, [(0.0, 1.0)]),
        Examples(HOSTILE, [HOSTILE], [[HOSTILE], [HOSTILE * 50]], note=HOSTILE),
        Graph(HOSTILE, [HOSTILE, HOSTILE], [(0, 1, HOSTILE)], note=HOSTILE),
        Graph(HOSTILE, [HOSTILE, HOSTILE], [(0, 1, HOSTILE)] * 99, note=HOSTILE),
        Front(HOSTILE, HOSTILE, HOSTILE, [Point(HOSTILE, 1.0, 1.0, HOSTILE, chosen=True)], note=HOSTILE),
    ]
    found = page(
        tmp_path,
        **dict.fromkeys(("title", "app", "model", "task_line", "command"), HOSTILE),
        facts={HOSTILE: HOSTILE},
        config={HOSTILE: HOSTILE},
        metrics={HOSTILE: {HOSTILE: 1.0}, "dev": dict.fromkeys([*"abcdef", HOSTILE], 0.1)},
        history=[
            *HISTORY,
            {"step": 40, f"{HOSTILE}/{HOSTILE}": 0.5, f"loss/{HOSTILE}": 2.0},
            *({"step": step, "loss": 0.4, f"read/{HOSTILE}": 0.5} for step in (50, 60)),
        ],
        figures=figures,
        notes=[HOSTILE],
    )
    assert found.text.count(HOSTILE) > 20
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in found.elements}
    assert not [key for _, attributes in found.elements for key in attributes if key.startswith("on")]


def test_report_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    found = page(tmp_path)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", source)
    assert not [key for _, attributes in found.elements for key in attributes if key in ("src", "href", "srcset")]
    assert found.count("meta", content="default-src 'none'; style-src 'unsafe-inline'") == 1


def test_curves_mark_the_best_step(tmp_path: Path) -> None:
    marked = page(tmp_path)
    # One for dev loss and one for dev accuracy; the training loss was not what chose the step.
    assert marked.count("circle", class_="ring") == 2
    assert page(tmp_path, best_step=None).count("circle", class_="ring") == 0
    assert page(tmp_path, best_step=5000).count("line", class_="best") == 0


def test_a_lone_training_loss_gets_no_ring(tmp_path: Path) -> None:
    history = [line for line in HISTORY if "loss" not in line or line["step"] == 20]
    # Again one for dev loss and one for dev accuracy.
    assert page(tmp_path, history=history).count("circle", class_="ring") == 2


def test_what_was_logged_once_has_no_curve_but_stands_in_the_table(tmp_path: Path) -> None:
    history = [{"dev/extra": 7.25, **HISTORY[1]}, {"loss/hidden": 3.5, **HISTORY[0]}]
    found = page(tmp_path, history=history, best_step=10)
    assert found.count("svg") == 0
    for row in ("metricdevtrain", "loss0.50000.7000", "extra7.2500–", "loss/hidden–3.5000", "gradient norm–2.0000"):
        assert row in found.text
    assert "All metrics" not in page(tmp_path).text


def test_one_evaluation_is_drawn_beside_a_curve(tmp_path: Path) -> None:
    found = page(tmp_path, history=[line for line in HISTORY if "loss" in line or line["step"] == 20])
    labels = [attributes["aria-label"] for tag, attributes in found.elements if tag == "svg"]
    assert labels == ["Loss", "Learning rate", "Tokens per second", "Gradient norm"]
    assert found.count("circle", class_="ring") == 1


def test_noise_is_not_drawn_as_a_gap(tmp_path: Path) -> None:
    found = page(tmp_path, history=[{"step": 1, "loss": 1.380}, {"step": 2, "loss": 1.375}])
    paths = [attributes["d"] or "" for tag, attributes in found.elements if tag == "path"]
    first, last = (float(height) for height in re.findall(r" ([\d.]+)", paths[0]))
    assert 0 < last - first < 20


def test_equal_metrics_are_shown_once(tmp_path: Path) -> None:
    history = [{"step": step, "dev/mse": 9.0 / step, "dev/loss": 9.0 / step + 1e-7, "dev/mae": 3.0} for step in (1, 2)]
    metrics = {"dev": {"mse": 4.5, "mae": 3.0, "loss": 4.5000001}}
    found = page(tmp_path, history=history, metrics=metrics)
    labels = [attributes["aria-label"] for tag, attributes in found.elements if tag == "svg"]
    assert labels == ["Loss", "mae on dev"]
    assert found.count("div", class_="tile") == 2
    assert "equal to loss" in found.text
    assert "dev, equal to mse" in found.text
    # All of them stay in the table.
    assert "loss4.5000" in re.sub(r"\s+", "", found.text)


def test_metrics_that_meet_at_the_end_only_are_both_shown(tmp_path: Path) -> None:
    history = [{"step": 1, "dev/accuracy": 0.5, "dev/f1": 0.4}, {"step": 2, "dev/accuracy": 1.0, "dev/f1": 1.0}]
    found = page(tmp_path, history=history, metrics={"dev": {"accuracy": 1.0, "f1": 1.0}})
    assert found.count("div", class_="tile") == 2
    assert "equal to" not in found.text


def test_each_kind_of_curve_gets_its_own_axes(tmp_path: Path) -> None:
    more = {"dev/perplexity": 41.0, "loss/hidden": 2.0, "loss/logits": 0.3}
    history = [*HISTORY, {"step": 20, **more}, {"step": 30, **more}]
    found = page(tmp_path, history=history)
    labels = [attributes["aria-label"] for tag, attributes in found.elements if tag == "svg"]
    assert labels == [
        *("Loss", "Metrics on dev", "perplexity on dev", "Terms of the loss"),
        *("Learning rate", "Tokens per second", "Gradient norm"),
    ]


def test_a_lone_curve_says_what_it_is(tmp_path: Path) -> None:
    assert re.search(r"Metrics on dev\s*accuracy", page(tmp_path).text)


def test_hundred_thousand_lines_make_a_small_page_and_keep_the_spike(tmp_path: Path) -> None:
    history = [{"step": i, "loss": 1.0 + (i % 7) / 10, "lr": i * 1e-9} for i in range(1, 100_001)]
    history[54_321]["loss"] = 9.0
    found = page(tmp_path, history=history)
    paths = [attributes["d"] or "" for tag, attributes in found.elements if tag == "path"]
    assert (tmp_path / "report.html").stat().st_size < 200_000
    assert all(len(re.findall("[ML]", path)) <= 1000 for path in paths)
    heights = [float(height) for height in re.findall(r" ([\d.]+)", paths[0])]
    assert min(heights) < sorted(heights)[1] - 50


def test_one_huge_value_does_not_flatten_the_curve(tmp_path: Path) -> None:
    history = [{"step": i, "loss": 2.0 if i % 2 else 1.0} for i in range(1, 101)]
    history[50]["loss"] = 5e6
    assert "Values above 3.12 are cut." in page(tmp_path, history=history).text


def test_of_two_values_none_is_cut(tmp_path: Path) -> None:
    history = [{"step": 10, "loss": 1.0, "lr": 6e-5}, {"step": 20, "loss": 0.7, "lr": 5e-6}]
    assert "are cut" not in page(tmp_path, history=history).text


def test_values_that_are_not_finite_are_named_and_leave_a_gap(tmp_path: Path) -> None:
    losses = [1.0, 0.9, float("nan"), None, 0.7, float("inf"), 0.6]
    found = page(tmp_path, history=[{"step": i, "loss": loss} for i, loss in enumerate(losses, start=1)])
    assert "3 values are not finite, first at step 3." in found.text
    assert [(attributes["d"] or "").count("M") for tag, attributes in found.elements if tag == "path"] == [3]


@pytest.mark.parametrize(
    "changes",
    [
        {"history": []},
        {"history": [{"step": 1, "loss": 0.7, "lr": 0.0}, {"step": 1, "dev/accuracy": 0.5}]},
        {"history": [{"step": 1, "loss": float("nan"), "dev/accuracy": float("nan")}, {"loss": 1.0}, {}]},
        {"metrics": {}},
        {"metrics": {"dev": {}, "test": {"accuracy": float("nan")}}},
        {"figures": [Matrix("a", [], []), Scatter("b", "x", "y", []), Bars("c", {}), Examples("d", ["text"], [])]},
        {
            "figures": [
                Matrix("a", ["one"], [[0]]),
                Scatter("b", "x", "y", [(float("nan"), 1.0)]),
                Bars("c", {"d": float("nan")}),
                Graph("e", [], []),
                Front("f", "x", "y", [Point("g", float("nan"), 1.0, "h")]),
            ]
        },
        {"facts": {}, "config": {}, "notes": [], "usage": {}, "command": "", "model_license": None, "best_step": None},
    ],
)
def test_what_is_missing_is_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = page(tmp_path, **changes)
    assert "sst2" in found.text
    assert not re.search("nan|None|inf\\b", found.text)


def test_matrix_shows_counts_and_shares_of_the_row(tmp_path: Path) -> None:
    found = page(tmp_path)
    tip = "true negative, predicted positive: 10 rows, 25.0% of negative"
    assert found.count("td", title=tip, class_="wrong", style="--v:0.50") == 1
    assert found.count("td", class_="right strong", style="--v:0.75") == 1
    assert "85 of 100 are right" in found.text


@pytest.mark.parametrize(
    ("labels", "half", "hints"),
    [
        (["0", "1"], True, []),
        (["Business", "Sci/Tech", "Sports", "World"], False, []),
        ([f"quite a long label {i}" for i in range(3)], False, []),
        ([*"abcdefgh"], False, ["hint muted small narrow"]),
        ([f"label {i}" for i in range(30)], False, ["hint muted small"]),
    ],
)
def test_a_matrix_gets_the_room_it_needs(tmp_path: Path, labels: list[str], half: bool, hints: list[str]) -> None:
    counts = np.ones((len(labels), len(labels)), dtype=int).tolist()
    found = page(tmp_path, figures=[Matrix("m", labels, counts), Bars("b", {"x": 0.5})])
    assert found.count("section", class_="half") == 1 + half
    assert re.search(r"\bm\b.*\bb\b" if half else r"\bb\b.*\bm\b", found.text.partition("norm")[2], re.DOTALL)
    assert [c for _, a in found.elements if (c := a.get("class") or "").startswith("hint")] == hints


@pytest.mark.parametrize(("labels", "cells"), [(30, 900), (31, 0), (200, 0)])
def test_many_labels_show_the_most_confused_pairs(tmp_path: Path, labels: int, cells: int) -> None:
    counts = np.eye(labels, dtype=int) * 20
    counts[3, 7], counts[5, 1] = 4, 9
    found = page(tmp_path, figures=[Matrix("m", [f"label {i}" for i in range(labels)], counts.tolist())])
    titled = [
        tag for tag, attributes in found.elements if tag == "td" and (attributes.get("title") or "").startswith("true ")
    ]
    assert len(titled) == cells
    text = re.sub(r"\s+", " ", found.text)
    assert re.search(r"label 5 ?label 1 ?9 ?31\.0 % ?label 3 ?label 7 ?4 ?16\.7 %", text)


def test_regression_draws_at_most_a_thousand_points(tmp_path: Path) -> None:
    points = [(i / 1000, i / 900) for i in range(5000)]
    found = page(tmp_path, figures=[Scatter("true and predicted", "true", "predicted", points)], history=[])
    assert found.count("circle") == 1000
    assert "1,000 of 5,000 points are drawn." in found.text


def test_scatter_names_both_axes(tmp_path: Path) -> None:
    found = page(tmp_path, figures=[Scatter("s", "true", "predicted", [(0.0, 1.0)])])
    assert found.count("p", class_="axis up muted small") == 1
    assert "upwards" not in found.text
    assert re.findall(r"^(true|predicted)$", found.text, re.MULTILINE) == ["predicted", "true"]


def test_drawings_say_how_wide_they_are(tmp_path: Path) -> None:
    drawings = [attributes for tag, attributes in page(tmp_path).elements if tag == "svg"]
    assert drawings
    for drawing in drawings:
        width = (drawing["viewbox"] or "").split()[2]
        assert drawing["style"] == f"--w:{width}px"


def test_a_long_fact_spans_its_row(tmp_path: Path) -> None:
    found = page(tmp_path, facts={"device": "cpu", "versions": "python 3.11.7, torch 2.15.0, transformers 5.23.0"})
    assert found.count("div", class_="long") == 1


def test_short_columns_of_examples_stay_on_one_line(tmp_path: Path) -> None:
    columns = ["where", "text", "note", "loss"]
    rows = [["test.tsv line 2302", "word " * 30, "w " * 18, 0.5]]
    found = page(tmp_path, figures=[Examples("wrong", columns, rows)])
    kinds = [
        attributes.get("class") for tag, attributes in found.elements if tag == "td" and "data-column" in attributes
    ]
    assert kinds == ["line", "wide", "", "n"]
    # Not all of five such columns: the text needs room as well.
    found = page(tmp_path, figures=[Examples("wrong", [*"abcde", "text"], [["x" * 25] * 5 + ["word " * 30]])])
    assert found.count("td", class_="line") == 2


def test_long_text_is_cut_and_its_whole_is_one_click_away(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(1500))
    found = page(tmp_path, figures=[Examples("wrong", ["text", "score"], [[text, 0.98765], ["x" * 500_000, 0.5]])])
    assert text in found.text
    assert found.count("details", class_="cut") == 2
    assert "0.9877" in found.text
    assert "480,000 more characters" in found.text
    assert len(found.text) < 60_000


def test_only_the_first_examples_are_open_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = page(tmp_path, figures=[Examples("wrong", ["text"], [[f"row {i}"] for i in range(100)])])
    assert "45 more" in found.text
    assert "40 further rows are not shown." in found.text


def test_broken_characters_do_not_stop_the_report(tmp_path: Path) -> None:
    found = page(tmp_path, notes=["lone \ud800 and \x00 here"], config={"a": "\ud800", "b": np.float32(0.5)})
    assert "lone � and � here" in found.text
    assert "b: 0.5" in found.text


def test_headline_is_the_test_set_where_there_is_one(tmp_path: Path) -> None:
    found = page(tmp_path, metrics={"dev": {"accuracy": 0.91}, "test": {"accuracy": 0.89}})
    assert re.search(r"accuracy on test\s+0\.8900\s+dev 0\.9100", found.text)
