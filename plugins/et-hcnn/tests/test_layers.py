from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from et_hcnn.hcnn import SMALLEST_INTERACTION, InteractionPyramid
from et_hcnn.layers import WideConvolution, Words, mean_over


def convolution(widths: tuple[int, ...]) -> WideConvolution:
    torch.manual_seed(1)
    layer = WideConvolution(6, filters=3, widths=widths)
    torch.nn.init.normal_(layer.bias)
    return layer.double()


def as_words(vectors: Tensor, mask: Tensor | None = None) -> Words:
    """Words [B, L] that are all distinct."""
    count = vectors.shape[0] * vectors.shape[1]
    places = torch.arange(count).view(vectors.shape[:2])
    table = functional.pad(vectors.flatten(0, 1), (0, 0, 0, 1))
    return Words(table, places, torch.ones_like(places).bool() if mask is None else mask, count)


def slowly(layer: WideConvolution, words: np.ndarray) -> np.ndarray:
    """The strongest answer of each filter to *words* [L, D], window by window and word by word."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    found, start = [], 0
    for width in layer.widths:
        taps = weight[start : start + width * layer.filters].reshape(width, layer.filters, -1)
        start += width * layer.filters
        answers = []
        for first in range(1 - width, len(words)):
            places = [(tap, first + tap) for tap in range(width) if 0 <= first + tap < len(words)]
            answers.append(sum(taps[tap] @ words[place] for tap, place in places))
        found.append(np.max(answers, 0))
    return np.concatenate(found) + bias


@pytest.mark.parametrize("widths", [(1,), (2,), (4,), (2, 3, 4)])
def test_a_wide_convolution_is_its_loop_over_windows(widths: tuple[int, ...]) -> None:
    layer = convolution(widths)
    rng = np.random.default_rng(0)
    lengths = [1, 2, 3, 7]
    words = rng.normal(size=(4, 9, 6)) * (np.arange(9) < np.asarray(lengths)[:, None])[:, :, None]
    mask = torch.from_numpy(np.arange(9) < np.asarray(lengths)[:, None])
    found = layer(as_words(torch.from_numpy(words), mask)).detach().numpy()
    expected = [slowly(layer, row[:length]) for row, length in zip(words, lengths, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_wide_convolution_is_torch_s_with_padding() -> None:
    layer = convolution((4,))
    words = torch.randn(2, 7, 6, dtype=torch.float64)
    kernel = layer.weight.view(4, 3, 6).permute(1, 2, 0)
    expected = functional.conv1d(words.transpose(1, 2), kernel, layer.bias, padding=3).amax(2)
    torch.testing.assert_close(layer(as_words(words)), expected)


def test_a_window_that_lies_in_the_padding_counts_for_nothing() -> None:
    layer = convolution((2,))
    words = -torch.ones(1, 2, 6, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.abs())
        layer.bias.zero_()
    alone = layer(as_words(words))
    padded = layer(as_words(functional.pad(words, (0, 0, 0, 6)), torch.arange(8).unsqueeze(0) < 2))
    assert (alone < 0).all()
    assert torch.equal(padded, alone)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_the_answers_around_a_word_are_of_windows_with_the_word_in_their_middle(width: int) -> None:
    layer = convolution((width,))
    words = torch.randn(1, 6, 6, dtype=torch.float64)
    found = layer.around(layer.windows(as_words(words)))
    after = (width - 1) // 2
    kernel = layer.weight.view(width, 3, 6).permute(1, 2, 0)
    padded = functional.pad(words.transpose(1, 2), (width - 1 - after, after))
    torch.testing.assert_close(found, functional.conv1d(padded, kernel, layer.bias).transpose(1, 2))


def test_the_mean_is_over_words_and_not_over_the_padding_or_the_width() -> None:
    vectors = torch.tensor([[[1.0, 3.0], [3.0, 5.0], [0.0, 0.0]]])
    assert mean_over(as_words(vectors, torch.tensor([[True, True, False]]))).tolist() == [[2.0, 4.0]]


def whole_pyramid(layer: InteractionPyramid, first: Tensor, second: Tensor) -> Tensor:
    """The pyramid on the whole matrix of fixed size, as the papers draw it."""
    size = layer.interaction_size
    matrix = first.new_zeros(len(first), 1, size, size)
    first, second = first[:, :size], second[:, :size]
    matrix[:, 0, : first.shape[1], : second.shape[1]] = first @ second.transpose(1, 2)
    same = functional.pad(matrix, (2, 3, 2, 3))
    one = functional.max_pool2d(torch.tanh(layer.first(same)), 4)
    two = functional.max_pool2d(torch.tanh(layer.second(one)), 2)
    return two.flatten(1)


@pytest.mark.parametrize("size", [28, 30, 31, 64])
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (2, 3), (25, 26), (5, 64), (27, 28), (63, 64), (90, 7), (80, 99)]
)
def test_the_pyramid_of_what_words_can_reach_is_that_of_the_whole_matrix(rows: int, columns: int, size: int) -> None:
    torch.manual_seed(2)
    layer = InteractionPyramid(size).double()
    for convolution in (layer.first, layer.second):
        torch.nn.init.normal_(convolution.bias)
    first = torch.randn(3, rows, 5, dtype=torch.float64)
    second = torch.randn(3, columns, 5, dtype=torch.float64)
    found = layer(first, second)
    torch.testing.assert_close(found, whole_pyramid(layer, first, second), rtol=0, atol=1e-12)
    assert found.shape[1] == layer.size
    assert found.std() > 0.01


def test_the_pyramid_has_the_sizes_of_the_paper() -> None:
    assert InteractionPyramid(64).size == 16 * 2 * 2
    assert InteractionPyramid(SMALLEST_INTERACTION).size == 16
    assert SMALLEST_INTERACTION == 28


def test_words_beyond_the_matrix_are_left_out_of_the_pyramid() -> None:
    layer = InteractionPyramid(28)
    first, second = torch.randn(2, 40, 5), torch.randn(2, 33, 5)
    assert torch.equal(layer(first, second), layer(first[:, :28], second[:, :28]))
    assert not torch.equal(layer(first, second), layer(first[:, :20], second))
