"""The losses against torch and by hand; a sum and a count that add up to the same mean under any split."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from et_core.interfaces import Loss
from et_core.registry import registry
from et_core.training.losses import BinaryCrossEntropy, CrossEntropy, Mse

WEIGHTS = [0.5, 2.0, 1.25]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def single(rows: int = 11) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 3, (rows,), generator=generator())
    labels[2] = labels[7] = -100
    return torch.randn(rows, 3, generator=generator()) * 3, labels


def mean(loss: Loss, logits: Tensor, labels: Tensor) -> Tensor:
    total, count = loss({"logits": logits}, {"label": labels})
    return total / count


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_mean_of_torch(weights: list[float] | None, smoothing: float) -> None:
    logits, labels = single()
    ours = mean(CrossEntropy(weights=weights, smoothing=smoothing), logits, labels)
    weight = None if weights is None else torch.tensor(weights)
    theirs = functional.cross_entropy(logits, labels, weight=weight, ignore_index=-100, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    expected = (torch.log(torch.tensor(2.0)) * 1 + torch.log1p(torch.exp(torch.tensor(2.0))) * 3) / 4
    torch.testing.assert_close(mean(CrossEntropy(weights=[1.0, 3.0]), logits, torch.tensor([0, 1])), expected)


def test_smoothing_spreads_a_share_of_the_target_evenly() -> None:
    logits, labels = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([1])
    log_probabilities = logits.log_softmax(-1)[0]
    target = torch.tensor([0.1, 0.8, 0.1])
    torch.testing.assert_close(mean(CrossEntropy(smoothing=0.3), logits, labels), -(target * log_probabilities).sum())


def test_labels_per_token_are_scored_like_rows() -> None:
    logits, labels = single(12)
    rows = mean(CrossEntropy(weights=WEIGHTS), logits, labels)
    tokens = mean(CrossEntropy(weights=WEIGHTS), logits.reshape(3, 4, 3), labels.reshape(3, 4))
    torch.testing.assert_close(rows, tokens)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_binary_cross_entropy_is_the_mean_of_torch(weights: list[float] | None) -> None:
    logits = torch.randn(7, 3, generator=generator()) * 3
    labels = torch.randint(0, 2, (7, 3), generator=generator()).float()
    weight = None if weights is None else torch.tensor(weights)
    theirs = functional.binary_cross_entropy_with_logits(logits, labels, weight=weight)
    torch.testing.assert_close(mean(BinaryCrossEntropy(weights=weights), logits, labels), theirs)


def test_mse_is_the_mean_of_torch_for_whole_numbers_too() -> None:
    logits, labels = torch.randn(9, 1, generator=generator()), torch.randint(-3, 4, (9,), generator=generator())
    torch.testing.assert_close(mean(Mse(), logits, labels), functional.mse_loss(logits[:, 0], labels.float()))


def cases() -> list[tuple[Loss, Tensor, Tensor]]:
    logits, labels = single()
    marks = torch.randint(0, 2, (11, 3), generator=generator()).float()
    return [
        (CrossEntropy(), logits, labels),
        (CrossEntropy(weights=WEIGHTS, smoothing=0.1), logits, labels),
        (BinaryCrossEntropy(weights=WEIGHTS), logits, marks),
        (Mse(), logits[:, :1], logits[:, 1]),
    ]


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("cuts", [[1, 10], [3, 3, 5], [1] * 11])
def test_sums_and_counts_of_any_split_add_up(case: int, cuts: list[int]) -> None:
    loss, logits, labels = cases()[case]
    whole_sum, whole_count = loss({"logits": logits}, {"label": labels})
    parts = [
        loss({"logits": part}, {"label": target})
        for part, target in zip(logits.split(cuts), labels.split(cuts), strict=True)
    ]
    torch.testing.assert_close(torch.stack([total for total, _ in parts]).sum(), whole_sum)
    torch.testing.assert_close(torch.stack([count for _, count in parts]).sum(), whole_count)


@pytest.mark.parametrize("case", range(4))
def test_the_count_is_known_before_the_forward_pass(case: int) -> None:
    loss, logits, labels = cases()[case]
    torch.testing.assert_close(loss.count({"label": labels}), loss({"logits": logits}, {"label": labels})[1])


def test_a_part_in_which_all_labels_are_left_out_counts_nothing() -> None:
    for loss in (CrossEntropy(), CrossEntropy(weights=WEIGHTS, smoothing=0.1)):
        logits = torch.randn(4, 3, requires_grad=True)
        total, count = loss({"logits": logits}, {"label": torch.full((4,), -100)})
        total.backward()
        assert total.item() == 0
        assert float(count) == 0
        assert not logits.grad.any()


@pytest.mark.parametrize("size", [1e4, -1e4, 3e38])
@pytest.mark.parametrize("case", range(3))
def test_losses_and_gradients_stay_finite_at_extremes(case: int, size: float) -> None:
    loss, logits, labels = cases()[case]
    extreme = torch.full_like(logits, -size)
    extreme[:, 0] = size
    extreme.requires_grad_()
    total, count = loss({"logits": extreme / 11 if size > 1e38 else extreme}, {"label": labels})
    (total / count).backward()
    if size < 1e38:
        assert torch.isfinite(total)
    assert torch.isfinite(extreme.grad).all()


def test_half_precision_logits_are_summed_in_full() -> None:
    logits, labels = single()
    for loss in (CrossEntropy(), CrossEntropy(weights=WEIGHTS)):
        total, _ = loss({"logits": logits.bfloat16()}, {"label": labels})
        assert total.dtype == torch.float32
        torch.testing.assert_close(total, loss({"logits": logits.bfloat16().float()}, {"label": labels})[0])


def test_class_weights_follow_the_model_to_a_device_but_not_into_its_file() -> None:
    loss = CrossEntropy(weights=WEIGHTS)
    assert loss.state_dict() == {}
    assert loss.to(torch.float64).weights.dtype == torch.float64


def test_losses_are_found_by_name() -> None:
    assert isinstance(registry("losses").create("cross-entropy", smoothing=0.1), CrossEntropy)
    assert isinstance(registry("losses").create("binary-cross-entropy"), BinaryCrossEntropy)
    assert isinstance(registry("losses").create("mse"), Mse)
