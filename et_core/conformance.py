"""The suites that check the core's own components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from et_core.testing import (
    LossConformance,
    ObjectiveConformance,
    PluginConformance,
    StrategyConformance,
    TokenizerConformance,
)

_WEIGHTED: Mapping[str, Any] = {"weights": [0.5, 2.0, 1.0, 0.0]}
_SMOOTHED: Mapping[str, Any] = {**_WEIGHTED, "smoothing": 0.1}
_TAUGHT: Mapping[str, Any] = {"terms": {"stand-in-logits": {"start": 1.0, "end": 0.5}}, "labels": 0.5}
_TWO: Mapping[str, Any] = {"processes": 2}


class TestPlugin(PluginConformance):
    name = "et-core"


class TestCrossEntropy(LossConformance):
    name = "et-core/cross-entropy"


class TestWeightedCrossEntropy(LossConformance):
    name = "et-core/cross-entropy"
    config = _SMOOTHED


class TestCrossEntropyOverTokens(LossConformance):
    name = "et-core/cross-entropy"
    target = "tokens"


class TestBinaryCrossEntropy(LossConformance):
    name = "et-core/binary-cross-entropy"


class TestWeightedBinaryCrossEntropy(LossConformance):
    name = "et-core/binary-cross-entropy"
    config = _WEIGHTED


class TestMse(LossConformance):
    name = "et-core/mse"


class TestPretrained(TokenizerConformance):
    name = "et-core/pretrained"


class TestSupervised(ObjectiveConformance):
    name = "et-core/supervised"


class TestDistillation(ObjectiveConformance):
    name = "et-core/distillation"
    distill = _TAUGHT


class TestSingle(StrategyConformance):
    name = "et-core/single"
    single = True
    tolerance = 0.0


class TestDdp(StrategyConformance):
    name = "et-core/ddp"
    config = _TWO
