from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from et_core.data.batches import split_by_budget
from et_core.data.padding import collate
from et_core.interfaces import Batch, Example, Model

TOKEN_BUDGETS = {"cpu": 2048}
"""Padded tokens of a forward pass by type of device: on a CPU what stays in its cache, elsewhere what follows."""
TOKEN_BUDGET = 8192


class Engine:
    """Runs a model over examples, by length under a token budget, and gives the outputs in the order asked."""

    def __init__(
        self,
        model: Model,
        *,
        pad_id: int,
        device: torch.device,
        outputs: Callable[[Model, Batch], Mapping[str, Tensor]] | None = None,
        token_budget: int | None = None,
        task: str = "main",
        context: AbstractContextManager[Any] | None = None,
    ) -> None:
        """*outputs* is an app's ``outputs``; None gives those of the model's head.

        *token_budget* is by device without one. *context* surrounds each forward pass (autocast), over and over.
        """
        self._model = model
        self._outputs = outputs or type(model).__call__
        self._pad_id = pad_id
        self._device = device
        self._token_budget = token_budget or TOKEN_BUDGETS.get(device.type, TOKEN_BUDGET)
        self._task = task
        self._context = context or contextlib.nullcontext()

    def __call__(self, examples: Sequence[Example]) -> dict[str, np.ndarray]:
        """Each output as an array [N, ...]; bf16, which NumPy lacks, becomes fp32, and shorter rows end in zeros."""
        if not examples:
            return {}
        lengths = np.fromiter((example.length for example in examples), np.int64, len(examples))
        parts: dict[str, list[np.ndarray]] = {}
        order: list[np.ndarray] = []
        with torch.inference_mode():
            for rows in split_by_budget(np.arange(len(examples)), lengths, token_budget=self._token_budget):
                batch = collate([examples[index] for index in rows], pad_id=self._pad_id, task=self._task)
                with self._context:
                    outputs = self._outputs(self._model, batch.to(self._device))
                for name, tensor in outputs.items():
                    values = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
                    parts.setdefault(name, []).append(values.cpu().numpy())
                order.append(rows)
        places = np.concatenate(order)
        return {name: _scatter(arrays, places) for name, arrays in parts.items()}


def _scatter(arrays: list[np.ndarray], places: np.ndarray) -> np.ndarray:
    trailing = tuple(max(array.shape[axis] for array in arrays) for axis in range(1, arrays[0].ndim))
    joined = np.zeros((len(places), *trailing), arrays[0].dtype)
    start = 0
    for array in arrays:
        where: tuple[Any, ...] = (places[start : start + len(array)], *(slice(size) for size in array.shape[1:]))
        joined[where] = array
        start += len(array)
    return joined
