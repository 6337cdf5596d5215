"""Objectives other than one task's loss: phases, several tasks, distillation, trained until the loss falls."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from et_core.data import ExampleStore
from et_core.inference import Engine
from et_core.interfaces import Batch, Distiller, Example, Features, Model, Objective, Observed, Phase, Step, Term
from et_core.training import Split, StoreSplit, Supervised, Turn
from et_core.training.losses import CrossEntropy
from tests.seams.tools import (
    VOCABULARY,
    PooledHead,
    TokenHead,
    bag,
    fit,
    seam,
    settings,
    split_of,
    store_of,
    token_examples,
    weights,
    word_examples,
)

FIRST_SEARCH_ROW = 1000


def differs(first: dict[str, Tensor], second: dict[str, Tensor], prefix: str) -> bool:
    names = [name for name in first if name.startswith(prefix)]
    assert names
    return any(not torch.equal(first[name], second[name]) for name in names)


class Searched(seam.Bag):  # type: ignore[misc]
    """Two candidate layers, and architecture weights that say how much of each there is."""

    def __init__(self) -> None:
        super().__init__(VOCABULARY, num_layers=2)
        self.mix = nn.Parameter(torch.zeros(2))

    def read(self, text: object) -> tuple[Tensor, Tensor]:
        states = self.embeddings["norm"](self.embeddings["words"](text.ids))  # type: ignore[attr-defined]
        states = sum(share * layer(states) for share, layer in zip(self.mix.softmax(0), self.layers, strict=True))
        mask = text.mask.unsqueeze(-1)  # type: ignore[attr-defined]
        return states, self.pooler((states * mask).sum(1) / mask.sum(1)).tanh()


class Search(Objective):
    """Weights learn from one half of the data, the architecture from the other half, half as often."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        backbone = Searched()
        self.model = Model(backbone, {"main": PooledHead(backbone.hidden_size)})
        self.loss = CrossEntropy()
        self.seen: list[tuple[int, str, set[int], dict[str, Tensor]]] = []

    def phases(self) -> list[Phase]:
        return [
            Phase("weights", ("model.backbone.[!m]*", "model.heads.*")),
            Phase("search", ("*.mix",), optimizer="sgd", lr=0.5, weight_decay=0.1, every=2, split="search"),
        ]

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {phase: self.loss.count(batch.targets)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        self.seen.append((step.index, step.phase, set(batch.rows.tolist()), weights(self)))
        return {step.phase: Term(*self.loss(self.model(batch), batch.targets))}

    def result(self) -> Model:
        return self.model


@pytest.fixture
def halves(tmp_path: Path) -> dict[str, Split]:
    search = [Example(e.inputs, e.targets, e.row + FIRST_SEARCH_ROW) for e in word_examples(30, seed=1)]
    return {
        "train": split_of(store_of(tmp_path / "train.arrow", word_examples(120))),
        "search": split_of(store_of(tmp_path / "search.arrow", search)),
    }


def test_each_phase_moves_its_own_parameters_on_its_own_split(tmp_path: Path, halves: dict[str, Split]) -> None:
    objective = Search()
    done = fit(objective, halves, tmp_path / "run", train=settings(max_steps=40, log_every=2))
    expected = [
        (step, phase) for step in range(40) for phase in ("weights", "search") if phase[0] == "w" or not step % 2
    ]
    assert [(step, phase) for step, phase, _, _ in objective.seen] == expected
    ends = [before for _, _, _, before in objective.seen[1:]] + [weights(objective)]
    for (_, phase, rows, before), after in zip(objective.seen, ends, strict=True):
        assert {row >= FIRST_SEARCH_ROW for row in rows} == {phase == "search"}
        assert differs(before, after, "model.backbone.mix") == (phase == "search")
        assert differs(before, after, "model.backbone.layers") == (phase == "weights")
        assert differs(before, after, "model.heads") == (phase == "weights")
    lines = done.lines
    assert done.losses[-1] < 0.5 * done.losses[0]
    for name in ("loss/weights", "loss/search"):
        assert lines[-1][name] < 0.5 * lines[0][name]


def test_the_state_of_both_optimisers_comes_back(tmp_path: Path, halves: dict[str, Split]) -> None:
    whole = fit(Search(), halves, tmp_path / "whole", train=settings(max_steps=9))
    begun = fit(Search(), halves, tmp_path / "begun", train=settings(max_steps=5))
    slots = {name.split(".model.")[0] for name in begun.state if name.startswith("optimizer.")}
    assert slots == {
        *("optimizer.weights.exp_avg", "optimizer.weights.exp_avg_sq", "optimizer.weights.step"),
        "optimizer.search.momentum_buffer",
    }
    restored = fit(Search(), halves, tmp_path / "restored", train=settings(max_steps=5), start=5, state=begun.state)
    assert restored.state.keys() == begun.state.keys()
    assert all(torch.equal(restored.state[name], tensor) for name, tensor in begun.state.items())
    # Step 5 has no search phase, step 6 has: both continue where they were.
    rest = fit(Search(), halves, tmp_path / "rest", train=settings(max_steps=9), start=5, state=begun.state)
    assert rest.state.keys() == whole.state.keys()
    assert all(torch.equal(rest.state[name], tensor) for name, tensor in whole.state.items())


class Late(Objective):
    """Two numbers with a gradient of 1 each, of which one rests for half of the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.late = (nn.Parameter(torch.zeros(1)) for _ in range(2))
        self.seen: list[tuple[float, float]] = []

    def phases(self) -> list[Phase]:
        return [Phase("early", ("early",)), Phase("late", ("late",), after=0.5)]

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {phase: torch.tensor(1.0)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        if step.phase == "early":
            self.seen.append((self.early.item(), self.late.item()))
        return {step.phase: Term((self.early + self.late).sum(), torch.tensor(1.0))}

    def result(self) -> Model:
        raise NotImplementedError


def test_a_phase_that_begins_later_has_the_whole_schedule_for_itself(tmp_path: Path) -> None:
    objective = Late()
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples(120)))
    train = settings(max_steps=10, warmup=0.2, schedule="linear", optimizer="adamw", lr=1.0, weight_decay=0.0)
    fit(objective, {"train": split}, tmp_path / "run", train=train)
    numbers = torch.tensor([*objective.seen, (objective.early.item(), objective.late.item())])
    early, late = (numbers[:-1] - numbers[1:]).unbind(1)
    assert early.tolist() == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert late.tolist() == pytest.approx([0, 0, 0, 0, 0, 1, 1, 3 / 4, 2 / 4, 1 / 4])


class InTurn:
    """Steps of several splits in turn: each split goes on where it was at its last turn."""

    def __init__(self, splits: Sequence[StoreSplit]) -> None:
        self._splits = splits

    @property
    def steps_per_epoch(self) -> int:
        return sum(split.steps_per_epoch for split in self._splits)

    def turns(self, step: int) -> Generator[Turn]:
        count = len(self._splits)
        with contextlib.ExitStack() as stack:
            feeds = []
            for place, split in enumerate(self._splits):
                feed = split.turns(-(-(step - place) // count))
                stack.callback(feed.close)  # type: ignore[attr-defined]
                feeds.append(feed)
            while True:
                yield next(feeds[step % count])
                step += 1


@pytest.fixture
def two_tasks(tmp_path: Path) -> tuple[dict[str, ExampleStore], InTurn]:
    stores = {
        "sense": store_of(tmp_path / "sense.arrow", word_examples()),
        "tags": store_of(tmp_path / "tags.arrow", token_examples(36)),
    }
    return stores, InTurn([split_of(store, task=task, token_budget=40) for task, store in stores.items()])


def test_two_tasks_share_a_backbone(tmp_path: Path, two_tasks: tuple[dict[str, ExampleStore], InTurn]) -> None:
    stores, split = two_tasks
    backbone = bag()
    heads = {"sense": PooledHead(backbone.hidden_size), "tags": TokenHead(backbone.hidden_size)}
    objective = Supervised(Model(backbone, heads), {"sense": CrossEntropy(), "tags": CrossEntropy()})
    assert not objective.static_graph
    done = fit(objective, {"train": split}, tmp_path / "run", train=settings(max_steps=40, log_every=2, lr=0.03))
    for task in stores:
        terms = [line[f"loss/{task}"] for line in done.lines]
        assert terms[-1] < 0.4 * terms[0]

    model = objective.result().eval()
    for task, store in stores.items():
        examples = store.take(range(len(store)))
        logits = Engine(model, pad_id=0, device=torch.device("cpu"), task=task)(examples)["logits"]
        right = [
            np.atleast_1d(logits[row].argmax(-1))[: example.targets["label"].size] == example.targets["label"]
            for row, example in enumerate(examples)
        ]
        kept = [np.atleast_1d(example.targets["label"]) >= 0 for example in examples]
        assert np.concatenate([r[k] for r, k in zip(right, kept, strict=True)]).mean() > 0.9


def test_tasks_in_turn_are_the_same_whenever_training_began(
    two_tasks: tuple[dict[str, ExampleStore], InTurn],
) -> None:
    _, split = two_tasks
    feed = split.turns(0)
    steps = [next(feed) for _ in range(2 * split.steps_per_epoch)]
    assert [step.parts[0].task for step in steps[:4]] == ["sense", "tags", "sense", "tags"]
    for begin in (1, 2, 5):
        again = split.turns(begin)
        for expected in steps[begin : begin + 4]:
            found = next(again)
            assert [part.task for part in found.parts] == [part.task for part in expected.parts]
            assert [part.rows.tolist() for part in found.parts] == [part.rows.tolist() for part in expected.parts]


class Layers(Distiller):
    """Squared distance of the top layers, the student's brought to the teacher's width."""

    wants = frozenset({"layers"})
    per_token = frozenset({"top"})

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.project = nn.Linear(student, teacher, bias=False)
        nn.init.eye_(self.project.weight)

    def record(self, teacher: Observed, batch: Batch) -> dict[str, Tensor]:
        return {"top": self._top(teacher.features)}

    def count(self, batch: Batch) -> Tensor:
        return batch.inputs.texts[0].mask.sum()

    def forward(
        self, student: Observed, recorded: Mapping[str, Tensor], batch: Batch, *, progress: float = 0.0
    ) -> Term:
        errors = (self.project(self._top(student.features)) - recorded["top"]).square().mean(-1)
        return Term((errors * batch.inputs.texts[0].mask).sum(), self.count(batch), weight=2.0)

    @staticmethod
    def _top(features: Features) -> Tensor:
        assert set(features.extra) == {"layers"}
        layers = features.extra["layers"]
        assert isinstance(layers, tuple)
        top: Tensor = layers[-1]
        return top


class Taught(Objective):
    """A teacher that is looked at in every step, which an objective of one's own may do: frozen, it stays as it is."""

    def __init__(self, student: Model, teacher: Model, distiller: Distiller) -> None:
        super().__init__()
        self.student = student
        self.teacher = teacher.requires_grad_(False)
        self.distiller = distiller
        self.loss = CrossEntropy()

    def counts(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {"labels": self.loss.count(batch.targets), "layers": self.distiller.count(batch)}

    def forward(self, batch: Batch, step: Step) -> dict[str, Term]:
        student = self.observe(self.student, batch)
        with torch.no_grad():
            recorded = self.distiller.record(self.observe(self.teacher, batch), batch)
        return {
            "labels": Term(*self.loss(student.outputs, batch.targets)),
            "layers": self.distiller(student, recorded, batch),
        }

    def observe(self, model: Model, batch: Batch) -> Observed:
        features = model.features(batch, want=self.distiller.wants)
        return Observed(features, model.heads[batch.task](features))

    def result(self) -> Model:
        return self.student


def model_of(seed: int, **sizes: int | float) -> Model:
    backbone = bag(**sizes)
    torch.manual_seed(seed)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.5)
    return Model(backbone, {"main": PooledHead(backbone.hidden_size)})


def test_a_distiller_draws_the_student_to_the_teacher(tmp_path: Path) -> None:
    split = split_of(store_of(tmp_path / "rows.arrow", word_examples()), token_budget=60)
    teacher = model_of(1, dropout=0.5)
    objective = Taught(model_of(2, hidden_size=8), teacher, Layers(8, 16))
    before = weights(objective)
    done = fit(objective, {"train": split}, tmp_path / "run", train=settings(max_steps=40, lr=0.03))
    after = weights(objective)
    for name in ("labels", "layers"):
        assert done.lines[-1][f"loss/{name}"] < 0.6 * done.lines[0][f"loss/{name}"]
    assert differs(before, after, "student.")
    assert differs(before, after, "distiller.project.")
    assert not differs(before, after, "teacher.")
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not [name for name in done.state if name.startswith("optimizer.") and ".teacher." in name]
    assert [name for name in done.state if name.startswith("optimizer.") and ".distiller." in name]
    assert objective.result() is objective.student


def test_a_distiller_is_zero_where_teacher_and_student_are_equal(tmp_path: Path) -> None:
    store = store_of(tmp_path / "rows.arrow", word_examples())
    (part,) = next(split_of(store).turns(0)).parts
    step = Step(0, 1, "main", np.random.default_rng(0), lambda tensor: tensor)
    for seed, zero in ((1, True), (2, False)):
        objective = Taught(model_of(seed), model_of(1, dropout=0.5), Layers(16, 16)).train()
        term = objective(part, step)["layers"]
        assert (float(term.sum.detach()) < 1e-6) is zero
        assert float(term.count) == float(objective.counts(part, "main")["layers"]) == part.tokens
