"""The suites of this package, for pytest and for ``et plugins check et-hcnn``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from et_core.testing import (
    BackboneConformance,
    HeadConformance,
    ObjectiveConformance,
    PluginConformance,
    TokenizerConformance,
)

_HCNN: Mapping[str, Any] = {"embedding_size": 12, "filters": 6, "hidden_size": 10, "interaction_size": 28}
_DOMAINS = ("source", "target")


class TestPlugin(PluginConformance):
    name = "et-hcnn"


class TestHcnn(BackboneConformance):
    name = "hcnn"
    config = _HCNN


class TestBiCnn(BackboneConformance):
    name = "bicnn"
    config: ClassVar[Mapping[str, Any]] = {"embedding_size": 12, "filters": 6, "hidden_size": 10}


class TestDam(BackboneConformance):
    name = "dam"
    config: ClassVar[Mapping[str, Any]] = {"embedding_size": 12, "attention_size": 8, "hidden_size": 10}


class TestDamPlus(BackboneConformance):
    name = "damplus"
    config: ClassVar[Mapping[str, Any]] = {"embedding_size": 12, "attention_size": 8, "hidden_size": 10}


class TestTextCnn(BackboneConformance):
    name = "textcnn"
    config: ClassVar[Mapping[str, Any]] = {"embedding_size": 12, "filters": 6}


class TestHcnnDrss(BackboneConformance):
    name = "hcnn-drss"
    config: ClassVar[Mapping[str, Any]] = {**_HCNN, "marks": {"domain": 2}}
    own_extras = frozenset({"domain"})


class TestDrssHead(HeadConformance):
    name = "drss"

    def extras(self, rows: Sequence[int]) -> Mapping[str, Tensor]:
        return {"domain": torch.tensor(rows) % 2}


class TestDrss(ObjectiveConformance):
    name = "drss"
    app: ClassVar[Mapping[str, Any]] = {"name": "et-appzoo/matching", "domains": list(_DOMAINS)}
    model: ClassVar[Mapping[str, Any]] = {"ref": "et-hcnn/hcnn-drss@init", **_HCNN}
    rows: ClassVar[Sequence[Mapping[str, Any]]] = [
        {"text": f"a {word} {number}", "text_pair": f"the {other} {number}", "label": str(label), "domain": domain}
        for number in range(4)
        for word, other, label in (("dog", "dog", 1), ("dog", "tree", 0))
        for domain in _DOMAINS
    ]


class TestWords(TokenizerConformance):
    name = "words"


class TestWordsByCharacter(TokenizerConformance):
    name = "words"
    config: ClassVar[Mapping[str, Any]] = {"segmenter": "characters", "lowercase": False}
