from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch

from et_core.config import ComponentConfig, TrainConfig
from et_core.errors import ConfigError
from et_core.interfaces import Backbone, Objective, OptimizerFactory, Phase, build_component
from et_core.registry import did_you_mean


def freeze(objective: Objective, patterns: Iterable[str]) -> None:
    """Stop training the parameters that *patterns* name; ConfigError where a pattern matches nothing.

    A pattern is a shell pattern or a prefix, over full parameter names or over names inside the backbone; ``blocks.0``
    stands for the lowest block.
    """
    names = _spellings(objective)
    for pattern in patterns:
        hits = [name for name, spellings in names.items() if any(_matches(s, pattern) for s in spellings)]
        if not hits:
            parts = sorted({spelling.split(".")[0] for spellings in names.values() for spelling in spellings})
            meant = did_you_mean(pattern, parts)
            raise ConfigError(f"train.freeze: {pattern!r} matches no parameter.{meant} Parts: {', '.join(parts)}.")
        for name in hits:
            objective.get_parameter(name).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise ConfigError("train.freeze leaves nothing to train.")


def make_optimizer(objective: Objective, phase: Phase, train: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of *phase*: no weight decay on biases and norms, and a learning rate that falls with depth."""
    lr = train.lr if phase.lr is None else phase.lr
    decay = train.weight_decay if phase.weight_decay is None else phase.weight_decay
    depths, top = _depths(objective)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad or not any(fnmatchcase(name, pattern) for pattern in phase.parameters):
            continue
        scale = train.layer_decay ** (top - depths.get(name, top))
        key = (lr * scale, decay if parameter.ndim > 1 else 0.0)
        group = groups.setdefault(key, {"params": [], "lr": key[0], "peak_lr": key[0], "weight_decay": key[1]})
        group["params"].append(parameter)
    if not groups:
        raise ConfigError(
            f"the phase {phase.name!r} moves no parameter: {', '.join(phase.parameters)} matches none that trains."
        )
    chosen = ComponentConfig(name=phase.optimizer) if phase.optimizer else train.optimizer
    factory: OptimizerFactory = build_component("optimizers", chosen, where="train.optimizer")
    optimizer: torch.optim.Optimizer = factory.build(list(groups.values()), lr=lr, weight_decay=decay)
    return optimizer


def _backbones(objective: Objective) -> dict[str, Backbone]:
    return {name: module for name, module in objective.named_modules() if isinstance(module, Backbone)}


def _spellings(objective: Objective) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {name: {name} for name, _ in objective.named_parameters()}
    for path, backbone in _backbones(objective).items():
        blocks = {id(p): i for i, block in enumerate(backbone.blocks()) for p in block.parameters()}
        for name, parameter in backbone.named_parameters():
            own = names[f"{path}.{name}"]
            own |= {f"backbone.{name}", name}
            if id(parameter) in blocks:
                own.add(f"blocks.{blocks[id(parameter)]}")
    for spellings in names.values():
        spellings |= {s.removeprefix("model.") for s in spellings}
    return names


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name == pattern or name.startswith(f"{pattern}.")


def _depths(objective: Objective) -> tuple[dict[str, int], int]:
    """How deep each backbone parameter sits: 0 below the blocks, then 1 a block; all else is at the top."""
    depths: dict[str, int] = {}
    top = 0
    for path, backbone in _backbones(objective).items():
        blocks = backbone.blocks()
        top = max(top, len(blocks) + 1)
        inside = {id(parameter): index + 1 for index, block in enumerate(blocks) for parameter in block.parameters()}
        depth = 0
        for name, parameter in backbone.named_parameters():
            depth = inside.get(id(parameter), len(blocks) + 1 if depth else 0)
            depths[f"{path}.{name}"] = depth
    return depths, top
