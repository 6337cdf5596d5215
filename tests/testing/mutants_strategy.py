"""Strategies that are each broken in one way, and the check that has to say so."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from et_core.errors import EtError
from et_core.hooks import Register, hookimpl
from et_core.interfaces import Objective, Prepared, Strategy
from et_core.interfaces.strategy import MakeOptimizers
from et_core.strategies import Ddp, Single
from et_core.testing import Conformance, StrategyConformance

ET_API = 1


@hookimpl
def et_register_strategies(register: Register) -> None:
    for cls in {Sound, *(cls for mutants in BROKEN.values() for cls in mutants)}:
        register(cls.__name__.lower(), f"mutants_strategy:{cls.__name__}", summary=f"It is called {cls.__name__}")


class Sound(Ddp):
    """Two processes; nothing is wrong with it."""

    def __init__(self, *, processes: int = 2) -> None:
        super().__init__(processes=processes)


class WaitsForNobody(Sound):
    def barrier(self) -> None:
        return


class SharesWrongly(Sound):
    """In three ways, since a launch takes long: three checks look at one."""

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        return {name: 2 * value for name, value in super().sum(values).items()}

    def gather(self, value: Any) -> list[Any]:
        return super().gather(value)[::-1]

    def all_gather(self, tensor: Tensor) -> Tensor:
        return tensor


class AveragesGradients(Sound):
    """Besides, it cuts off those of what is gathered, and the rank from an error: three checks look at one launch."""

    def prepare(self, objective: Objective, make_optimizers: MakeOptimizers) -> Prepared:
        prepared = super().prepare(objective, make_optimizers)
        prepared.gradient_scale = 1.0
        return prepared

    def all_gather(self, tensor: Tensor) -> Tensor:
        return super().all_gather(tensor).detach()

    def launch(self, worker: Callable[..., None], *args: Any) -> None:
        try:
            super().launch(worker, *args)
        except EtError as error:
            raise EtError(str(error).replace("rank", "process")) from error


class One(Single):
    """One process; nothing is wrong with it."""

    def __init__(self) -> None:
        super().__init__(device="cpu")


class Untyped(One):
    def __init__(self, *, processes=1) -> None:  # type: ignore[no-untyped-def]
        super().__init__()


class PromisesTwo(One):
    @property
    def processes(self) -> int:
        return 2


class WritesNothing(One):
    @property
    def is_main(self) -> bool:
        return False


class AddsTwice(One):
    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        return {name: 2 * value for name, value in values.items()}


class GathersTwice(One):
    def gather(self, value: Any) -> list[Any]:
        return [value, value]


class CutsGradients(One):
    def all_gather(self, tensor: Tensor) -> Tensor:
        return tensor.detach()


class LeavesItWhereItIs(One):
    @property
    def device(self) -> torch.device:
        return torch.device("cpu:0")


class NamesTheWrapper(One):
    def state(self, prepared: Prepared) -> dict[str, Tensor]:
        return {name.replace("model.", "model.module.", 1): t for name, t in super().state(prepared).items()}


class TakesAnyCheckpoint(One):
    def load_state(self, prepared: Prepared, state: Mapping[str, Tensor]) -> None:
        model = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        prepared.objective.load_state_dict(model, strict=False)


class HalvesGradients(One):
    def prepare(self, objective: Objective, make_optimizers: MakeOptimizers) -> Prepared:
        prepared = super().prepare(objective, make_optimizers)
        prepared.gradient_scale = 0.5
        return prepared


class LoadsNoMomentum(One):
    def load_state(self, prepared: Prepared, state: Mapping[str, Tensor]) -> None:
        super().load_state(prepared, {name: t for name, t in state.items() if name.startswith("model.")})


class SavesNoMomentum(One):
    def state(self, prepared: Prepared) -> dict[str, Tensor]:
        found = super().state(prepared).items()
        return {name: tensor if name.startswith("model.") else torch.zeros_like(tensor) for name, tensor in found}


class SwallowsErrors(One):
    def launch(self, worker: Callable[..., None], *args: Any) -> None:
        try:
            super().launch(worker, *args)
        except Exception:  # noqa: BLE001
            return


class LeavesAProcess(One):
    def launch(self, worker: Callable[..., None], *args: Any) -> None:
        os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "100")
        super().launch(worker, *args)


BROKEN: dict[str, dict[type[Strategy], str]] = {
    "options_have_types_and_defaults": {Untyped: "has no type for its option 'processes'"},
    "several_processes_are_tried": {One: 'Set options to run it in two processes, such as {"processes": 2}'},
    "every_rank_runs_once": {PromisesTwo: "processes is 2, and launch() runs the ranks [0]"},
    "one_process_writes": {WritesNothing: "is_main is true of 0 processes (ranks []) of 1"},
    "sums_are_of_all_ranks": {SharesWrongly: "sum() of rank 0: rank is 2.0 instead of 1.0"},
    "gather_is_in_rank_order": {SharesWrongly: "gather() of rank 0: [0].rank is 1 instead of 0"},
    "rows_are_joined_with_their_gradients": {
        SharesWrongly: "all_gather() of rank 0: it has 1 items instead of 3",
        AveragesGradients: "no gradient reaches the rows of rank 0 through all_gather()",
    },
    "one_process_shares_with_itself": {
        AddsTwice: "of what one process shares: sum.one is 2.0 instead of 1.0",
        GathersTwice: "of what one process shares: gathered has 2 items instead of 1",
        CutsGradients: "of what one process shares: gradient is a NoneType instead of a list",
    },
    "a_barrier_waits_for_all": {WaitsForNobody: "rank 1 leaves a barrier before rank 0 comes to it"},
    "the_objective_is_on_the_device": {LeavesItWhereItIs: "the parameters of rank 0 are on cpu; its device is cpu:0"},
    "state_is_whole_and_by_full_name": {NamesTheWrapper: "state() of rank 0 before the first step: it lacks 'model."},
    "a_checkpoint_of_another_model_is_refused": {TakesAnyCheckpoint: "load_state() of rank 0 takes the state of"},
    "it_ends_where_one_process_does": {
        HalvesGradients: "and may be by 1e-06",
        AveragesGradients: "its weights are not those of one process",
    },
    "it_goes_on_from_another_strategy": {LoadsNoMomentum: "after going on from step 3 of another are not those of one"},
    "another_strategy_goes_on_from_it": {SavesNoMomentum: "that goes on from its step 3 are not those of one process"},
    "a_process_that_fails_ends_all_with_its_message": {
        SwallowsErrors: "launch() returns as if nothing had happened",
        AveragesGradients: "the error of launch() does not say 'rank 1': EtError: process 1 failed",
    },
    "no_process_outlives_a_launch": {LeavesAProcess: "2 processes still run, such as 'sleep 100'"},
}


@cache
def _suite(cls: type[Strategy]) -> type[StrategyConformance]:
    return type(cls.__name__, (StrategyConformance,), {"name": f"mutants-strategy/{cls.__name__.lower()}"})


SOUND: type[Conformance] = _suite(Sound)

MUTANTS: dict[str, list[tuple[type[Conformance], str]]] = {
    name: [(_suite(cls), fragment) for cls, fragment in mutants.items()] for name, mutants in BROKEN.items()
}
