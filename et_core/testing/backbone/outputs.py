"""Checks of what a backbone answers in evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from et_core.interfaces import Backbone, Features, Inputs
from et_core.testing.backbone.base import EXTRAS, BackboneSuite, needs_of, no_text, wishes
from et_core.testing.compare import ROUNDING, compare, compare_rows, finite, rows_of
from et_core.testing.suite import CheckFailed, check

_ACCEPTED = frozenset({"text", "texts", "image", "decoder", "marks"})
_PROVIDED = EXTRAS | {"tokens", "pooled"}
_BF16 = torch.bfloat16
_LONG = 1030
"""Beyond the usual tables of positions, which end at 512 or 1,024."""


def _no_extras(suite: BackboneSuite) -> str | None:
    return None if suite.component().provides & EXTRAS else "it provides no layers, attentions or queries-keys-values"


def _no_bf16(suite: BackboneSuite) -> str | None:
    return None if suite.supports_bf16 else "supports_bf16 is False"


def _no_reference(suite: BackboneSuite) -> str | None:
    given = type(suite).reference is not BackboneSuite.reference
    return None if given else "the suite has no reference() to compare it with"


class OutputChecks(BackboneSuite):
    @check()
    def outputs_have_their_shapes(self) -> None:
        """Heads and losses rely on tokens [B, L, H] with a mask [B, L] and pooled [B, H], in fp32.

        Give what ``provides`` names, for a batch of one token too.
        """
        component, backbone = self.component(), self.built()
        for word, names, known in (
            ("accepts", component.accepts, _ACCEPTED),
            ("provides", component.provides, _PROVIDED | self.own_extras),
        ):
            if unknown := sorted(names - known):
                raise CheckFailed(f"{word} names {unknown[0]!r}, which is none of {', '.join(sorted(known))}.")
        if not component.provides & {"tokens", "pooled"}:
            raise CheckFailed("it provides neither tokens nor pooled, so no head works with it.")
        for maker in self.makers():
            for rows, length in ((2, 7), (1, 1)):
                inputs = maker.batch(*[length] * rows)
                with torch.no_grad():
                    features = backbone(inputs, want=self.own_extras)
                _check_shapes(backbone, inputs, features, rows)
                if missing := sorted(self.own_extras - features.extra.keys()):
                    raise CheckFailed(f"where {missing[0]} is wanted, Features.extra does not hold it.")

    @check()
    def hidden_size_is_the_width(self) -> None:
        """Heads are built with ``hidden_size``; another width fails in the first step of somebody's run."""
        backbone = self.built()
        features = _run(backbone, self.makers()[0].batch(3, 2))
        for name, tensor in (("tokens", features.tokens), ("pooled", features.pooled)):
            if tensor is not None and tensor.shape[-1] != backbone.hidden_size:
                raise CheckFailed(f"hidden_size is {backbone.hidden_size}, and {name} is {tensor.shape[-1]} wide.")

    @check(unless=_no_extras)
    def extras_are_as_features_says(self) -> None:
        """Distillation reads layers, attentions and queries, keys and values in the shapes that ``Features`` documents.

        Each is given when it is wanted, and not otherwise: it costs memory in every step.
        """
        backbone = self.built()
        inputs = self.makers()[0].batch(7, 4)
        for want in (frozenset[str](), *(frozenset({name}) for name in sorted(wishes(backbone))), wishes(backbone)):
            features = _run(backbone, inputs, want)
            if features.extra.keys() != want:
                asked, given = ", ".join(sorted(want)) or "nothing", ", ".join(sorted(features.extra)) or "nothing"
                raise CheckFailed(f"where {asked} is wanted, Features.extra holds {given}.")
            _check_extras(backbone, features)

    @check(unless=_no_extras)
    def wanting_more_changes_nothing(self) -> None:
        """A model that computes otherwise when it is watched teaches a student something else than it does itself."""
        backbone = self.built()
        for maker in self.makers():
            inputs = maker.batch(7, 4)
            plain = rows_of(_run(backbone, inputs))
            watched = rows_of(_run(backbone, inputs, wishes(backbone)))
            kept = [{name: row[name] for name in before} for row, before in zip(watched, plain, strict=True)]
            compare_rows(kept, plain, what="wanting extras", most=ROUNDING)

    @check(unless=no_text)
    def padding_changes_nothing(self) -> None:
        """How far a row is padded depends on its neighbours, so a model that sees padding predicts by chance.

        Mask the scores of attention, and leave padding out of means, maxima and convolutions.
        """
        backbone, want = self.built(), wishes(self.built())
        for maker in self.makers():
            rows = [maker.row(n, *lengths) for n, lengths in enumerate(((5, 9), (9, 5), (2, 1), (1, 3)))]
            plain = [rows_of(_run(backbone, maker.stack([row]), want))[0] for row in rows]
            for at in _texts_of(maker.stack(rows)):
                for row, expected in zip(rows, plain, strict=True):
                    padded = maker.stack([row], extra=5, at=at)
                    found = rows_of(_run(backbone, padded, want))
                    compare_rows(found, [expected], what=f"padding {at} by 5 tokens", most=ROUNDING)
            found = rows_of(_run(backbone, maker.stack(rows, extra=3), want))
            compare_rows(found, plain, what="padding to the longest row and 3 more", most=ROUNDING)

    @check(unless=no_text)
    def garbage_under_the_mask_changes_nothing(self) -> None:
        """What lies under the mask is no part of a row: not its ids, segments or marks, not in the last digit.

        Where padding does not matter but this does, the padding id is treated as a word of its own.
        """
        backbone, want = self.built(), wishes(self.built())
        for maker in self.makers():
            inputs = maker.batch((5, 9), (9, 5), (2, 1), extra=3)
            plain = rows_of(_run(backbone, inputs, want))
            for seed in range(2):
                found = rows_of(_run(backbone, maker.garbage(inputs, seed), want))
                compare_rows(found, plain, what="garbage under the mask")

    @check()
    def rows_do_not_see_each_other(self) -> None:
        """What a text is predicted as must not depend on the texts that happen to be in its batch."""
        backbone, want = self.built(), wishes(self.built())
        for maker in self.makers():
            rows = [maker.row(number, 6) for number in range(3)]
            alone = [rows_of(_run(backbone, maker.stack([row]), want))[0] for row in rows]
            together = rows_of(_run(backbone, maker.stack(rows), want))
            compare_rows(together, alone, what="a batch of 3 in place of 3 batches of 1", most=ROUNDING)

    @check()
    def the_order_of_rows_does_not_matter(self) -> None:
        """Rows in another order give the same outputs in that order, to the last digit: nothing goes by the place."""
        backbone, want = self.built(), wishes(self.built())
        for maker in self.makers():
            rows = [maker.row(number, 6, 4) for number in range(3)]
            plain = rows_of(_run(backbone, maker.stack(rows), want))
            found = rows_of(_run(backbone, maker.stack([rows[2], rows[0], rows[1]]), want))
            compare_rows([found[1], found[2], found[0]], plain, what="another order of rows")

    @check()
    def evaluation_is_deterministic(self) -> None:
        """Predicting twice gives the same twice. Dropout and drawing end with ``eval()``."""
        backbone, inputs = self.built(), self.makers()[0].batch(7, 4)
        first = rows_of(_run(backbone, inputs, wishes(backbone)))
        compare_rows(rows_of(_run(backbone, inputs, wishes(backbone))), first, what="a second run in evaluation")

    @check()
    def inputs_are_left_as_they_were(self) -> None:
        """A batch is used again: by a second head, a teacher, the next phase. Copy what you change."""
        backbone = self.built()
        for maker in self.makers():
            inputs = maker.batch((5, 9), (9, 5), (1, 1), extra=2)
            before = {name: tensor.clone() for name, tensor in inputs.flatten().items()}
            for mode in (False, True):
                backbone.train(mode)(inputs, want=wishes(backbone))
                compare(inputs.flatten(), before, what="forward")

    @check()
    def restricting_keeps_what_is_needed(self) -> None:
        """``restrict`` drops what only serves other outputs; what a head needs is as it was."""
        for needs in needs_of(self.component()):
            whole, restricted = self.built(), self.built(needs=needs)
            inputs = self.makers()[0].batch(7, 4)
            expected = _needed(_run(whole, inputs, needs & EXTRAS), needs)
            found = _needed(_run(restricted, inputs, needs & EXTRAS), needs)
            compare_rows(found, expected, what=f"restrict({{{', '.join(sorted(needs))}}})")

    @check()
    def max_length_is_true(self) -> None:
        """Runs refuse a ``data.max_length`` beyond ``max_length``; where it is wrong, a long text ends them later."""
        backbone = self.built()
        most = backbone.max_length
        if (no_text(self)) is not None and most is not None:
            raise CheckFailed(f"max_length is {most}, but it accepts no text. Leave it None.")
        for maker in self.makers():
            length = most or _LONG
            try:
                features = _run(backbone, maker.batch(length, length))
            except Exception as error:
                said = f"max_length is {most}, but {length} tokens raise"
                raise CheckFailed(f"{said} {type(error).__name__}: {error}") from error
            finite(rows_of(features)[0], what=f"a text of {length} tokens")
            if most and _takes(backbone, maker.batch(most + 1, most + 1)):
                raise CheckFailed(f"max_length is {most}, but {most + 1} tokens are taken without an error.")

    @check(unless=_no_bf16)
    def bf16_is_finite(self) -> None:
        """On hardware with bf16 runs use it by themselves, and one nan ends them.

        Use ``torch.finfo(dtype).min`` in masks, and keep sums, norms and softmax in fp32.
        """
        backbone = self.built().train()
        for maker in self.makers():
            with torch.autocast("cpu", _BF16):
                features = backbone(maker.batch((7, 3), (4, 7), (1, 1), extra=2), want=wishes(backbone))
            rows = rows_of(features)
            for row in rows:
                finite(row, what="bf16")
            sum(tensor.float().sum() for row in rows for tensor in row.values()).backward()  # type: ignore[union-attr]
            gradients = {f"the gradient of {n}": p.grad for n, p in backbone.named_parameters() if p.grad is not None}
            finite(gradients, what="bf16")

    @check(unless=_no_reference)
    def it_equals_its_reference(self) -> None:
        """A small difference from the published model costs quality that nobody finds later: an epsilon, an activation.

        The reference has the same weights, copied.
        """
        backbone = self.built()
        reference = self.reference(backbone)
        for maker in self.makers():
            inputs = maker.batch((7, 4), (4, 7), (1, 1))
            ours = _run(backbone, inputs)
            with torch.no_grad():
                theirs = reference(inputs)
            if not isinstance(theirs, Features):
                theirs = Features(theirs.get("tokens"), ours.mask, theirs.get("pooled"))
            expected = rows_of(theirs)
            if not expected[0]:
                raise CheckFailed("reference() gives neither tokens nor pooled.")
            found = [{name: row[name] for name in expected[0]} for row in rows_of(ours)]
            compare_rows(found, expected, what="this implementation in place of the reference", most=1e-4)


def _run(backbone: Backbone, inputs: Inputs, want: frozenset[str] = frozenset()) -> Features:
    with torch.no_grad():
        features: Features = backbone(inputs, want=want)
    return features


def _takes(backbone: Backbone, inputs: Inputs) -> bool:
    try:
        _run(backbone, inputs)
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take them
        return False
    return True


def _texts_of(inputs: Inputs) -> list[str]:
    return [name.removesuffix(".mask") for name in inputs.flatten() if name.endswith(".mask")]


def _needed(features: Features, needs: frozenset[str]) -> list[dict[str, Tensor]]:
    return [{n: t for n, t in row.items() if n.partition("[")[0] in needs} for row in rows_of(features)]


def _check_shapes(backbone: Backbone, inputs: Inputs, features: Features, rows: int) -> None:
    def refuse(name: str, found: Any, wanted: str) -> None:
        shown = f"{list(found.shape)} of {found.dtype}" if isinstance(found, Tensor) else f"{found!r}"
        raise CheckFailed(f"for {_told(inputs)} {name} is {shown}, not {wanted}.")

    tokens, pooled, mask = features.tokens, features.pooled, features.mask
    if "tokens" in backbone.provides:
        if tokens is None or tokens.ndim != 3 or len(tokens) != rows or tokens.dtype != torch.float32:
            refuse("tokens", tokens, f"[{rows}, L, H] of torch.float32")
        elif mask is None or mask.shape != tokens.shape[:2] or mask.dtype != torch.bool:
            refuse("mask", mask, f"{list(tokens.shape[:2])} of torch.bool")
        elif backbone.accepts <= {"text", "marks"} and not torch.equal(mask, inputs.texts[0].mask):
            refuse("mask", mask, "the mask of the text")
    fits = pooled is not None and pooled.ndim == 2 and len(pooled) == rows and pooled.dtype == torch.float32
    if "pooled" in backbone.provides and not fits:
        refuse("pooled", pooled, f"[{rows}, H] of torch.float32")


def _told(inputs: Inputs) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in inputs.flatten().items() if "mask" not in name)


def _check_extras(backbone: Backbone, features: Features) -> None:
    blocks, (rows, width) = len(backbone.blocks()), _mask_of(features).shape
    counts = {"layers": blocks + 1, "attentions": blocks, "queries-keys-values": blocks}
    for name, found in features.extra.items():
        if not isinstance(found, tuple) or len(found) != counts[name]:
            given = f"a tuple of {len(found)}" if isinstance(found, tuple) else f"a {type(found).__name__}"
            raise CheckFailed(f"{name} is {given}; {blocks} blocks make it a tuple of {counts[name]}.")
    layers: Any = features.extra.get("layers", ())
    for index, layer in enumerate(layers):
        _check_shape(f"layers[{index}]", layer, (rows, width, backbone.hidden_size))
    heads = 0
    triples: Any = features.extra.get("queries-keys-values", ())
    for index, triple in enumerate(triples):
        if len(triple) != 3:
            raise CheckFailed(f"queries-keys-values[{index}] is {len(triple)} tensors, not queries, keys and values.")
        for part, states in zip(("queries", "keys", "values"), triple, strict=True):
            heads = states.shape[1]
            _check_shape(f"{part}[{index}]", states, (rows, heads, width, backbone.hidden_size // heads))
    attentions: Any = features.extra.get("attentions", ())
    for index, maps in enumerate(attentions):
        _check_shape(f"attentions[{index}]", maps, (rows, heads or maps.shape[1], width, width))
        _check_weights(f"attentions[{index}]", maps, _mask_of(features))


def _mask_of(features: Features) -> Tensor:
    if features.mask is None:
        raise CheckFailed("Features.mask is None beside extras, so nobody can tell their padding.")
    return features.mask


def _check_shape(name: str, found: Tensor, wanted: Sequence[int]) -> None:
    if list(found.shape) != list(wanted):
        raise CheckFailed(f"{name} is {list(found.shape)}, not {list(wanted)}.")


def _check_weights(name: str, maps: Tensor, mask: Tensor) -> None:
    """Each real token spreads a weight of 1 over the real tokens, and nothing on padding."""
    for row, real in zip(maps, mask, strict=True):
        total = row[:, real][:, :, real].sum(-1)
        if not math.isclose(float((total - 1).abs().max()), 0, abs_tol=1e-4):
            worst = float(total[(total - 1).abs() == (total - 1).abs().max()][0])
            raise CheckFailed(f"in {name} a token gives {worst:.3f} to the real tokens, not 1.")
