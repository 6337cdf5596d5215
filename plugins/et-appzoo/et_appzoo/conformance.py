"""The suites of this package, for pytest and for ``et plugins check et-appzoo``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from et_core.testing import (
    AppConformance,
    HeadConformance,
    LossConformance,
    ObjectiveConformance,
    PluginConformance,
)

_PAIRS: Sequence[Mapping[str, Any]] = [
    {"text": "a man eats", "text_pair": "somebody has food", "label": "yes"},
    {"text": "a man eats", "text_pair": "nobody is there", "label": "no"},
    {"text": "it rains all day", "text_pair": "the street is wet", "label": "yes"},
    {"text": "it rains all day", "text_pair": "the sun never hides", "label": "no"},
    {"text": "two dogs run", "text_pair": "they are not asleep", "label": "yes"},
]
_TOWERS: Mapping[str, Any] = {"towers": 2}


class TestPlugin(PluginConformance):
    name = "et-appzoo"


class TestPooledLinear(HeadConformance):
    name = "pooled-linear"


class TestTwoTowers(HeadConformance):
    name = "two-towers"
    spec: ClassVar[Mapping[str, Any]] = {}


class TestTwoTowersProjected(HeadConformance):
    name = "two-towers"
    spec: ClassVar[Mapping[str, Any]] = {"pooling": "pooled", "projection_dim": 8}


class TestTwoTowersOfSeveralLabels(HeadConformance):
    name = "two-towers"
    spec: ClassVar[Mapping[str, Any]] = {"num_outputs": 3}


class TestClassification(AppConformance):
    name = "classification"


class TestClassificationOfPairs(AppConformance):
    name = "classification"
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"text": "a man eats", "text_pair": "somebody has food", "label": "follows"},
        {"text": "a man eats", "text_pair": "nobody is there", "label": "contradicts"},
        {"text": "it rains all day", "text_pair": "the street is wet", "label": "follows"},
        {"text": "it rains all day", "text_pair": "the sun never hides", "label": "contradicts"},
        {"text": "two dogs run", "text_pair": "they are brown", "label": "neither"},
    ]


class TestClassificationByTwoTexts(TestClassificationOfPairs):
    model = "stand-ins/stand-in-texts@init"


class TestClassificationWithSeveralLabels(AppConformance):
    name = "classification"
    config: ClassVar[Mapping[str, Any]] = {"mode": "multi-label"}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"text": "a red ball", "label": ["red", "round"]},
        {"text": "a red brick", "label": ["red"]},
        {"text": "the full moon", "label": ["round"]},
        {"text": "a grey box", "label": []},
    ]


class TestClassificationByNumber(AppConformance):
    name = "classification"
    config: ClassVar[Mapping[str, Any]] = {"mode": "regression"}
    train: ClassVar[Mapping[str, Any]] = {"max_steps": 200}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"text": "no good at all", "label": 0.0},
        {"text": "not so bad", "label": 2.0},
        {"text": "very good", "label": 4.0},
        {"text": "the best of all", "label": 5.0},
    ]


class TestMatching(AppConformance):
    name = "matching"
    rows = _PAIRS


class TestMatchingByTwoTexts(TestMatching):
    model = "stand-ins/stand-in-texts@init"


class TestMatchingByTowers(TestMatching):
    config = _TOWERS


class TestMatchingOfSeveralLabelsByTowers(TestClassificationOfPairs):
    name = "matching"
    config = _TOWERS


class TestMatchingInDomains(TestMatching):
    config: ClassVar[Mapping[str, Any]] = {"domains": ["weather", "rest"]}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {**row, "domain": "weather" if "rains" in row["text"] else "rest"} for row in _PAIRS
    ]


class TestMatchingByGrade(AppConformance):
    name = "matching"
    config: ClassVar[Mapping[str, Any]] = {"mode": "graded"}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {**row, "label": str(number % 3)} for number, row in enumerate(_PAIRS)
    ]


class TestMatchingByNumber(AppConformance):
    name = "matching"
    config: ClassVar[Mapping[str, Any]] = {"mode": "regression"}
    train: ClassVar[Mapping[str, Any]] = {"max_steps": 200}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [{**row, "label": float(number)} for number, row in enumerate(_PAIRS)]


class TestCosineCrossEntropy(LossConformance):
    name = "cosine-cross-entropy"
    target = "index"
    num_outputs = 2

    def outputs(self, rows: int, rng: torch.Generator) -> Mapping[str, Tensor]:
        return {"cosine": 2 * torch.rand(rows, generator=rng) - 1}


class TestCosineMse(LossConformance):
    name = "cosine-mse"
    target = "number"

    def outputs(self, rows: int, rng: torch.Generator) -> Mapping[str, Tensor]:
        return {"cosine": 2 * torch.rand(rows, generator=rng) - 1}


class TestInBatchNegatives(ObjectiveConformance):
    name = "in-batch-negatives"
    app: ClassVar[Mapping[str, Any]] = {"name": "et-appzoo/matching", **_TOWERS}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {**row, "text": f"{row['text']} {number}", "text_pair": f"{row['text_pair']} {number}"}
        for number in range(4)
        for row in _PAIRS
    ]
    whole_batches = "candidates of a batch are compared with each other"
