from typing import Any

import torch
import torch.distributed as dist
from et_core.interfaces import MakeOptimizers, Objective, Prepared
from et_core.strategies import Ddp
from torch import Tensor
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class OrderedDdp(Ddp):
    """DDP in which every rank adds up the gradients of all ranks in the order of their numbers, in fp64.

    An all-reduce adds them in an order that depends on how the processes are connected, and rounds at every step; here
    the result is the same on one machine and on several. It sends all gradients to all ranks: for few processes.
    """

    def prepare(self, objective: Objective, make_optimizers: MakeOptimizers) -> Prepared:
        prepared = super().prepare(objective, make_optimizers)
        if isinstance(prepared.run, DistributedDataParallel):
            prepared.run.register_comm_hook(None, _mean_in_rank_order)
        return prepared


def _mean_in_rank_order(
    _state: Any,
    bucket: dist.GradBucket,  # type: ignore[name-defined]
) -> Future[Tensor]:
    """What torch calls for each bucket of gradients, in place of an all-reduce. It looks at the annotations."""
    own = bucket.buffer()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    sent: Any = dist.all_gather(parts, own, async_op=True)

    def mean(_done: Future[list[Tensor]]) -> Tensor:
        return torch.stack(parts).double().mean(0).to(own.dtype)

    found: Future[Tensor] = sent.get_future().then(mean)
    return found
