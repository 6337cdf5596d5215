from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from et_core.errors import CheckpointError
from et_core.interfaces import Prepared, Strategy


class Replicated(Strategy):
    """A strategy in which every process holds the whole model and the whole optimiser state."""

    def state(self, prepared: Prepared) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor.detach() for name, tensor in prepared.objective.state_dict().items()}
        names = {id(parameter): name for name, parameter in prepared.objective.named_parameters()}
        for phase, optimizer in prepared.optimizers.items():
            for parameter, slots in optimizer.state.items():
                for slot, value in slots.items():
                    tensors[f"optimizer.{phase}.{slot}.{names[id(parameter)]}"] = torch.as_tensor(value)
        return tensors

    def load_state(self, prepared: Prepared, state: Mapping[str, Tensor]) -> None:
        model = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
        expected = set(prepared.objective.state_dict())
        if set(model) != expected:
            wrong = sorted(expected ^ set(model))
            raise CheckpointError(
                f"the checkpoint is of another model: {len(wrong)} tensors differ, such as {wrong[0]!r}. "
                "Continue with the config it was written with, or start anew in another output folder."
            )
        prepared.objective.load_state_dict(model)
        for phase, optimizer in prepared.optimizers.items():
            self._load_optimizer(prepared, phase, optimizer, state)

    def _load_optimizer(
        self, prepared: Prepared, phase: str, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
    ) -> None:
        parameters = dict(prepared.objective.named_parameters())
        prefix = f"optimizer.{phase}."
        optimizer.state.clear()
        for key, tensor in state.items():
            if not key.startswith(prefix):
                continue
            slot, _, name = key.removeprefix(prefix).partition(".")
            parameter = parameters[name]
            # The step count stays where the optimiser keeps it; all other slots lie beside their parameter.
            placed = tensor.clone() if tensor.ndim == 0 else tensor.to(parameter.device, copy=True)
            optimizer.state[parameter][slot] = placed


def best_device(index: int = 0) -> torch.device:
    """The GPU number *index* where there is one, else the CPU."""
    return torch.device("cuda", index % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
