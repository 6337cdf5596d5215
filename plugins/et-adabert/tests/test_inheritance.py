"""The table that a student begins with: what its teacher makes of each piece, reduced, and computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import et_core as et
from et_adabert.student.inheritance import inherited_embeddings
from et_core.errors import ConfigError
from et_core.inference import Run
from et_core.interfaces import Inputs, Text

ROWS = [{"text": f"a {word} film", "label": label} for word, label in (("good", 1), ("bad", 0)) for _ in range(4)]
SIZE = 8


@pytest.fixture
def teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / "cache"))
    config = {
        "app": "classification",
        "model": "bert-tiny-random@zoo",
        "data": {"train": ROWS, "dev": 0.25},
        "train": {"epochs": 1, "precision": "fp32"},
    }
    run = et.train(config, {"output": str(tmp_path / "teacher")}, progress=False)
    run.bundle.model.eval()
    return run


def principal(vectors: np.ndarray, size: int) -> np.ndarray:
    """[V, size]: the first principal components of *vectors* [V, H], at a standard deviation of 1 over all."""
    centred = vectors - vectors.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    found = left[:, :size] * values[:size]
    return found / found.std(ddof=1)


def test_the_table_is_the_principal_components_of_what_the_teacher_makes_of_each_piece(teacher: Run) -> None:
    tokenizer, model = teacher.bundle.tokenizer, teacher.bundle.model
    table = inherited_embeddings(model, tokenizer, size=SIZE)
    rows = []
    for piece in range(tokenizer.vocab_size):
        ids = torch.tensor([[tokenizer.special_ids["cls"], piece, tokenizer.special_ids["sep"]]])
        with torch.inference_mode():
            tokens = model.backbone(Inputs((Text(ids, torch.ones_like(ids, dtype=torch.bool)),))).tokens
        assert tokens is not None
        rows.append(tokens[0].double().mean(0).numpy())
    expected = principal(np.stack(rows), SIZE)
    signs = np.sign((expected * table.numpy()).sum(0))
    np.testing.assert_allclose(table.numpy(), expected * signs, atol=2e-3)
    assert float(table.std()) == pytest.approx(1.0, abs=1e-4)


def test_the_teacher_goes_through_its_vocabulary_once_for_the_same_weights(teacher: Run) -> None:
    calls: list[int] = []
    backbone = teacher.bundle.model.backbone
    backbone.register_forward_hook(lambda *_: calls.append(1))
    first = inherited_embeddings(teacher.bundle.model, teacher.bundle.tokenizer, size=SIZE)
    once = len(calls)
    assert once > 0
    assert torch.equal(inherited_embeddings(teacher.bundle.model, teacher.bundle.tokenizer, size=SIZE), first)
    assert len(calls) == once
    with torch.no_grad():
        next(backbone.parameters()).mul_(1.5)
    other = inherited_embeddings(teacher.bundle.model, teacher.bundle.tokenizer, size=SIZE)
    assert len(calls) == 2 * once
    assert not torch.equal(other, first)


def test_a_student_that_is_wider_than_its_teacher_is_told(teacher: Run) -> None:
    with pytest.raises(ConfigError, match=r"^model.embedding_size is 999, but the teacher's vectors have \d+ numbers"):
        inherited_embeddings(teacher.bundle.model, teacher.bundle.tokenizer, size=999)
