from __future__ import annotations

import copy
from typing import Any

import torch

from et_core.registry import registry


def steps(build: Any, count: int = 3) -> list[torch.Tensor]:
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(4))]
    optimizer = build(parameters)
    for number in range(count):
        for parameter in parameters:
            parameter.grad = torch.sin(parameter.detach() + number)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def ours(parameters: list[torch.nn.Parameter], **options: float) -> torch.optim.Optimizer:
    groups = [
        {"params": parameters[:1]},
        {"params": parameters[1:], "lr": 0.1, "weight_decay": 0.0},
    ]
    return registry("optimizers").create("adagrad", **options).build(groups, lr=0.1, weight_decay=0.01)


def by_hand(accumulator: float, lr_decay: float) -> list[torch.Tensor]:
    torch.manual_seed(0)
    parameters = [torch.randn(3, 4), torch.randn(4)]
    sums = [torch.full_like(parameter, accumulator) for parameter in parameters]
    for number in range(3):
        for place, (decay, total) in enumerate(zip((0.01, 0.0), sums, strict=True)):
            gradient = torch.sin(parameters[place] + number) + decay * parameters[place]
            total += gradient.square()
            parameters[place] = parameters[place] - 0.1 / (1 + number * lr_decay) * gradient / (total.sqrt() + 1e-10)
    return parameters


def test_adagrad_is_the_formula_with_the_decay_in_the_gradient() -> None:
    for options in ({}, {"initial_accumulator": 0.1}, {"lr_decay": 0.5}):
        found = steps(lambda parameters, options=options: ours(parameters, **options))
        expected = by_hand(options.get("initial_accumulator", 0.0), options.get("lr_decay", 0.0))
        torch.testing.assert_close(found, expected)


def test_groups_keep_the_keys_that_the_loop_sets() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    group: dict[str, Any] = {"params": [parameter], "lr": 0.1, "peak_lr": 0.1, "weight_decay": 0.0}
    optimizer = registry("optimizers").create("adagrad").build([copy.copy(group)], lr=0.1, weight_decay=0.0)
    assert optimizer.param_groups[0]["peak_lr"] == 0.1
