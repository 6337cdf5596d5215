"""The suites of this package, for pytest and for ``et plugins check et-adabert``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch

from et_core.interfaces import Batch
from et_core.testing import BackboneConformance, DistillerConformance, ObjectiveConformance, PluginConformance


class TestPlugin(PluginConformance):
    name = "et-adabert"


class SeveralLabels(DistillerConformance):
    """With none, one or several labels a row."""

    def make_batch(self, rows: int, rng: torch.Generator) -> Batch:
        labels = torch.randint(0, 2, (rows, self.num_outputs), generator=rng).float()
        return replace(super().make_batch(rows, rng), targets={"label": labels})


class Numbers(DistillerConformance):
    """With a number a row, and one output for it."""

    num_outputs = 1

    def make_batch(self, rows: int, rng: torch.Generator) -> Batch:
        return replace(super().make_batch(rows, rng), targets={"label": torch.randn(rows, generator=rng)})


class TestVanillaKd(DistillerConformance):
    name = "vanilla-kd"
    config: ClassVar[Mapping[str, Any]] = {"temperature": {"start": 4.0, "end": 1.0}}
    other_sizes = True


class TestVanillaKdOfSeveralLabels(SeveralLabels, TestVanillaKd):
    config: ClassVar[Mapping[str, Any]] = {"temperature": 2.0}


class TestVanillaKdOfNumbers(Numbers, TestVanillaKd):
    config: ClassVar[Mapping[str, Any]] = {}


class TestPkd(DistillerConformance):
    name = "pkd"
    other_sizes = True


class TestTinyBert(DistillerConformance):
    name = "tinybert"
    other_sizes = True


class TestTinyBertOfStates(DistillerConformance):
    name = "tinybert"
    config: ClassVar[Mapping[str, Any]] = {"attention": False, "layers": "last"}
    other_sizes = True


class TestTinyBertOfAttention(DistillerConformance):
    name = "tinybert"
    config: ClassVar[Mapping[str, Any]] = {"hidden": False}
    other_sizes = True


class TestMiniLm(DistillerConformance):
    name = "minilm"
    other_sizes = True


class TestMiniLmV2(DistillerConformance):
    name = "minilm"
    config: ClassVar[Mapping[str, Any]] = {"relations": "queries+keys+values", "relation_heads": 4, "layer": 2}
    other_sizes = True


class TestProbes(DistillerConformance):
    name = "probes"
    other_sizes = True
    expected_failures: ClassVar[Mapping[str, str]] = {
        "equal_models_give_zero": "answers are compared, and the student's classifiers begin with other weights"
    }


class TestProbesOfSeveralLabels(SeveralLabels, TestProbes):
    config: ClassVar[Mapping[str, Any]] = {"temperature": 2.0, "pooling": "mean", "layers": [0, 1]}


class TestProbesOfNumbers(Numbers, TestProbes):
    config: ClassVar[Mapping[str, Any]] = {"weighting": "none", "layers": "last"}


_SMALL: Mapping[str, Any] = {"embedding_size": 12, "hidden_size": 8, "max_positions": 64}
_CELL = ["conv7(0) + dilated5(1)", "max3(0) + avg3(2)", "conv3(1) + skip(3)"]


class TestAdaBert(BackboneConformance):
    name = "adabert"
    tokenizer = "bert-tiny-random@zoo"
    config: ClassVar[Mapping[str, Any]] = {**_SMALL, "num_cells": 2, "cell": _CELL}


class TestBagOfEmbeddings(BackboneConformance):
    name = "adabert"
    tokenizer = "bert-tiny-random@zoo"
    config: ClassVar[Mapping[str, Any]] = {**_SMALL, "num_cells": 0}


class TestSupernet(BackboneConformance):
    name = "adabert-supernet"
    tokenizer = "bert-tiny-random@zoo"
    config: ClassVar[Mapping[str, Any]] = {**_SMALL, "max_cells": 3}
    expected_failures: ClassVar[Mapping[str, str]] = {
        "every_parameter_gets_a_gradient": "it runs the operations of one choice, and the others rest",
        "blocks_are_its_layers_lowest_first": "it runs as many cells as were chosen, and the others rest",
        "extras_are_as_features_says": "it has as many layers as were chosen",
    }


class TestSearch(ObjectiveConformance):
    name = "adabert-search"
    config: ClassVar[Mapping[str, Any]] = {"sampled": 1, "length": 16, "weights_first": 0.0}
    model: ClassVar[Mapping[str, Any]] = {
        **_SMALL,
        "ref": "adabert-supernet@init",
        "max_cells": 2,
        "max_positions": 128,
    }
    teacher = "bert-tiny-random@zoo"
    distill: ClassVar[Mapping[str, Any]] = {"terms": {"vanilla-kd": 0.5, "probes": 0.5}, "labels": 0.5}
    expected_failures: ClassVar[Mapping[str, str]] = {
        "a_batch_is_the_sum_of_its_parts": "each part draws a network of its own, and so does each process"
    }


class TestSearchOnTheSameRows(TestSearch):
    config: ClassVar[Mapping[str, Any]] = {**TestSearch.config, "held_out": 0.0, "edges": "all"}
