"""Which of the networks that were tried is the best, and how a report lists them."""

from __future__ import annotations

import pytest

from et_core.training import Trial, best_of, differences, trials_table


def trial(cells: int, **dev: float | None) -> Trial:
    return Trial({"hidden_size": 16, "num_cells": cells, "cell": ["max3(0)", f"conv{cells}(1)"]}, dev)


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([trial(1, accuracy=0.9, loss=0.5), trial(2, accuracy=0.8, loss=0.4)], 1),
        ([trial(1, accuracy=0.9, loss=0.5), trial(2, accuracy=0.8, loss=0.5)], 0),
        ([trial(1, mcc=0.2), trial(2, mcc=0.3)], 1),
        ([trial(1, mse=0.2), trial(2, mse=0.3)], 0),
        ([trial(1, accuracy=0.9, loss=None), trial(2, accuracy=0.1, loss=9.0)], 1),
        ([trial(1, loss=None), trial(2, loss=None)], 0),
    ],
)
def test_the_lowest_loss_or_the_best_metric_wins_and_what_is_not_finite_loses(trials: list[Trial], best: int) -> None:
    assert best_of(trials) == best


def test_networks_are_told_by_what_differs() -> None:
    assert differences([trial(1).options, {**trial(2).options, "num_heads": 2}]) == [
        {"num_cells": 1, "cell": "max3(0); conv1(1)", "num_heads": None},
        {"num_cells": 2, "cell": "max3(0); conv2(1)", "num_heads": 2},
    ]


def test_the_table_holds_what_differs_and_marks_the_best() -> None:
    table = trials_table([trial(1, accuracy=0.9, loss=0.5), trial(2, accuracy=0.8, loss=0.4)])
    assert table.columns == ["trial", "num_cells", "cell", "accuracy", "loss"]
    assert table.rows == [
        [1, 1, "max3(0); conv1(1)", 0.9, 0.5],
        ["2, taken", 2, "max3(0); conv2(1)", 0.8, 0.4],
    ]
    assert "best by loss" in table.note
