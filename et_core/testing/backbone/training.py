"""Checks of how a backbone trains: gradients, freezing, blocks and the token table."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from et_core.interfaces import Backbone, Batch, Features, Inputs, Model, Objective, Step, Term
from et_core.testing.backbone.base import EXTRAS, BackboneSuite, needs_of, state_of
from et_core.testing.backbone.inputs import InputMaker
from et_core.testing.compare import compare, compare_rows, listed, rows_of
from et_core.testing.suite import CheckFailed, check
from et_core.training.compact import CompactEmbedding, expand_tokens, replace_module
from et_core.training.groups import freeze

_LENGTHS = ((7, 4), (4, 7), (5, 6), (1, 1))


def _no_table(suite: BackboneSuite) -> str | None:
    return "token_table() gives None" if suite.built().token_table() is None else None


def _no_blocks(suite: BackboneSuite) -> str | None:
    return None if suite.built().blocks() else "blocks() is empty: it has no repeated layers"


class TrainingChecks(BackboneSuite):
    @check()
    def training_repeats_with_a_seed(self) -> None:
        """A run that was interrupted continues as if it had not been: all chance comes from torch, which is seeded.

        Draw from torch's own generator, never from NumPy's, Python's or one that is seeded elsewhere.
        """
        what = "a second training step with the same seed"
        first, second = (_step(self.built(seed=3), self.makers()[0]) for _ in range(2))
        for found, expected in zip(second, first, strict=True):
            compare(found, expected, what=what)

    @check()
    def every_parameter_gets_a_gradient(self) -> None:
        """A parameter that no output depends on stops data-parallel training, and is saved for nothing.

        ``restrict`` drops what the outputs that are needed do not use; ``requires_grad_(False)`` marks what is fixed.
        """
        for needs in needs_of(self.component()):
            backbone = self.built(needs=needs).train()
            for maker in self.makers():
                _learn(backbone, maker, needs)
            trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
            silent = [name for name, p in trained.items() if p.grad is None or not bool(p.grad.any())]
            if silent:
                raise CheckFailed(
                    f"where {' and '.join(sorted(needs))} is needed, {len(silent)} of {len(trained)} parameters get no "
                    f"gradient: {listed(silent)}."
                )

    @check()
    def frozen_stays_frozen(self) -> None:
        """``train.freeze`` and a teacher promise that nothing of the backbone moves, statistics included.

        Change buffers in training alone, and leave ``requires_grad`` as it is found.
        """
        backbone = self.built()
        objective = _Scaled(backbone)
        freeze(objective, ["backbone"])
        before = state_of(backbone)
        for _ in range(2):
            _descend(objective.train(), self.makers()[0])
        compare(state_of(backbone), before, what="two steps with the backbone frozen")

    @check(unless=_no_blocks)
    def a_frozen_block_stays_frozen(self) -> None:
        """``train.freeze: [blocks.0]`` is how the lowest layers keep what pre-training taught them."""
        backbone = self.built()
        objective = _Scaled(backbone)
        freeze(objective, ["blocks.0"])
        block, before = backbone.blocks()[0], state_of(backbone)
        kept = {name: tensor.detach().clone() for name, tensor in block.named_parameters()}
        _descend(objective.train(), self.makers()[0])
        compare(dict(block.named_parameters()), kept, what="a step with blocks.0 frozen")
        own = {id(parameter) for parameter in block.parameters()}
        others = {n: p for n, p in backbone.named_parameters() if id(p) not in own and p.requires_grad}
        if others and all(torch.equal(parameter, before[name]) for name, parameter in others.items()):
            raise CheckFailed("a step with blocks.0 frozen moves nothing else of the backbone.")

    @check(unless=_no_blocks)
    def blocks_are_its_layers_lowest_first(self) -> None:
        """Sharding wraps each block, and layer-wise learning rates and ``blocks.0`` count them from the input.

        Return modules that ``forward`` calls, in the order in which it does, none of them inside another.
        """
        backbone = self.built()
        blocks, inside = backbone.blocks(), {id(module) for module in backbone.modules()}
        owners: dict[int, int] = {}
        for index, block in enumerate(blocks):
            if id(block) not in inside:
                raise CheckFailed(f"blocks()[{index}], a {type(block).__name__}, is no module of the backbone.")
            for name, parameter in block.named_parameters():
                other = owners.setdefault(id(parameter), index)
                if other != index:
                    raise CheckFailed(f"blocks()[{index}] holds {name}, which blocks()[{other}] holds too.")
        order = _order_of_calls(backbone, blocks, self.makers()[0])
        for index in range(len(blocks)):
            if index not in order:
                raise CheckFailed(f"blocks()[{index}], a {type(blocks[index]).__name__}, is not called in forward.")
        if order != sorted(order):
            raise CheckFailed(f"forward calls blocks() in the order {', '.join(map(str, order))}: lowest first.")

    @check(unless=_no_table)
    def token_table_is_looked_up_with_ids(self) -> None:
        """Training leaves out the rows of ``token_table`` that no text reads. Another table loses what it learned.

        Give the table only where rows are looked up with token ids and nothing else; None is always right.
        """
        backbone = self.built()
        table = backbone.token_table()
        if table is None or all(module is not table for module in backbone.modules()):
            raise CheckFailed("token_table() is no module of the backbone.")
        if table.num_embeddings < self.its_tokenizer().vocab_size:
            pieces = self.its_tokenizer().vocab_size
            raise CheckFailed(f"token_table() has {table.num_embeddings} rows, the tokenizer {pieces} pieces.")
        for maker in self.makers():
            _check_table(backbone, table, maker)

    @check(unless=_no_table)
    def token_table_may_be_replaced(self) -> None:
        """Where a text reads few rows, training puts a smaller table in the place of ``token_table`` for a while.

        Call it as a module, through its attribute: ``self.words(ids)``, not ``functional.embedding(ids, ...)``.
        """
        backbone, maker = self.built(), self.makers()[0]
        inputs = maker.batch((7, 4), (4, 7), extra=2)
        table = backbone.token_table()
        if table is None:
            raise CheckFailed("token_table() gives a table once and None another time.")
        with torch.no_grad():
            expected = rows_of(backbone(inputs))
            state = state_of(backbone)
            ids = [tensor.flatten() for name, tensor in inputs.flatten().items() if name.endswith(".ids")]
            used = torch.unique(torch.cat(ids))
            replace_module(backbone, table, CompactEmbedding(table, used))
            try:
                found = rows_of(backbone(inputs))
            except Exception as error:
                raise CheckFailed(
                    f"with a table of the {len(used)} rows that are read, forward raises: {error}"
                ) from error
            compare_rows(found, expected, what="a table of the rows that are read")
            expand_tokens(backbone)
            compare(state_of(backbone), state, what="putting the whole table back")


class _Scaled(Objective):
    """A backbone that learns to give larger numbers, and one parameter of its own: something is left to train."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.scale = nn.Parameter(torch.ones(()))

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {"sum": torch.tensor(float(len(batch)))}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        return {"sum": Term(self.total(batch.inputs), torch.tensor(float(len(batch))))}

    def total(self, inputs: Inputs) -> Tensor:
        return self.scale * _total(self.backbone(inputs), self.backbone.provides)

    def result(self) -> Model:
        return Model(self.backbone, {})


def _total(features: Features, needs: frozenset[str]) -> Tensor:
    """A number that depends on every entry of what is needed at real positions, each with a weight of its own."""
    generator = torch.Generator().manual_seed(5)
    total = torch.zeros(())
    for row in rows_of(features):
        for name, tensor in row.items():
            if name.partition("[")[0] in needs:
                total = total + (tensor * torch.randn(tensor.shape, generator=generator)).sum()
    return total


def _learn(backbone: Backbone, maker: InputMaker, needs: frozenset[str]) -> None:
    """Add up gradients of several batches: dropout and relu let one or the other pass nothing."""
    for seed in range(3):
        torch.manual_seed(seed)
        rows = [maker.row(10 * seed + number, *lengths) for number, lengths in enumerate(_LENGTHS)]
        _total(backbone(maker.stack(rows), want=needs & EXTRAS), needs).backward()  # type: ignore[no-untyped-call]


def _descend(objective: _Scaled, maker: InputMaker) -> None:
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    objective.total(maker.batch(*_LENGTHS)).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _step(backbone: Backbone, maker: InputMaker) -> list[dict[str, Tensor]]:
    """Weights, outputs, gradients and buffers of one step in training."""
    before = state_of(backbone)
    torch.manual_seed(11)
    features = backbone.train()(maker.batch(*_LENGTHS))
    outputs = {
        f"{name} of row {index}": tensor.detach()
        for index, row in enumerate(rows_of(features))
        for name, tensor in row.items()
    }
    _total(features, backbone.provides).backward()  # type: ignore[no-untyped-call]
    gradients = {f"the gradient of {n}": p.grad for n, p in backbone.named_parameters() if p.grad is not None}
    return [before, outputs, gradients, state_of(backbone)]


def _order_of_calls(backbone: Backbone, blocks: list[nn.Module], maker: InputMaker) -> list[int]:
    order: list[int] = []

    def note(index: int) -> Callable[..., None]:
        return lambda *_: None if index in order else order.append(index)

    handles = [block.register_forward_pre_hook(note(index)) for index, block in enumerate(blocks)]
    with torch.no_grad():
        backbone(maker.batch(*_LENGTHS))
    for handle in handles:
        handle.remove()
    return order


def _check_table(backbone: Backbone, table: nn.Embedding, maker: InputMaker) -> None:
    inputs = maker.batch((7, 4), (4, 7), extra=1)
    read = [{int(i) for text in inputs.texts for i in text.ids[row][text.mask[row]]} for row in range(2)]
    decoded = set() if inputs.decoder is None else set(inputs.decoder.ids.flatten().tolist())
    alone = [sorted(read[row] - read[1 - row] - decoded) for row in range(2)]
    # A row of padding_idx gets no gradient, so that it may stand for zeros.
    unread = sorted(set(range(table.num_embeddings)) - {table.padding_idx} - read[0] - read[1] - decoded)
    if not (alone[0] and alone[1] and unread):
        pieces = maker.vocab_size
        raise CheckFailed(f"its tokenizer has {pieces} pieces, too few to tell who reads which. Give it more.")

    def answers(changed: list[int]) -> list[dict[str, Tensor]]:
        with torch.no_grad():
            table.weight[changed] += 1
            return rows_of(backbone(inputs))

    plain = answers([])
    compare_rows(answers(unread), plain, what="changing the rows of ids that no text reads")
    for row, other in ((0, 1), (1, 0)):
        before = answers([])
        after = answers(alone[row])
        if all(torch.equal(after[row][name], before[row][name]) for name in after[row]):
            raise CheckFailed("changing rows of token_table() changes nothing of a text that reads them.")
        compare(after[other], before[other], what="changing rows that another text reads")
