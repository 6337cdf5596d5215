"""What curves and numbers of the report are made of."""

from __future__ import annotations

import re
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from et_core.report import metrics_table
from et_core.report.axes import log_ticks, ticks
from et_core.report.data import series
from et_core.report.plots import smooth, thin
from et_core.report.tables import number


def test_a_resumed_run_counts_the_later_line_of_a_step() -> None:
    found = series([{"step": 2, "loss": 5.0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 4.0}], "loss")
    assert found.steps.tolist() == [1.0, 2.0]
    assert found.values.tolist() == [3.0, 4.0]


def test_thinning_keeps_extremes_and_order() -> None:
    values = np.sin(np.arange(50_000) / 300)
    values[12_345], values[40_000] = 7.0, -7.0
    steps, kept = thin(np.arange(50_000.0), values, limit=200)
    assert len(kept) <= 200
    assert {7.0, -7.0} <= set(kept.tolist())
    assert (np.diff(steps) > 0).all()


def test_smoothing_does_not_start_at_zero_and_skips_nan() -> None:
    found = smooth(np.array([2.0, 2.0, np.nan, 2.0]), span=10)
    np.testing.assert_allclose(found, [2.0, 2.0, np.nan, 2.0])


def test_ticks_are_round() -> None:
    assert ticks(0, 1, count=4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(0, 2e-5, count=4) == [0.0, 5e-6, 1e-5, 1.5e-5, 2e-5]
    assert ticks(-3, 12_000, count=4) == [0.0, 5000.0, 10_000.0]


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.9, 11.0, [1.0, 2.0, 5.0, 10.0]),
        (0.008, 0.09, [0.01, 0.02, 0.05]),
        (0.9, 110.0, [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]),
        (0.5, 3000.0, [1.0, 10.0, 100.0, 1000.0]),
        (2e-9, 3e9, [1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round_and_few(low: float, high: float, found: list[float]) -> None:
    assert log_ticks(low, high) == found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.91284, "0.9128"), (float("nan"), "–"), (None, "–"), (1187, "1,187"), (2e-5, "2.00e-05"), (0.0, "0.0000"),
        (12345.678, "12,345.7"), (float("-inf"), "−∞"), (np.float32(0.5), "0.5000"), (True, "True"), ("word", "word"),
    ],
)  # fmt: skip
def test_numbers_read_well(value: object, text: str) -> None:
    assert number(value) == text


def test_terminal_table_prints_names_as_they_are() -> None:
    out = StringIO()
    table = metrics_table({"dev": {"accuracy": 0.9, "[red]x": 1.0}, "test": {"accuracy": 0.8}}, title="[bold]run")
    Console(file=out, width=80, force_terminal=False).print(table)
    rows = out.getvalue().splitlines()
    assert rows[0].strip() == "[bold]run"
    assert re.search(r"accuracy +│ +0\.9000 +│ +0\.8000", out.getvalue())
    assert re.search(r"\[red\]x +│ +1\.0000 +│ +–", out.getvalue())
