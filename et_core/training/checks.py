"""What an objective promises, checked where it is built and in its first step: later a breach only trains badly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from et_core.errors import ComponentError
from et_core.interfaces import Objective, Phase, Term

_TOLERANCE = 1e-5


def check_phases(objective: Objective) -> None:
    """ComponentError where the phases or the splits of *objective* cannot be trained as they stand."""
    owner, phases, splits = type(objective).__name__, objective.phases(), objective.splits()
    if "train" not in splits or min(splits.values()) <= 0 or abs(sum(splits.values()) - 1) > 1e-6:
        raise ComponentError(
            f"{owner}.splits() gives {splits}. Shares are above 0 and add up to 1; one of them is 'train'."
        )
    if not phases:
        raise ComponentError(f"{owner}.phases() gives none, so nothing would be trained. One is enough: [Phase()].")
    for phase in phases:
        if not isinstance(phase, Phase):
            raise ComponentError(f"{owner}.phases() gives a {type(phase).__name__} where a Phase is due.")
        if not phase.name or "." in phase.name:
            raise ComponentError(
                f"{owner} names a phase {phase.name!r}. Checkpoints join the name with others by dots: write one "
                "without a dot."
            )
        if not isinstance(phase.every, int) or phase.every < 1:
            raise ComponentError(
                f"{owner}: the phase {phase.name!r} has every={phase.every!r}. It acts each so many steps: 1, 2, ..."
            )
        if not 0 <= phase.after < 1:
            raise ComponentError(
                f"{owner}: the phase {phase.name!r} has after={phase.after!r}. It is the share of the steps before it "
                "acts, from 0 to below 1."
            )
        if phase.split not in splits:
            raise ComponentError(
                f"{owner}: the phase {phase.name!r} learns from the split {phase.split!r}, which splits() does not "
                f"give. Splits: {', '.join(splits)}."
            )
    twice = [name for name, count in Counter(phase.name for phase in phases).items() if count > 1]
    if twice:
        raise ComponentError(f"{owner}.phases() gives two phases of the name {twice[0]!r}. Give each its own name.")


class TermCheck:
    """Compares the terms that an objective gives with the counts it foretold, in the first step of each phase."""

    def __init__(self, objective: Objective) -> None:
        self._owner = type(objective).__name__
        self._done: set[str] = set()
        self._foretold: Mapping[str, float] | None = None
        self._seen: dict[str, float] = {}

    def begin(self, phase: str, counts: Mapping[str, float]) -> None:
        """A step of *phase* begins, whose parts in this process have *counts* by term."""
        self._foretold = None if phase in self._done else counts
        self._seen = dict.fromkeys(counts, 0.0)
        self._done.add(phase)

    def add(self, terms: Mapping[str, Term]) -> None:
        """One part has given *terms*."""
        if self._foretold is None:
            return
        if not isinstance(terms, Mapping):
            raise ComponentError(
                f"{self._owner}.forward gives a {type(terms).__name__}, not its terms by name: {{'loss': Term(...)}}."
            )
        for name, term in terms.items():
            self._check_term(name, term)
            self._seen[name] += float(term.count)

    def end(self) -> None:
        """All parts of the step have been added."""
        for name, foretold in (self._foretold or {}).items():
            if not math.isclose(self._seen[name], foretold, rel_tol=_TOLERANCE, abs_tol=1e-9):
                raise ComponentError(
                    f"{self._owner}: the term {name!r} has a count of {self._seen[name]:g} in forward, but counts() "
                    f"said {foretold:g} for the same rows. The loop divides sums by what counts() says: give "
                    "Term(sum, count) with the sum over all that is counted, not a mean. Where a Loss gives both, its "
                    "forward returns what its count does."
                )
        self._foretold = None

    def _check_term(self, name: str, term: Term) -> None:
        where = f"{self._owner}.forward: the term {name!r}"
        if name not in self._seen:
            known = ", ".join(map(repr, self._seen)) or "none"
            raise ComponentError(f"{where} has no count. counts() gives every term of forward; it gave {known}.")
        if not isinstance(term, Term):
            raise ComponentError(f"{where} is a {type(term).__name__}. Give Term(sum, count).")
        if not isinstance(term.sum, Tensor) or term.sum.ndim:
            is_tensor = isinstance(term.sum, Tensor)
            found = f"shape {list(term.sum.shape)}" if is_tensor else f"type {type(term.sum).__name__}"
            raise ComponentError(f"{where} has a sum of {found}. It is a scalar: add up over all rows.")
        if not term.sum.requires_grad and term.weight * float(term.sum):
            raise ComponentError(
                f"{where} has a sum without a gradient, so it would train nothing. Compute it outside of "
                "torch.no_grad() and without detach(); one that is only logged has the weight 0."
            )
