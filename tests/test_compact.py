"""A compact token table trains as the whole one does, and leaves alone what training does not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from et_core.interfaces import Backbone, Features, Head, Inputs
from et_core.training.compact import CompactEmbedding, compact_tokens, expand_tokens

ROWS, WIDTH, PADDING = 50, 8, 0
USED = torch.tensor([PADDING, 3, 4, 7, 20, 31])


class Reader(Backbone):
    """A token table under one linear layer, or one tied to its own output."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(ROWS, WIDTH, padding_idx=PADDING)
        self.linear = nn.Linear(WIDTH, ROWS if tied else 3)
        if tied:
            self.linear.weight = self.table.weight

    @classmethod
    def build(cls, options: Any, **given: Any) -> Reader:
        return cls()

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        return []

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        return {}

    def token_table(self) -> nn.Embedding:
        return self.table


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the used ids, the padding among them, and labels."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(12):
        yield (
            USED[torch.randint(len(USED), (4, 5), generator=generator)],
            torch.randint(3, (4,), generator=generator),
        )


def train(reader: Reader, *, weight_decay: float = 0.0) -> None:
    optimizer = torch.optim.AdamW(reader.parameters(), lr=0.05, weight_decay=weight_decay)
    for ids, labels in batches():
        loss = nn.functional.cross_entropy(reader.linear(reader.table(ids).mean(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compacted() -> Reader:
    reader = Reader()
    compact_tokens(reader, reader, USED)
    assert isinstance(reader.table, CompactEmbedding)
    return reader


def test_used_rows_learn_what_they_do_in_the_whole_table() -> None:
    whole, compact = Reader(), compacted()
    before = whole.table.weight.detach().clone()
    train(whole)
    train(compact)
    expand_tokens(compact)
    assert (whole.table.weight[USED[1:]] - before[USED[1:]]).abs().min() > 0
    torch.testing.assert_close(compact.table.weight, whole.table.weight, rtol=0, atol=1e-7)
    torch.testing.assert_close(compact.linear.weight, whole.linear.weight, rtol=0, atol=1e-7)


def test_rows_that_training_does_not_read_stay_as_they_were_loaded_also_under_weight_decay() -> None:
    reader = compacted()
    loaded = Reader().table.weight.detach()
    train(reader, weight_decay=0.5)
    expand_tokens(reader)
    unread = torch.ones(ROWS, dtype=torch.bool)
    unread[USED] = False
    assert torch.equal(reader.table.weight[unread], loaded[unread])
    assert not torch.equal(reader.table.weight[USED], loaded[USED])


def test_only_the_used_rows_are_parameters() -> None:
    reader = compacted()
    assert {name: tuple(tensor.shape) for name, tensor in reader.named_parameters()} == {
        "table.rows": (len(USED), WIDTH),
        "linear.weight": (3, WIDTH),
        "linear.bias": (3,),
    }
    assert set(reader.state_dict()) == {"table.rows", "linear.weight", "linear.bias"}


def test_evaluation_reads_rows_of_both_kinds() -> None:
    reader = compacted()
    train(reader)
    ids = torch.arange(ROWS).reshape(5, 10)
    found = reader.eval().table(ids)
    expand_tokens(reader)
    assert torch.equal(found, reader.table(ids))


def test_expanding_gives_an_embedding_that_trains_and_knows_its_padding() -> None:
    reader = compacted()
    rows = reader.table.rows.detach().clone()
    expand_tokens(reader)
    table = reader.table
    assert type(table) is nn.Embedding
    assert (table.num_embeddings, table.embedding_dim, table.padding_idx) == (ROWS, WIDTH, PADDING)
    assert table.weight.requires_grad
    assert torch.equal(table.weight[USED], rows)
    assert torch.equal(table.weight, Reader().table.weight)


def test_the_row_of_the_padding_gets_no_gradient() -> None:
    reader = compacted()
    reader.table(torch.tensor([[PADDING, 3, PADDING]])).sum().backward()
    assert reader.table.rows.grad.abs().sum(1).bool().tolist() == [False, True, False, False, False, False]


def test_a_table_without_padding_trains_its_row_zero() -> None:
    table = CompactEmbedding(nn.Embedding(ROWS, WIDTH), USED)
    table(torch.tensor([0])).sum().backward()
    assert table.rows.grad is not None
    assert table.rows.grad[0].all()
    assert table.expand().padding_idx is None


@pytest.mark.parametrize("reason", ["tied", "frozen", "most rows are used"])
def test_a_table_is_left_alone(reason: str) -> None:
    reader = Reader(tied=reason == "tied")
    reader.table.requires_grad_(reason != "frozen")
    table = reader.table
    compact_tokens(reader, reader, torch.arange(45) if reason == "most rows are used" else USED)
    assert reader.table is table


def test_a_table_that_a_head_outside_the_backbone_shares_is_left_alone() -> None:
    reader, head = Reader(), nn.Linear(WIDTH, ROWS, bias=False)
    head.weight = reader.table.weight
    compact_tokens(nn.ModuleList([reader, head]), reader, USED)
    assert head.weight is reader.table.weight
