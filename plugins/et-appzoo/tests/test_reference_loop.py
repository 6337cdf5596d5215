"""A run's steps are those of a plain loop over transformers' model, which is what its Trainer does too."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import et_core.api as et
from et_core.data import LengthBatches

ROWS = [
    ("the kettle boils fast and switches itself off", "good"),
    ("broke", "bad"),
    ("it stopped after a week and nobody answers my letters", "bad"),
    ("i love it", "good"),
    ("soft, warm, and it survived the washing machine twice", "good"),
    ("the colour came off on my hands", "bad"),
    ("fits", "good"),
    ("smells of glue, even after a month on the balcony", "bad"),
    ("does what it says", "good"),
    ("too small, and the seller sent the same size again", "bad"),
    ("a present for my father, who now wants a second one", "good"),
]
STEPS, WARMUP, LR, DECAY, CLIP, SEED = 9, 3, 1e-3, 0.5, 0.6, 7
TOKENS = "bert.embeddings.word_embeddings.weight"


def finetune(folder: Path, **train: Any) -> Path:
    et.train(
        {
            "app": {"name": "classification", "dropout": 0.0},
            "model": {"ref": "bert-tiny-random@zoo", "dropout": 0.0, "attention_dropout": 0.0},
            "data": {"train": [{"text": text, "label": label} for text, label in ROWS], "max_length": 24},
            "train": {"batch_size": 4, "precision": "fp32", "seed": SEED, "eval_every": None, **train},
            "output": str(folder),
        }
    )
    return folder / "model"


def encode(folder: Path) -> list[list[int]]:
    ids: list[list[int]] = AutoTokenizer.from_pretrained(folder)([text for text, _ in ROWS])["input_ids"]
    return ids


def plain_loop(start: Path) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(start)
    encoded = encode(start)
    targets = torch.tensor([model.config.label2id[label] for _, label in ROWS])
    order = LengthBatches(lengths=np.array([len(ids) for ids in encoded]), batch_size=4, seed=SEED)
    decayed, others = ([p for p in model.parameters() if (p.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR)
    # transformers' schedule begins with a step of learning rate 0; a run's rises from the first step on.
    schedule = LambdaLR(optimizer, lambda step: min((step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP)))
    model.train()
    for rows in islice(order.from_step(0), STEPS):
        width = max(len(encoded[row]) for row in rows)
        ids = torch.tensor([encoded[row] + [0] * (width - len(encoded[row])) for row in rows])
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=targets[rows]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model


def test_a_run_ends_with_the_weights_of_a_plain_loop(tmp_path: Path) -> None:
    start = finetune(tmp_path / "start", max_steps=1, lr=1e-30)
    trained = finetune(tmp_path / "trained", max_steps=STEPS, lr=LR, warmup=WARMUP, weight_decay=DECAY, clip_norm=CLIP)
    before, ours = (
        AutoModelForSequenceClassification.from_pretrained(folder).state_dict() for folder in (start, trained)
    )
    plain = plain_loop(start).state_dict()
    moved = max(float((plain[name] - value).abs().max()) for name, value in before.items())
    assert moved > 1e-3
    # Words that no row holds stay as they were, where the plain loop's weight decay shrinks them.
    unread = torch.tensor(sorted(set(range(len(before[TOKENS]))) - {i for ids in encode(start) for i in ids} - {0}))
    torch.testing.assert_close(ours[TOKENS][unread], before[TOKENS][unread], rtol=0, atol=0)
    plain[TOKENS][unread] = before[TOKENS][unread]
    gaps = {name: float((ours[name] - value).abs().max()) for name, value in plain.items()}
    assert max(gaps.values()) < 1e-5, max(gaps.items(), key=lambda gap: gap[1])
