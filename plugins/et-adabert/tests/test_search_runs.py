"""Searches through et distill, on a few made-up rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import et_core as et
from et_adabert.search.candidates import Candidate, candidates, collapse, finalists, pick
from et_adabert.search.efficiency import Target
from et_adabert.search.scores import Chosen
from et_adabert.student.cell import Cell
from et_core.errors import ConfigError
from et_core.inference import Run

ROWS = [
    {"text": f"a {word} film, number {number}", "label": label}
    for number in range(20)
    for word, label in (("good", "pos"), ("fine", "pos"), ("bad", "neg"), ("poor", "neg"))
]
TRAIN = {"epochs": 1, "batch_size": 16, "lr": 1e-3, "precision": "fp32"}
BASE: Mapping[str, Any] = {"app": "classification", "data": {"train": ROWS, "dev": 0.2}, "train": TRAIN}
MODEL = {"ref": "adabert@init", "embedding_size": 16, "hidden_size": 16}
SEARCH = {"max_cells": 3}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "teacher"
    et.train({**BASE, "model": "bert-tiny-random@zoo"}, {"output": str(path)}, progress=False)
    return path


def values(teacher: Path, **more: Any) -> dict[str, Any]:
    terms = {"vanilla-kd": 0.4, "probes": {"weight": 0.4, "pooling": "mean"}}
    distill = {"teacher": f"{teacher}@local", "terms": terms, "labels": 0.2}
    search = {"sampled": 2, "length": 16, "trials": 0, "train": {"epochs": 2}}
    return {**BASE, "model": MODEL, "distill": distill, "search": search, **more}


@pytest.fixture(scope="module")
def student(teacher: Path) -> Run:
    return et.distill(values(teacher), {"output": str(teacher.parent / "student")}, progress=False)


def test_the_student_is_what_the_search_found(student: Run) -> None:
    searched = et.load(student.path / "search")
    found = searched.bundle.model.backbone.options
    assert student.bundle.model.backbone.options == found
    assert Cell.read(found["cell"]).written() == found["cell"]
    assert 1 <= found["num_cells"] <= 8
    assert student.config.model.options["cell"] == found["cell"]
    assert len(student.predict(["a good film"])) == 1


def test_a_student_loads_without_the_code_of_the_search(student: Run) -> None:
    code = (
        "import sys, et_core as et; run = et.load(sys.argv[1]); run.predict(['a good film']);"
        "print([name for name in sys.modules if name.startswith('et_adabert.search')])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(student.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_search_logs_how_far_it_has_decided(student: Run) -> None:
    lines = [json.loads(line) for line in (student.path / "search/metrics.jsonl").read_text("utf-8").splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert logged[-1]["loss/depth"] == pytest.approx(0.0, abs=1e-6)
    for line in logged:
        assert 0 < line["search/efficiency_share"] < 1
        assert 0 < line["search/operation_entropy"] <= 1
        assert 0 < line["search/depth_entropy"] <= 1


def test_the_report_of_a_search_shows_the_cell_and_the_front(student: Run) -> None:
    page = (student.path / "search/report.html").read_text("utf-8")
    assert "The cell" in page
    assert "Quality against speed" in page


def test_the_report_of_a_student_shows_its_cell(student: Run) -> None:
    page = (student.path / "report.html").read_text("utf-8")
    assert "The cell" in page
    assert student.config.model.options["cell"][0].partition("(")[0] in page


def test_search_only_stops_there(teacher: Path) -> None:
    path = teacher.parent / "only"
    run = et.distill(values(teacher), {"output": str(path)}, search_only=True, progress=False)
    assert run.path == path / "search"
    assert not (path / "model").exists()
    before = (path / "search/results.json").read_bytes()
    student = et.distill(values(teacher), {"output": str(path)}, resume=True, progress=False)
    assert (path / "search/results.json").read_bytes() == before
    assert student.bundle.model.backbone.options == run.bundle.model.backbone.options
    assert et.distill(None, {"output": str(path)}, resume=True, progress=False).path == path


def test_a_target_is_kept(teacher: Path) -> None:
    config = values(teacher)
    config["search"] = {**config["search"], "target": {"params": "42k"}}
    run = et.distill(config, {"output": str(teacher.parent / "small")}, search_only=True, progress=False)
    assert run.results["parameters"] <= 42_000


def test_what_teaches_a_fixed_depth_is_refused_in_a_search(teacher: Path) -> None:
    config = values(teacher)
    config["distill"] = {**config["distill"], "terms": {"pkd": 1.0}}
    with pytest.raises(ConfigError) as caught:
        et.distill(config, {"output": str(teacher.parent / "pkd")}, progress=False)
    assert "distill.terms.pkd teaches a student of a fixed depth, and a search has none yet." in str(caught.value)
    assert not (teacher.parent / "pkd").exists()


def test_an_architecture_left_open_is_told_by_et_train() -> None:
    with pytest.raises(ConfigError) as caught:
        et.train({**BASE, "model": {**MODEL, "tokenizer": "bert-tiny-random@zoo"}}, {"output": "x"}, progress=False)
    assert "model.num_cells is not set, so it is not known what network adabert@init is." in str(caught.value)


CELL = ["conv3(0) + skip(1)", "max3(0) + skip(2)", "avg3(1) + skip(3)"]
POOLS = ["max3(0) + skip(1)", "max3(0) + skip(2)", "avg3(1) + skip(3)"]


@pytest.mark.parametrize(
    ("cell", "none", "bag", "found", "message"),
    [
        (POOLS, 0.1, 0.5, 0.8, "its cell has no operation that learns"),
        (CELL, 0.7, 0.5, 0.8, "with 70% on average, an edge would rather not be there"),
        (CELL, 0.1, 0.81, 0.8, "the embeddings alone score 0.8100 on dev, the network that was found 0.8000"),
    ],
)
def test_a_search_that_came_to_nothing_says_so(
    cell: list[str], none: float, bag: float, found: float, message: str
) -> None:
    (said,) = collapse(Cell.read(cell), none, bag, found, paid=False)
    (paid,) = collapse(Cell.read(cell), none, bag, found, paid=True)
    assert ("Lower search.efficiency" in said, "Lower search.efficiency" in paid) == (False, True)
    assert message in said
    assert message in paid


def test_a_search_that_found_something_says_nothing() -> None:
    assert collapse(Cell.read(CELL), 0.1, 0.7, 0.8, paid=True) == []
    assert collapse(Cell.read(CELL), 0.1, None, None, paid=True) == []


def test_a_target_picks_the_best_of_those_that_keep_it() -> None:
    nodes = (((0, 0), (1, 0)),) * 3
    rows = [
        Candidate("derived cell", Chosen(nodes, depth), score, ms, params=1000 * depth)
        for depth, (score, ms) in enumerate([(0.6, 1.0), (0.8, 2.0), (0.7, 2.5), (0.9, 4.0)], start=1)
    ]
    derived = Chosen(nodes, 4)
    assert pick(rows, derived, None) is rows[3]
    assert pick(rows, derived, Target({"latency_ms": 3.0})) is rows[1]
    assert pick(rows, derived, Target({"latency_ms": 3.0, "params": 1500})) is rows[0]
    assert pick(rows, derived, Target({"latency_ms": 0.5})) is None


def test_what_is_drawn_beside_the_derived_cells_depends_on_the_seed() -> None:
    def drawn(seed: int) -> list[tuple[str, Chosen]]:
        torch.manual_seed(seed)
        return [
            (group, Chosen(chosen.nodes, chosen.depth))
            for group, chosen in candidates(torch.zeros(9, 10), torch.zeros(3), depths=range(1, 4), sampled=8)
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1)[:3] == drawn(2)[:3]
    assert drawn(1)[3:] != drawn(2)[3:]
    assert [group for group, _ in drawn(1)] == ["derived cell"] * 3 + ["drawn cell"] * 8


def test_finalists_are_the_best_of_each_depth_in_turn() -> None:
    def row(depth: int, operation: int, score: float, ms: float = 1.0) -> Candidate:
        return Candidate("drawn cell", Chosen((((0, operation), (1, 0)),) * 3, depth), score, ms, params=1)

    shallow, deep = (
        [row(1, 0, 0.9), row(1, 1, 0.8), row(1, 2, 0.7)],
        [row(3, 0, 0.5), row(3, 1, 0.6), row(3, 2, 0.9, 9)],
    )
    rows = [*shallow, *deep, row(1, 0, 0.9)]
    assert finalists(rows, shallow[0], None) == [shallow[0], deep[2], shallow[1], deep[1], shallow[2], deep[0]]
    kept = Target({"latency_ms": 3.0})
    assert finalists(rows, shallow[0], kept) == [shallow[0], deep[1], shallow[1], deep[0], shallow[2]]
    assert finalists(rows, deep[0], None)[:2] == [deep[0], shallow[0]]
    assert finalists(rows, None, Target({"latency_ms": 0.5})) == []


def test_a_search_on_one_split_learns_from_all_rows(teacher: Path) -> None:
    config = values(teacher)
    config["search"] = {**config["search"], "held_out": 0, "edges": "all", "target": None}
    run = et.distill(config, {"output": str(teacher.parent / "paper")}, search_only=True, progress=False)
    assert run.results["steps"] == 2 * -(-64 // 16)
    assert torch.isfinite(torch.tensor(list(run.metrics.values()))).all()


def test_a_number_of_cells_that_is_given_is_kept_under_a_target(teacher: Path) -> None:
    config = values(teacher)
    config["model"] = {**config["model"], "num_cells": 2}
    config["search"] = {**config["search"], "target": {"params": "20M"}}
    run = et.distill(config, {"output": str(teacher.parent / "two")}, search_only=True, progress=False)
    assert run.bundle.model.backbone.options["num_cells"] == 2


def test_patience_is_the_student_s_and_not_the_search_s(teacher: Path) -> None:
    config = values(teacher, train={**TRAIN, "patience": 1})
    run = et.distill(config, {"output": str(teacher.parent / "patient")}, search_only=True, progress=False)
    assert run.results["steps"] == 2 * -(-52 // 16)


def test_a_cell_without_a_number_and_probes_without_a_layer_are_refused(teacher: Path) -> None:
    config = values(teacher)
    del config["search"]
    output = {"output": str(teacher.parent / "refused")}
    with pytest.raises(ConfigError, match=r"^model.cell is given, but not how many of it there are"):
        et.distill({**config, "model": {**MODEL, "cell": "random"}}, output, progress=False)
    with pytest.raises(ConfigError, match=r"^probes teach the student's layers, and it has none"):
        et.distill({**config, "model": {**MODEL, "num_cells": 0}}, output, progress=False)
    assert not (teacher.parent / "refused").exists()
