from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from et_core.interfaces import Objective, Prepared
from et_core.interfaces.strategy import MakeOptimizers
from et_core.strategies.processes import start_processes
from et_core.strategies.replicated import Replicated, best_device

_PATIENCE = datetime.timedelta(days=1)
"""How long a rank waits for another: the main one may encode data, or let a teacher read it, for hours."""


class Ddp(Replicated):
    """A replica in each of several processes, gradients averaged by torch's DistributedDataParallel.

    Starts its own processes on this machine, or takes its place among those that torchrun started.
    """

    def __init__(self, *, processes: Annotated[int, Field(gt=0)] | None = None, bucket_mb: int = 25) -> None:
        """*processes* defaults to one a GPU, or two on a CPU; *bucket_mb* is how much gradient is sent at once."""
        self._elsewhere = "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= set(
            os.environ
        )
        default = torch.cuda.device_count() or 2
        self._processes = int(os.environ["WORLD_SIZE"]) if self._elsewhere else processes or default
        self._rank = int(os.environ["RANK"]) if self._elsewhere else 0
        self._bucket_mb = bucket_mb

    @property
    def processes(self) -> int:
        return self._processes

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def device(self) -> torch.device:
        return best_device(int(os.environ.get("LOCAL_RANK", self._rank)))

    def launch(self, worker: Callable[..., None], *args: Any) -> None:
        if not self._elsewhere:
            start_processes(self._enter, self._processes, worker, args)
            return
        dist.init_process_group(
            self._backend, store=_own_store(), rank=self._rank, world_size=self._processes, timeout=_PATIENCE
        )
        worker(self, *args)
        dist.destroy_process_group()

    def _enter(self, rank: int, store: Store, worker: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._rank = rank
        if self.device.type == "cpu":
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self._processes))
        dist.init_process_group(self._backend, store=store, rank=rank, world_size=self._processes, timeout=_PATIENCE)
        worker(self, *args)
        # Not after an error: the others would see a closed connection before anyone hears of its cause.
        dist.destroy_process_group()

    @property
    def _backend(self) -> str:
        return "nccl" if self.device.type == "cuda" else "gloo"

    def prepare(self, objective: Objective, make_optimizers: MakeOptimizers) -> Prepared:
        objective.to(self.device)
        # A buffer that is not saved is a constant, equal on all ranks; torch would send it before every step.
        constants = dict(objective.named_buffers()).keys() - objective.state_dict().keys()
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
            objective, constants
        )
        module = DistributedDataParallel(
            objective,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            bucket_cap_mb=self._bucket_mb,
            gradient_as_bucket_view=True,
            find_unused_parameters=not objective.static_graph or len(objective.phases()) > 1,
        )

        def synchronised(last: bool) -> Any:
            return contextlib.nullcontext() if last else module.no_sync()

        return Prepared(objective, module, make_optimizers(objective), float(self._processes), synchronised)

    def all_gather(self, tensor: Tensor) -> Tensor:
        gathered: Tensor = _Gather.apply(tensor)
        return gathered

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = [None] * self._processes
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        dist.barrier()


_launches = itertools.count()


def _own_store() -> Store:
    """torchrun's store, with keys of this launch alone: a search and its student are two launches in one process.

    Under the keys of the first the second would find addresses that nobody listens at any more.
    """
    return PrefixStore(f"launch-{next(_launches)}", _torchrun_store())


@functools.cache
def _torchrun_store() -> Store:
    store: Store = next(rendezvous("env://"))[0]
    return store


class _Gather(torch.autograd.Function):
    """Join tensors whose first axis may differ in length by rank; the gradient is the sum of what all ranks send."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        rows = torch.tensor([len(tensor)], device=tensor.device)
        all_rows = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(all_rows, rows)
        ctx.sizes = [int(size) for size in torch.cat(all_rows)]
        padded = tensor.new_zeros(max(ctx.sizes), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in ctx.sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, ctx.sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.sizes[: dist.get_rank()])
        return total[start : start + ctx.sizes[dist.get_rank()]]
