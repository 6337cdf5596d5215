from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from et_core.interfaces import Features, Head
from et_core.registry import registry
from et_core.testing.compare import ROUNDING, compare, finite, listed
from et_core.testing.head.features import FeatureMaker, real_outputs, tensors_of
from et_core.testing.suite import CheckFailed, Conformance, check

_PER_TOKEN = frozenset({"tokens", "layers", "attentions", "queries-keys-values", "towers"})
_LENGTHS = (7, 4, 13, 2)
"""With a padding that no number of outputs is likely to have: an axis as long as a row's tokens counts as such."""


def _sees_no_padding(suite: HeadConformance) -> str | None:
    return None if suite.needs() & _PER_TOKEN else "it needs nothing that has padding"


def _no_num_outputs(suite: HeadConformance) -> str | None:
    return None if "num_outputs" in suite.spec else "its spec has no num_outputs"


def _no_positions(suite: HeadConformance) -> str | None:
    return None if suite.takes_positions else "takes_positions is False"


def _no_bf16(suite: HeadConformance) -> str | None:
    return None if suite.supports_bf16 else "supports_bf16 is False"


def _refuse_sums(outputs: Any) -> None:
    """CheckFailed where *outputs* are no tensors by name whose first axis runs over the rows."""
    if not isinstance(outputs, dict) or not outputs:
        raise CheckFailed(f"forward gives {outputs!r:.60}, not a dict of tensors.")
    for name, output in outputs.items():
        if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(_LENGTHS):
            shape = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise CheckFailed(f"of {len(_LENGTHS)} rows {name} is {shape}: its first axis has to run over the rows.")


class HeadConformance(Conformance):
    """What every head promises, checked on made-up features of the kinds that its ``needs`` names."""

    kind: ClassVar[str] = "heads"
    minimum: ClassVar[int] = 12

    spec: Mapping[str, Any] = {
        "num_outputs": 3,
        "labels": ["a", "b", "c"],
        "problem_type": "single_label_classification",
        "dropout": None,
    }
    """What an app's ``HeadSpec.spec`` holds; that of classification as it stands. ``config`` adds to it."""

    hidden_size: int = 16
    """The width of the features."""

    takes_positions: bool = False
    """Whether ``positions`` picks tokens to be scored; other heads are never given any."""

    supports_bf16: bool = True
    """Whether it can be computed under bf16 autocast."""

    def extras(self, rows: Sequence[int]) -> Mapping[str, Tensor]:
        """What its own family gives in ``Features.extra`` besides the usual, for the rows of these numbers [B, ...]."""
        return {}

    def needs(self) -> frozenset[str]:
        """What the head needs as it is built here: its class may leave that to an option."""
        return self.built().needs

    def built(self, *, seed: int = 0, hidden_size: int = 0, **spec: Any) -> Head:
        """The head in evaluation, with weights by *seed*, moved off zero; *spec* replaces parts of the suite's."""
        torch.manual_seed(seed)
        arguments = {**self.spec, **self.config, **spec}
        head: Head = registry(self.kind).create(self.name, hidden_size=hidden_size or self.hidden_size, **arguments)
        noise = torch.Generator().manual_seed(17)
        with torch.no_grad():
            for parameter in head.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.1)
        return head.eval()

    def maker(self, hidden_size: int = 0) -> FeatureMaker:
        return FeatureMaker(self.needs(), hidden_size or self.hidden_size, self.extras)

    @check()
    def it_computes_no_loss(self) -> None:
        """A head gives outputs with the batch's rows along their first axis; an app's loss makes a sum of them.

        So that predictions need no targets, and losses stay exact when a batch is cut in parts.
        """
        head, features = self.built(), self.maker().batch(_LENGTHS)
        parameters = inspect.signature(head.forward).parameters
        taken = [name for name in parameters if name not in ("features", "positions")]
        if taken:
            raise CheckFailed(f"forward takes {listed(taken)} besides features and positions.")
        for training in (False, True):
            _refuse_sums(_run(head.train(training), features))

    @check(unless=_no_num_outputs)
    def num_outputs_is_the_width_of_logits(self) -> None:
        """An app names ``num_outputs`` labels; another width is found by whoever reads predictions."""
        for count in (1, 2, 5):
            labels = [f"label {index}" for index in range(count)] if "labels" in self.spec else None
            spec: dict[str, Any] = {"num_outputs": count} | ({} if labels is None else {"labels": labels})
            outputs = _run(self.built(**spec), self.maker().batch(_LENGTHS))
            logits = outputs.get("logits")
            if logits is None or logits.shape[-1] != count:
                found = (
                    f"outputs are {listed(sorted(outputs))}" if logits is None else f"logits are {list(logits.shape)}"
                )
                raise CheckFailed(f"num_outputs is {count}, and its {found}.")

    @check()
    def any_hidden_size_will_do(self) -> None:
        """The backbone decides how wide features are, and a head is for any of them."""
        for size in (self.hidden_size, 3 * self.hidden_size // 2):
            try:
                _run(self.built(hidden_size=size), self.maker(size).batch(_LENGTHS))
            except Exception as error:
                raise CheckFailed(f"with hidden_size={size} it raises {type(error).__name__}: {error}") from error

    @check()
    def needs_is_honest(self) -> None:
        """What ``needs`` leaves out is None or missing: runs check it before data is read, and ask for no more."""
        known = _PER_TOKEN | {"pooled"} | self.extras([0]).keys()
        if unknown := sorted(self.needs() - known):
            raise CheckFailed(f"needs names {unknown[0]!r}, which is none of {', '.join(sorted(known))}.")
        try:
            _run(self.built(), self.maker().batch(_LENGTHS))
        except Exception as error:
            named = " and ".join(sorted(self.needs())) or "nothing"
            raise CheckFailed(
                f"given {named}, which is all it needs, it raises {type(error).__name__}: {error}"
            ) from error

    @check()
    def one_row_is_a_batch(self) -> None:
        """The last batch of a file often has one row: it comes out as it does among others. Mind ``squeeze``."""
        head, maker = self.built(), self.maker()
        together = real_outputs(_run(head, maker.batch(_LENGTHS)), maker.batch(_LENGTHS))
        for row, length in enumerate(_LENGTHS):
            alone = maker.batch([length], first=row)
            outputs = _run(head, alone)
            if flat := [name for name, output in outputs.items() if output.ndim == 0 or len(output) != 1]:
                raise CheckFailed(
                    f"of one row {flat[0]} is {list(outputs[flat[0]].shape)}: its first axis has to be 1."
                )
            compare(real_outputs(outputs, alone)[0], together[row], what="a row alone", most=ROUNDING)

    @check()
    def rows_do_not_see_each_other(self) -> None:
        """What a row is predicted as must not depend on the rows that happen to be in its batch, nor on their order."""
        head, maker = self.built(), self.maker()
        plain = real_outputs(_run(head, maker.batch([6, 6, 6])), maker.batch([6, 6, 6]))
        other = maker.batch([6, 6, 6], order=[2, 0, 7])
        found = real_outputs(_run(head, other), other)
        for got, wanted in ((found[0], plain[2]), (found[1], plain[0])):
            compare(got, wanted, what="other rows around it, in another order,", most=ROUNDING)

    @check(unless=_sees_no_padding)
    def padding_changes_nothing(self) -> None:
        """How far a row is padded depends on its neighbours. Leave padding out of means, maxima and softmax."""
        head, maker = self.built(), self.maker()
        plain = real_outputs(_run(head, maker.batch(_LENGTHS)), maker.batch(_LENGTHS))
        padded = maker.batch(_LENGTHS, extra=6)
        for got, wanted in zip(real_outputs(_run(head, padded), padded), plain, strict=True):
            compare(got, wanted, what="padding by 6 tokens more", most=ROUNDING)

    @check(unless=_sees_no_padding)
    def garbage_under_the_mask_changes_nothing(self) -> None:
        """A backbone may leave anything at padded places: it is no part of a row, not in the last digit."""
        head, maker = self.built(), self.maker()
        plain = real_outputs(_run(head, maker.batch(_LENGTHS)), maker.batch(_LENGTHS))
        spoilt = maker.batch(_LENGTHS, garbage=100.0)
        for got, wanted in zip(real_outputs(_run(head, spoilt), spoilt), plain, strict=True):
            compare(got, wanted, what="garbage under the mask")

    @check()
    def evaluation_is_deterministic(self) -> None:
        """Predicting twice gives the same twice. Dropout and drawing end with ``eval()``."""
        head, features = self.built(), self.maker().batch(_LENGTHS)
        compare(_run(head, features), _run(head, features), what="a second run in evaluation")

    @check()
    def training_repeats_with_a_seed(self) -> None:
        """A run that was interrupted continues as if it had not been: all chance comes from torch, which is seeded."""
        steps = []
        for _ in range(2):
            head = self.built(seed=3).train()
            weights = {f"the fresh {name}": value.detach().clone() for name, value in head.state_dict().items()}
            torch.manual_seed(11)
            outputs = head(self.maker().batch(_LENGTHS, gradients=True))
            _total(outputs).backward()
            gradients = {f"the gradient of {n}": p.grad for n, p in head.named_parameters() if p.grad is not None}
            steps.append(weights | {name: value.detach() for name, value in outputs.items()} | gradients)
        compare(steps[1], steps[0], what="a second training step with the same seed")

    @check()
    def gradients_reach_the_backbone(self) -> None:
        """Without a gradient the backbone stays as it was, and the head learns alone. Mind ``detach``, ``argmax``."""
        head, features = self.built(), self.maker().batch(_LENGTHS, gradients=True)
        _total(_run(head, features, grad=True)).backward()
        for need, tensors in tensors_of(features).items():
            if tensors[0].is_floating_point() and not any(
                tensor.grad is not None and bool(tensor.grad.any()) for tensor in tensors
            ):
                raise CheckFailed(f"no gradient reaches {need}, which it says it needs.")

    @check()
    def every_parameter_gets_a_gradient(self) -> None:
        """A parameter that no output depends on stops data-parallel training, and is saved for nothing."""
        head = self.built().train()
        for seed in range(3):
            torch.manual_seed(seed)
            _total(head(self.maker().batch(_LENGTHS, first=10 * seed, gradients=True))).backward()
        trained = {name: parameter for name, parameter in head.named_parameters() if parameter.requires_grad}
        silent = [name for name, p in trained.items() if p.grad is None or not bool(p.grad.any())]
        if silent:
            raise CheckFailed(f"{len(silent)} of {len(trained)} parameters get no gradient: {listed(silent)}.")

    @check()
    def features_are_left_as_they_were(self) -> None:
        """Other heads and terms of a distillation read the same features. Copy what you change."""
        head, features = self.built(), self.maker().batch(_LENGTHS)
        before = {name: tensor.clone() for name, tensor in _flat(features)}
        for mode in (False, True):
            _run(head.train(mode), features)
            compare(dict(_flat(features)), before, what="forward")

    @check()
    def its_state_is_all_it_learns(self) -> None:
        """A saved model gets a new head with this one's state. Keep in parameters and buffers what no spec says."""
        head, file = self.built(seed=1), self.folder() / "head.safetensors"
        save_file({name: tensor.clone().contiguous() for name, tensor in head.state_dict().items()}, file)
        again = self.built(seed=2)
        again.load_state_dict(load_file(file))
        features = self.maker().batch(_LENGTHS)
        compare(_run(again, features), _run(head, features), what="saving and loading")

    @check(unless=_no_positions)
    def positions_pick_tokens(self) -> None:
        """Where few tokens have a target, only these are scored: *positions* in the flattened tokens."""
        head, features = self.built(), self.maker().batch(_LENGTHS)
        if features.mask is None:
            raise CheckFailed("takes_positions is set, but it needs nothing of single tokens.")
        picked = features.mask.flatten().nonzero().squeeze(1)[::3]
        with torch.no_grad():
            found = head(features, positions=picked)
        expected = {name: output.flatten(0, 1)[picked] for name, output in _run(head, features).items()}
        compare(found, expected, what=f"positions={picked.tolist()}", most=ROUNDING)

    @check(unless=_no_bf16)
    def bf16_is_finite(self) -> None:
        """Under bf16 the backbone hands over bf16, and one nan ends a run. Sums and softmax are safer in fp32."""
        head = self.built().train()
        features = self.maker().batch(_LENGTHS, dtype=torch.bfloat16, gradients=True)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = head(features)
        rows = real_outputs(outputs, features)
        for row in rows:
            finite(row, what="bf16")
        sum((_total(row) for row in rows), torch.zeros(())).backward()
        gradients = {f"the gradient of {n}": p.grad for n, p in head.named_parameters() if p.grad is not None}
        finite(gradients, what="bf16")


def _run(head: Head, features: Features, *, grad: bool = False) -> dict[str, Tensor]:
    with torch.set_grad_enabled(grad):
        outputs: dict[str, Tensor] = head(features)
    return outputs


def _total(outputs: Mapping[str, Tensor]) -> Any:
    """A number that depends on every finite entry of the outputs, each with a weight of its own."""
    generator = torch.Generator().manual_seed(5)
    total = torch.zeros(())
    for output in outputs.values():
        if output.is_floating_point():
            weights = torch.randn(output.shape, generator=generator)
            total = total + (output.float() * weights)[output.isfinite()].sum()
    return total


def _flat(features: Features) -> Iterator[tuple[str, Tensor]]:
    for need, tensors in tensors_of(features).items():
        yield from ((f"{need}[{index}]", tensor) for index, tensor in enumerate(tensors))
