from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from et_core.data import PretrainedTokenizer
from et_core.inference.engine import Engine
from et_core.inference.evaluate import evaluate
from et_core.inference.precision import autocast, choose_precision
from et_core.interfaces import Evaluation, Example, Features, Figure, Head, Model, build_backbone
from et_core.registry import registry
from et_core.sources import resolve

CPU = torch.device("cpu")


class Probe(Head):
    """Outputs of every shape: per row, per token, and one number a row."""

    needs: ClassVar[frozenset[str]] = frozenset({"pooled", "tokens"})

    def forward(self, features: Features, *, positions: Tensor | None = None) -> dict[str, Tensor]:
        assert features.tokens is not None
        assert features.mask is not None
        assert features.pooled is not None
        tokens = features.tokens * features.mask.unsqueeze(-1)
        return {"logits": features.pooled[:, :5], "tags": tokens[..., :3], "length": features.mask.sum(1)}


@pytest.fixture(scope="module")
def model() -> Model:
    artifact = resolve("bert-tiny-random@zoo")
    assert artifact.tokenizer is not None
    tokenizer = PretrainedTokenizer.load(artifact.tokenizer)
    torch.manual_seed(0)
    backbone = build_backbone(artifact.family, {}, tokenizer=tokenizer, artifact=artifact)
    return Model(backbone, {"main": Probe(), "other": Probe()}).eval()


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example(
            {"texts.0.ids": rng.integers(5, 2000, length).astype(np.int32)},
            {"label": np.asarray(0)},
            row,
        )
        for row, length in enumerate(rng.integers(2, 60, 50))
    ]


@pytest.mark.parametrize("budget", [1, 128, 1000, 10**6])
def test_outputs_come_in_the_order_asked_and_equal_those_one_by_one(
    model: Model, examples: list[Example], budget: int
) -> None:
    engine = Engine(model, pad_id=0, device=CPU, token_budget=budget)
    found = engine(examples)
    assert found["length"].tolist() == [example.length for example in examples]
    longest = max(example.length for example in examples)
    assert {name: array.shape for name, array in found.items()} == {
        "logits": (50, 5),
        "tags": (50, longest, 3),
        "length": (50,),
    }
    for index, example in enumerate(examples):
        alone = engine([example])
        np.testing.assert_allclose(found["logits"][index], alone["logits"][0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["tags"][index, : example.length], alone["tags"][0], rtol=0, atol=1e-5)
        assert not found["tags"][index, example.length :].any()
    backwards = engine(examples[::-1])
    np.testing.assert_allclose(backwards["logits"][::-1], found["logits"], rtol=0, atol=1e-5)


def test_nothing_gives_nothing(model: Model) -> None:
    assert Engine(model, pad_id=0, device=CPU)([]) == {}


def test_no_forward_pass_is_over_the_budget(model: Model, examples: list[Example]) -> None:
    sizes: list[tuple[int, int]] = []

    def note(module: Any, arguments: Any, keywords: Any) -> None:
        sizes.append(tuple(keywords["input_ids"].shape))

    handle = model.backbone.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        Engine(model, pad_id=0, device=CPU, token_budget=256)(examples)
    finally:
        handle.remove()
    assert sum(rows for rows, _ in sizes) == 50
    assert max(rows * width for rows, width in sizes) <= 256
    assert len(sizes) < 12
    assert [width for _, width in sizes] == sorted((width for _, width in sizes), reverse=True)


def test_outputs_are_fp32_under_autocast_and_whole_numbers_stay_whole(model: Model, examples: list[Example]) -> None:
    plain = Engine(model, pad_id=0, device=CPU)(examples)
    engine = Engine(model, pad_id=0, device=CPU, context=autocast("bf16", CPU))
    half, again = engine(examples), engine(examples)
    dtypes = {name: array.dtype for name, array in half.items()}
    assert dtypes == {"logits": np.float32, "tags": np.float32, "length": np.int64}
    np.testing.assert_allclose(half["logits"], plain["logits"], rtol=0, atol=0.05)
    assert not np.array_equal(half["logits"], plain["logits"])
    np.testing.assert_array_equal(half["logits"], again["logits"])
    assert not torch.is_autocast_enabled("cpu")


def test_precision_is_what_was_asked_for_or_what_is_faster_here() -> None:
    strategy = registry("strategies").create("single")
    for wanted in ("fp32", "bf16"):
        assert choose_precision(wanted, strategy=strategy, tokens=64, hidden_size=64) == wanted
    assert choose_precision("auto", strategy=strategy, tokens=64, hidden_size=64) in ("fp32", "bf16")


class Collects(Evaluation):
    def __init__(self) -> None:
        self.rows: list[int] = []
        self.sizes: list[int] = []
        self.logits: list[np.ndarray] = []

    def update(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> None:
        self.rows += [example.row for example in examples]
        self.sizes.append(len(examples))
        self.logits.append(outputs["logits"])

    def metrics(self) -> dict[str, float]:
        return {"rows": float(len(self.rows))}

    def figures(self, read: Any) -> list[Figure]:
        return []


class Listed:
    """What evaluate asks of a store."""

    def __init__(self, examples: list[Example]) -> None:
        self._examples = examples
        self.starts = np.arange(len(examples))

    def __len__(self) -> int:
        return len(self._examples)

    def take(self, indices: Any) -> list[Example]:
        return [self._examples[index] for index in indices]


def test_an_evaluation_sees_every_row_once_in_windows(
    model: Model, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[evaluate.__module__], "_WINDOW", 16)
    engine = Engine(model, pad_id=0, device=CPU)
    store: Any = Listed(examples)
    strategy = registry("strategies").create("single")
    for given in (None, strategy):
        seen = Collects()
        assert evaluate(engine, store, seen, strategy=given) is seen
        assert seen.rows == list(range(50))
        assert seen.sizes == [16, 16, 16, 2]
        np.testing.assert_allclose(np.concatenate(seen.logits), engine(examples)["logits"], rtol=0, atol=1e-5)
