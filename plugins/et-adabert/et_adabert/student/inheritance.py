from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from et_core.data import cached_file, code_fingerprint
from et_core.errors import ConfigError
from et_core.interfaces import Inputs, Model, Text, Tokenizer

_BATCH = 2048


def inherited_embeddings(teacher: Model, tokenizer: Tokenizer, *, size: int) -> Tensor:
    """What *teacher* makes of each piece of its vocabulary [V, size], for a student's table to begin with.

    Each piece goes through the teacher by itself, between the marks of a text; the mean of what comes out is reduced to
    its *size* principal components and scaled to a standard deviation of 1 (the way of Model2Vec). A teacher that
    reads no single text gives the table of its token embeddings. ConfigError where it has none, or a narrower one.
    """
    vectors = _contextual(teacher, tokenizer) if "text" in teacher.backbone.accepts else _table(teacher)
    if vectors.shape[1] < size:
        raise ConfigError(
            f"model.embedding_size is {size}, but the teacher's vectors have {vectors.shape[1]} numbers. "
            "Set it to at most that, or model.embeddings=random."
        )
    centred = vectors - vectors.mean(0)
    # In double precision and with fixed signs, so that a resumed search begins with the same table.
    _, directions = torch.linalg.eigh(centred.double().T @ centred.double())
    directions = directions[:, -size:].flip(1)
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    reduced: Tensor = (centred.double() @ (directions * signs)).float()
    reduced /= reduced.std()
    return reduced


def _contextual(teacher: Model, tokenizer: Tokenizer) -> Tensor:
    """[V, H], computed once and kept: a search, its trials and the student all begin with them."""

    def write(path: Path) -> None:
        save_file({"vectors": _computed(teacher, tokenizer)}, path)

    key = {
        "weights": _digest(teacher),
        "tokenizer": tokenizer.fingerprint(),
        "code": [code_fingerprint(type(teacher.backbone)), Path(__file__).read_text("utf-8")],
    }
    return load_file(cached_file("vocabularies", ".safetensors", key, write, is_whole=Path.is_file))["vectors"]


def _digest(teacher: Model) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(teacher.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _computed(teacher: Model, tokenizer: Tokenizer) -> Tensor:
    special = tokenizer.special_ids
    device = next(teacher.parameters()).device
    found = []
    for ids in torch.split(torch.arange(tokenizer.vocab_size), _BATCH):
        around = [ids.new_full(ids.shape, special[name]) for name in ("cls", "sep") if name in special]
        columns = torch.stack([*around[:1], ids, *around[1:]], 1).to(device)
        text = Text(columns, torch.ones_like(columns, dtype=torch.bool), torch.zeros_like(columns))
        with torch.inference_mode():
            tokens = teacher.backbone(Inputs((text,))).tokens
        found.append(tokens.float().mean(1).cpu())
    return torch.cat(found)


def _table(teacher: Model) -> Tensor:
    table = teacher.backbone.token_table()
    if table is None:
        raise ConfigError("the teacher has no table of token embeddings to begin with. Set model.embeddings=random.")
    return table.weight.detach().float().cpu()
