from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from et_core.interfaces import Batch, Example, Inputs

IGNORED_LABEL = -100
"""What pads whole-number targets per token, and what losses leave out."""


def collate(examples: Sequence[Example], *, pad_id: int, task: str = "main") -> Batch:
    """Pad *examples* to the longest among them and stack them."""
    flat: dict[str, Tensor] = {}
    for name in examples[0].inputs:
        arrays = [example.inputs[name] for example in examples]
        if name.endswith(".ids"):
            ids, mask = _pad_ids(arrays, pad_id)
            flat[name] = ids
            flat[f"{name.removesuffix('.ids')}.mask"] = mask
        elif name == "image":
            # Bytes stay bytes: an eighth of what whole numbers take on their way to the device.
            flat[name] = torch.from_numpy(np.stack(arrays))
        else:
            flat[name] = _stack(arrays, 0)
    targets = {
        name: _stack([example.targets[name] for example in examples], IGNORED_LABEL) for name in examples[0].targets
    }
    rows = torch.tensor([example.row for example in examples], dtype=torch.int64)
    return Batch(Inputs.unflatten(flat), targets, rows, task)


def _pad_ids(arrays: Sequence[np.ndarray], pad_id: int) -> tuple[Tensor, Tensor]:
    lengths = np.fromiter((len(array) for array in arrays), np.int64, len(arrays))
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = np.concatenate(arrays)
    return torch.from_numpy(ids), torch.from_numpy(mask)


def _stack(arrays: Sequence[np.ndarray], padding: int) -> Tensor:
    first = np.asarray(arrays[0])
    whole = first.dtype.kind in "iu"
    if first.ndim == 0 or len({len(array) for array in arrays}) == 1:
        stacked = np.stack(arrays)
        return torch.from_numpy(stacked.astype(np.int64) if whole else np.array(stacked))
    shape = (len(arrays), max(len(array) for array in arrays), *first.shape[1:])
    out = np.full(shape, padding if whole else 0, np.int64 if whole else first.dtype)
    for index, array in enumerate(arrays):
        out[index, : len(array)] = array
    return torch.from_numpy(out)
