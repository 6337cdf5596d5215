from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import et_core as et
from et_core.errors import ConfigError, EtError
from et_core.interfaces import Batch, Features, Inputs, Loss, Model, Step, Text, build_backbone
from et_core.registry import registry
from et_core.runfolder import Checkpoints
from et_hcnn.drss import DrssHead
from et_hcnn.objective import Drss, covariance, penalty
from et_hcnn.tokenizer import WordTokenizer

TOKENIZER = WordTokenizer.fit(["the fox jumps over the lazy dog"], vocab_size=50)
SMALL: dict[str, Any] = {"embedding_size": 8, "filters": 4, "hidden_size": 6}


def make_model(**options: Any) -> Model:
    torch.manual_seed(1)
    settings = {**SMALL, "marks": {"domain": 2}, "dropout": 0.0, **options}
    backbone: Any = build_backbone("hcnn-drss", settings, tokenizer=TOKENIZER)
    return Model(backbone, {"main": backbone.native_head("sequence-classification", num_outputs=3, dropout=0.0)})


def make_batch(domains: list[int]) -> Batch:
    rng = np.random.default_rng(0)
    texts = [Text(torch.from_numpy(rng.integers(3, 9, (len(domains), 5))), torch.ones(len(domains), 5).bool())] * 2
    marks = {"domain": torch.tensor(domains).unsqueeze(1).expand(-1, 5)}
    labels = torch.from_numpy(rng.integers(0, 3, len(domains)))
    return Batch(Inputs(tuple(texts), marks), {"label": labels}, torch.arange(len(domains)))


def step(index: int = 0) -> Step:
    return Step(index, 10, "main", np.random.default_rng(0), lambda tensor: tensor)


def make_objective(model: Model, **options: Any) -> Drss:
    loss: Loss = registry("losses").create("cross-entropy")
    objective: Drss = registry("objectives").create("drss", model=model, losses={"main": loss}, apps={}, **options)
    return objective


def root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors @ np.diag(np.sqrt(values)) @ vectors.T)


def test_omega_is_the_closed_form() -> None:
    rows = np.random.default_rng(2).normal(size=(4, 30))
    direct = root(rows @ rows.T)
    direct /= np.trace(direct)
    found = covariance(torch.from_numpy(rows))
    np.testing.assert_allclose(found.numpy(), direct, rtol=0, atol=1e-7)
    assert found.dtype == torch.float64
    square = np.linalg.inv(direct)
    expected = np.trace(rows.T @ square @ rows)
    assert float(penalty(torch.from_numpy(rows), found)) == pytest.approx(expected, rel=1e-5)
    # At the minimum the penalty is the square of the trace norm of W.
    assert expected == pytest.approx(np.linalg.svd(rows, compute_uv=False).sum() ** 2)


def test_omega_minimises_the_penalty_over_all_covariances_of_trace_one() -> None:
    rng = np.random.default_rng(3)
    rows = torch.from_numpy(rng.normal(size=(4, 12)))
    best = float(penalty(rows, covariance(rows)))
    own = covariance(rows).numpy()
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(200):
            change = rng.normal(size=(4, 4))
            other = own + scale * change @ change.T
            other /= np.trace(other)
            assert float(penalty(rows, torch.from_numpy(other))) >= best


@pytest.mark.parametrize("rows", [np.zeros((4, 5)), np.ones((4, 5)), np.eye(4)[:, :1] * 1e-9, np.ones((4, 3)) * 1e6])
def test_omega_of_matrices_that_depend_on_each_other_is_finite(rows: np.ndarray) -> None:
    matrices = torch.from_numpy(rows).requires_grad_()
    omega = covariance(matrices)
    assert float(omega.trace()) == pytest.approx(1)
    assert torch.linalg.eigvalsh(omega).min() > 0
    value = penalty(matrices, omega)
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value)
    assert torch.isfinite(matrices.grad).all()  # type: ignore[arg-type]


def test_logits_are_the_domain_s_own_plus_what_it_makes_of_the_shared() -> None:
    head = DrssHead(hidden_size=10, num_outputs=3).eval()
    torch.nn.init.normal_(head.bias)
    pooled, domain = torch.randn(4, 10), torch.tensor([0, 1, 1, 0])
    found = head(Features(pooled=pooled, extra={"domain": domain}))["logits"]
    for row, number in enumerate(domain.tolist()):
        own = head.specific[number] @ pooled[row, :5]
        shared = head.shared[number] @ pooled[row, 5:]
        torch.testing.assert_close(found[row], own + shared + head.bias[number])


def test_the_four_matrices_stand_in_the_order_of_the_paper() -> None:
    head = DrssHead(hidden_size=4, num_outputs=2)
    with torch.no_grad():
        for place, matrix in enumerate((head.specific[0], head.shared[0], head.shared[1], head.specific[1])):
            matrix.fill_(place)
    assert head.matrices().tolist() == [[float(place)] * 4 for place in range(4)]


def test_a_row_is_read_by_its_domain_s_network_and_by_the_shared_one() -> None:
    backbone: Any = make_model().backbone.eval()
    batch = make_batch([0, 1, 1, 0])
    features = backbone(batch.inputs, want=frozenset({"domain"}))
    assert features.extra["domain"].tolist() == [0, 1, 1, 0]
    assert backbone(batch.inputs).extra == {}
    pair = backbone.look_up(*batch.inputs.texts)
    source, target = (encoder(*pair) for encoder in backbone.specific)
    own = torch.stack([source[0], target[1], target[2], source[3]])
    torch.testing.assert_close(features.pooled, torch.cat((own, backbone.shared(*pair)), 1))


@pytest.mark.parametrize("domains", [[0, 0, 0], [1, 1], [0, 1]])
def test_every_parameter_takes_part_in_every_step(domains: list[int]) -> None:
    objective = make_objective(make_model(), adversarial=0.1)
    terms = objective(make_batch(domains), step())
    torch.stack([term.weight * term.sum for term in terms.values()]).sum().backward()
    assert [name for name, parameter in objective.named_parameters() if parameter.grad is None] == []


def test_a_step_s_penalty_is_the_same_in_one_part_or_in_several() -> None:
    objective = make_objective(make_model())
    counts = objective.counts(make_batch([0, 1, 1]), "main")
    assert {name: float(count) for name, count in counts.items()} == {"main": 3, "covariance": 3}
    whole = objective(make_batch([0, 1, 1]), step())["covariance"]
    parts = [objective(make_batch(domains), step())["covariance"] for domains in ([0], [1, 1])]
    joined = sum(part.sum for part in parts) / sum(part.count for part in parts)
    torch.testing.assert_close(whole.sum / whole.count, joined)
    assert whole.weight == 0.01


def test_omega_follows_the_matrices_each_so_many_steps_and_once_a_step() -> None:
    model = make_model()
    objective = make_objective(model, update_every=2)
    head: Any = model.heads["main"]

    def run(index: int) -> torch.Tensor:
        objective(make_batch([0, 1]), step(index))
        return objective.omega.clone()

    first = run(0)
    torch.nn.init.normal_(head.specific)
    assert torch.equal(run(0), first)
    assert torch.equal(run(1), first)
    second = run(2)
    assert torch.equal(second, covariance(head.matrices()))
    assert not torch.equal(second, first)


def test_the_shared_network_learns_against_the_classifier_of_domains() -> None:
    objective = make_objective(make_model(), adversarial=0.5)
    batch = make_batch([0, 1, 1, 0])
    term = objective(batch, step())["domain"]
    assert (term.weight, float(term.count)) == (0.5, 4)
    backbone: Any = objective.model.backbone
    classifier: Any = objective.domain_classifier
    shared = [parameter for parameter in backbone.shared.parameters() if parameter.requires_grad]
    turned = torch.autograd.grad(term.sum, [*shared, classifier.weight])
    features = backbone(batch.inputs)
    plain = functional.cross_entropy(classifier(features.pooled[:, 6:]), torch.tensor([0, 1, 1, 0]), reduction="sum")
    straight = torch.autograd.grad(plain, [*shared, classifier.weight])
    torch.testing.assert_close(term.sum, plain)
    torch.testing.assert_close(turned[-1], straight[-1])
    for ours, theirs in zip(turned[:-1], straight[:-1], strict=True):
        torch.testing.assert_close(ours, -theirs)
    assert any(gradient.any() for gradient in turned[:-1])


def test_what_is_not_for_two_domains_is_refused() -> None:
    for marks in ({}, {"domain": 3}, {"domain": 2, "other": 2}):
        with pytest.raises(ConfigError, match=r"hcnn-drss reads of each row which of two domains it is of"):
            make_model(marks=marks)
    batch = make_batch([0, 1])
    with pytest.raises(ConfigError, match=r"^hcnn-drss needs the domain of each row: set app\.domains"):
        make_model().backbone(Inputs(batch.inputs.texts))
    other: Any = build_backbone("hcnn", SMALL, tokenizer=TOKENIZER)
    plain = registry("heads").create("pooled-linear", hidden_size=other.hidden_size, num_outputs=2)
    with pytest.raises(ConfigError) as caught:
        make_objective(Model(other, {"main": plain}))
    assert str(caught.value) == (
        "objective=drss relates the output matrices of two domains, which the head 'drss' has and PooledLinear has "
        "not. Take model=hcnn-drss@init and app.domains=[source, target]."
    )


NOUNS = ["fox", "dog", "cat", "bird", "fish", "horse"]
ROWS = [
    {"text": f"{a} {word}", "text_pair": f"{word} {b}", "label": "yes" if a == b else "no", "domain": domain}
    for domain, word in (("shop", "buy"), ("forum", "ask"))
    for a in NOUNS
    for b in (a, NOUNS[NOUNS.index(a) - 1])
]


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Any]:
    def run(*, name: str = "run", objective: Mapping[str, Any] | str = "drss", **train: Any) -> Any:
        config = {
            "app": {"name": "matching", "domains": ["forum", "shop"]},
            "model": {"ref": "hcnn-drss@init", **SMALL},
            "objective": objective,
            "data": {"train": ROWS, "dev": ROWS},
            "train": {"batch_size": 8, "lr": 1e-2, "precision": "fp32", "max_steps": 6, **train},
            "output": str(tmp_path / name),
        }
        return et.train(config, progress=False)

    return run


def test_a_run_over_two_domains_learns_and_predicts_the_same_again(train: Callable[..., Any]) -> None:
    run = train(max_steps=200, objective={"name": "drss", "adversarial": 0.1})
    assert run.metrics["accuracy"] == 1.0
    again = et.load(run.path).predict(ROWS)
    assert json.dumps([vars(row) for row in again]) == json.dumps([vars(row) for row in run.predict(ROWS)])
    assert [row.prediction for row in again] == [row["label"] for row in ROWS]
    logged = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert {"loss/covariance", "loss/domain", "loss/main"} <= logged[0].keys()


def test_omega_is_kept_in_checkpoints(train: Callable[..., Any]) -> None:
    run = train(objective={"name": "drss", "update_every": 4})
    loaded: Any = Checkpoints(run.folder.checkpoints, keep=2).newest()
    omega = loaded.tensors()["model.omega"]
    assert float(omega.trace()) == pytest.approx(1)
    head: Any = run.bundle.model.heads["main"]
    assert not torch.allclose(omega, covariance(head.matrices()), atol=1e-12)


def test_the_network_also_trains_without_its_objective(train: Callable[..., Any]) -> None:
    assert train(objective="auto", max_steps=120).metrics["accuracy"] == 1.0


def test_an_objective_s_setting_out_of_range_is_told(train: Callable[..., Any]) -> None:
    with pytest.raises(EtError) as caught:
        train(objective={"name": "drss", "update_every": 0})
    assert str(caught.value) == "objective.update_every is 0: expected a whole number above 0."
