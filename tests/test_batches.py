from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from et_core.data import IGNORED_LABEL, LengthBatches, collate, split_by_budget
from et_core.errors import ConfigError, DataError
from et_core.interfaces import Example

LENGTHS = np.random.default_rng(3).integers(3, 120, 1003)
SIZES = st.lists(st.integers(1, 200), min_size=1, max_size=60)


def padding(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """The share of all padded positions that hold no token."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - int(lengths.sum()) / padded


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 1003])
def test_every_row_comes_once_an_epoch(rows: int) -> None:
    batches = LengthBatches(LENGTHS[:rows], batch_size=8, seed=1)
    for epoch in range(3):
        found = batches.epoch(epoch)
        assert len(found) == len(batches) == -(-rows // 8)
        assert sorted(np.concatenate(found)) == list(range(rows))
        assert sorted({len(batch) for batch in found} - {8}) == ([rows % 8] if rows % 8 else [])


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    one, same, other = (LengthBatches(LENGTHS, batch_size=16, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one.epoch(2), same.epoch(2), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(one.epoch(2), one.epoch(3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one.epoch(2), other.epoch(2), strict=True))
    widths = [int(LENGTHS[batch].max()) for batch in one.epoch(0)]
    assert sorted(widths) not in (widths, widths[::-1])  # batches of one length do not come in a row


@pytest.mark.parametrize("step", [0, 1, 62, 63, 64, 130])
def test_any_step_can_be_gone_on_from(step: int) -> None:
    batches = LengthBatches(LENGTHS, batch_size=16, seed=4)
    whole = list(itertools.islice(batches.from_step(0), step + 70))
    resumed = list(itertools.islice(batches.from_step(step), 70))
    for batch, other in zip(whole[step:], resumed, strict=True):
        np.testing.assert_array_equal(batch, other)
    first = np.concatenate(whole[: len(batches)])
    assert sorted(first) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("batch_size", [8, 32])
@pytest.mark.parametrize("kind", ["uniform", "long tail", "one length"])
def test_padding_stays_under_five_percent(kind: str, batch_size: int) -> None:
    rng = np.random.default_rng(8)
    lengths = {
        "uniform": rng.integers(4, 128, 20_000),
        "long tail": np.clip(rng.lognormal(3, 0.7, 20_000).astype(int) + 3, 3, 512),
        "one length": np.full(20_000, 17),
    }[kind]
    assert padding(lengths, LengthBatches(lengths, batch_size=batch_size, seed=1).epoch(0)) < 0.05


def test_padding_stays_under_five_percent_on_real_sentences(shared_data: Path) -> None:
    lines = (shared_data / "glue" / "SST-2" / "train.tsv").read_text("utf-8").splitlines()[1:]
    lengths = np.asarray([len(line.split()) + 2 for line in lines])
    for batch_size in (16, 32, 64):
        assert padding(lengths, LengthBatches(lengths, batch_size=batch_size, seed=1).epoch(0)) < 0.05


@pytest.mark.parametrize(
    ("rows", "processes", "sizes"), [(17, 4, [8, 9]), (18, 4, [8, 10]), (20, 4, [4, 8, 8]), (7, 4, [7])]
)
def test_no_process_is_left_without_a_row(rows: int, processes: int, sizes: list[int]) -> None:
    batches = LengthBatches(LENGTHS[:rows], batch_size=8, seed=1, processes=processes)
    assert sorted(len(batch) for batch in batches.epoch(0)) == sizes
    assert len(batches) == len(sizes)


def test_too_few_rows_for_the_processes_are_refused() -> None:
    with pytest.raises(DataError) as error:
        LengthBatches(LENGTHS[:3], batch_size=8, seed=1, processes=4)
    assert str(error.value) == "3 training rows cannot be shared by 4 processes."
    with pytest.raises(ConfigError) as config_error:
        LengthBatches(LENGTHS, batch_size=2, seed=1, processes=4)
    assert str(config_error.value) == ("train.batch_size is 2: at least one row for each of 4 processes is needed.")


@settings(deadline=None)
@given(SIZES, st.integers(1, 8))
def test_shares_are_a_partition_of_about_equal_size(sizes: list[int], processes: int) -> None:
    lengths = np.asarray([7, *sizes])
    batch = np.arange(1, len(lengths))
    groups = split_by_budget(batch, lengths, token_budget=10**9, processes=processes)
    parts = [np.concatenate([group[rank::processes] for group in groups]) for rank in range(processes)]
    assert sorted(np.concatenate(parts)) == batch.tolist()
    counts = [len(part) for part in parts]
    assert max(counts) - min(counts) <= 1
    tokens = [int(lengths[part].sum()) for part in parts]
    assert max(tokens) - min(tokens) <= max(sizes)


@settings(deadline=None)
@given(SIZES, st.integers(1, 20_000), st.integers(1, 9))
def test_groups_are_a_partition_within_the_budget(sizes: list[int], budget: int, parts: int) -> None:
    lengths = np.asarray([5, *sizes])
    rows = np.arange(1, len(lengths))
    groups = split_by_budget(rows, lengths, token_budget=budget, parts=parts)
    assert sorted(np.concatenate(groups)) == rows.tolist()
    assert len(groups) >= min(parts, len(rows))
    for group in groups:
        assert len(group) == 1 or len(group) * lengths[group].max() <= budget
    flat = lengths[np.concatenate(groups)]
    assert (np.diff(flat) <= 0).all()


@settings(deadline=None)
@given(SIZES, st.integers(1, 20_000), st.integers(1, 9), st.integers(2, 5))
def test_every_process_has_a_share_of_every_group(sizes: list[int], budget: int, parts: int, processes: int) -> None:
    lengths = np.asarray([7] * processes + sizes)
    groups = split_by_budget(np.arange(len(lengths)), lengths, token_budget=budget, parts=parts, processes=processes)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert len(groups) >= min(parts, len(lengths) // processes)
    for index, group in enumerate(groups):
        shares = [group[rank::processes] for rank in range(processes)]
        assert min(map(len, shares)) >= 1
        for share in shares:
            # The last group also takes the shortest rows, which do not go round: one more a process at most.
            spare = index == len(groups) - 1
            assert len(share) <= 1 + spare or (len(share) - spare) * lengths[share].max() <= budget


def test_groups_are_as_few_and_as_even_as_asked() -> None:
    lengths = np.full(12, 10)
    sizes = [len(group) for group in split_by_budget(np.arange(12), lengths, token_budget=1000)]
    assert sizes == [12]
    sizes = [len(group) for group in split_by_budget(np.arange(12), lengths, token_budget=50)]
    assert sizes == [5, 5, 2]
    sizes = [len(group) for group in split_by_budget(np.arange(4), lengths, token_budget=1000, parts=3)]
    assert sizes == [2, 1, 1]
    sizes = [len(group) for group in split_by_budget(np.arange(12), lengths, token_budget=1000, parts=3)]
    assert sizes == [4, 4, 4]


def test_a_batch_is_padded_to_its_longest_row() -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    examples = [
        Example(
            {
                "texts.0.ids": np.asarray(ids, np.int32),
                "texts.0.segments": np.ones(len(ids), np.int8),
                "marks.turn": np.full(len(ids), 2, np.int16),
                "image": image + row,
            },
            {
                "label": np.asarray(row, np.int64),
                "tags": np.asarray(ids, np.int64),
                "several": np.asarray([0, 1, row], np.float32),
                "value": np.float32(row / 2),
            },
            row + 5,
        )
        for row, ids in enumerate([[3, 4], [5, 6, 7, 8], [9]])
    ]
    batch = collate(examples, pad_id=99, task="mine")
    (text,) = batch.inputs.texts
    assert text.ids.tolist() == [[3, 4, 99, 99], [5, 6, 7, 8], [9, 99, 99, 99]]
    assert text.mask.tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False]]
    assert text.segments is not None
    assert text.segments.tolist() == [[1, 1, 0, 0], [1] * 4, [1, 0, 0, 0]]
    assert batch.inputs.marks["turn"].tolist() == [[2, 2, 0, 0], [2] * 4, [2, 0, 0, 0]]
    assert batch.inputs.image is not None
    torch.testing.assert_close(batch.inputs.image, torch.from_numpy(np.stack([image, image + 1, image + 2])))
    pad = IGNORED_LABEL
    assert batch.targets["tags"].tolist() == [[3, 4, pad, pad], [5, 6, 7, 8], [9, pad, pad, pad]]
    assert batch.targets["label"].tolist() == [0, 1, 2]
    assert batch.targets["several"].tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 2]]
    assert batch.targets["value"].tolist() == [0, 0.5, 1]
    assert {batch.targets["label"].dtype, text.ids.dtype, text.segments.dtype} == {torch.int64}
    assert batch.targets["value"].dtype == torch.float32
    assert (batch.rows.tolist(), batch.task, batch.tokens, len(batch)) == ([5, 6, 7], "mine", 7, 3)


def test_two_texts_are_padded_apart() -> None:
    pairs = [([1, 2, 3], [4]), ([5], [6, 7])]
    examples = [
        Example({"texts.0.ids": np.asarray(a, np.int32), "texts.1.ids": np.asarray(b, np.int32)}) for a, b in pairs
    ]
    first, second = collate(examples, pad_id=0).inputs.texts
    assert first.ids.tolist() == [[1, 2, 3], [5, 0, 0]]
    assert second.ids.tolist() == [[4, 0], [6, 7]]
    assert [example.length for example in examples] == [3, 2]
