from __future__ import annotations

import contextlib
import logging
import math
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from et_core.config import TrainConfig
from et_core.errors import Interrupted
from et_core.inference.precision import autocast
from et_core.interfaces import Batch, Phase, Prepared, Schedule, Step, Strategy, build_component
from et_core.training.checks import TermCheck
from et_core.training.plan import Plan
from et_core.training.recorder import Recorder, check_finite
from et_core.training.signals import StopOnSignal
from et_core.training.splits import Split, Turn

log = logging.getLogger("et")
Evaluate = Callable[[], dict[str, float]]
Save = Callable[["Position"], None]
_STOP = "/stop"
"""Beside the counts of terms, which have names without a slash."""


@dataclass
class Position:
    """Where training stands: all of a checkpoint's state besides tensors."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    misses: int = 0
    """Evaluations since the best one."""

    total_seconds: float = 0.0
    """Since the run began, with all that is not training; of a run that was stopped, up to its checkpoint."""

    seconds: float = 0.0
    rows: int = 0
    tokens: int = 0


@dataclass
class _Interval:
    """What happened since the last logged step."""

    steps: int = 0
    loss: Tensor | float = 0.0
    terms: dict[str, Tensor | float] = field(default_factory=dict)
    acted: Counter[str] = field(default_factory=Counter)
    """In how many steps each term took part: tasks may take turns, phases may rest."""

    grad_norm: Tensor | None = None


class Loop:
    """Steps and phases until the plan is done. It knows objectives and batches; not tasks, and not what a model is."""

    def __init__(
        self,
        prepared: Prepared,
        splits: Mapping[str, Split],
        *,
        train: TrainConfig,
        plan: Plan,
        strategy: Strategy,
        evaluate: Evaluate | None = None,
        better: Callable[[float, float], bool] | None = None,
        watched: str | None = None,
        save: Save | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """*evaluate* gives dev metrics, of which *watched* picks the best step by *better*; *save* a checkpoint."""
        self._prepared = prepared
        self._splits = splits
        self._train = train
        self._plan = plan
        self._strategy = strategy
        self._evaluate = evaluate
        self._better = better
        self._watched = watched
        self._save = save
        self._recorder = recorder
        self._phases = prepared.objective.phases()
        self._check = TermCheck(prepared.objective)
        self._warned_of_parts = False
        self._schedules = {phase.name: self._schedule_of(phase) for phase in self._phases}

    def run(self, position: Position) -> Position:
        """Train from *position* to the end; raises Interrupted after saving when a signal asked to stop.

        A signal of the last step, or during its evaluation and save, counts too: the run is resumed to its conclusion.
        """
        feeds = {name: split.turns(position.step) for name, split in self._splits.items()}
        interval = _Interval()
        self._prepared.objective.train()
        with StopOnSignal() as stop, contextlib.ExitStack() as stack:
            for feed in feeds.values():
                stack.callback(feed.close)
            stopping = False
            while position.step < self._plan.total_steps and not self._out_of_patience(position):
                stopping = self._step(position.step, feeds, interval, stop)
                position.step += 1
                evaluates = self._evaluate is not None and self._plan.evaluates_after(
                    position.step, self._train.eval_every
                )
                saves = evaluates or stopping or self._saves_after(position.step)
                # Before a save too, so that no checkpoint holds weights that are not numbers.
                if saves or position.step % self._train.log_every == 0:
                    interval = self._log(position.step, interval)
                if saves:
                    self._look_and_save(position, evaluates=evaluates)
                if stopping:
                    break
            told = self._strategy.sum({"stop": float(bool(stop.number))})["stop"]
            if told or stopping:
                raise _interrupted(stop.number or signal.SIGTERM, position.step)
        return position

    def _schedule_of(self, phase: Phase) -> Schedule:
        """That of the run, drawn together to the steps that *phase* has."""
        total = self._plan.total_steps
        left = total - phase.first(total)
        steps = {"total_steps": left, "warmup_steps": round(self._plan.warmup_steps * left / total)}
        schedule: Schedule = build_component("schedules", self._train.schedule, where="train.schedule", **steps)
        return schedule

    def _step(self, index: int, feeds: Mapping[str, Iterator[Turn]], interval: _Interval, stop: StopOnSignal) -> bool:
        acting = [phase for phase in self._phases if phase.acts(index, self._plan.total_steps)]
        turns = {name: next(feed) for name, feed in feeds.items()}
        stopping = False
        for number, phase in enumerate(acting):
            step = self._begin(index, phase)
            parts = [self._prepared.objective.draw(part, step) for part in turns[phase.split].parts]
            self._warn_of_parts(len(parts))
            counts, told = self._count(parts, phase, bool(stop.number) and number == 0)
            stopping = stopping or told
            self._backward(step, parts, counts, interval)
            self._update(index, phase, interval)
        interval.steps += 1
        if self._recorder:
            learned = [turns[name] for name in {phase.split for phase in acting}]
            self._recorder.count(rows=sum(turn.rows for turn in learned), tokens=sum(turn.tokens for turn in learned))
        return stopping

    def _warn_of_parts(self, count: int) -> None:
        if count > 1 and self._prepared.objective.compares_rows and not self._warned_of_parts:
            self._warned_of_parts = True
            log.warning(
                "a batch is computed in %d parts, and rows are compared with those of their part alone: raise "
                "train.token_budget (%d), or lower train.batch_size",
                count,
                self._train.token_budget,
            )

    def _begin(self, index: int, phase: Phase) -> Step:
        """Seed torch for *phase* of the step *index*, from nothing but these, the run's seed and the rank."""
        seed = np.random.SeedSequence((self._train.seed, index, self._strategy.rank)).generate_state(1)[0]
        if self._strategy.device.type == "cpu":
            # The same numbers; torch.manual_seed also writes down the stack, for devices that are not there yet.
            torch.default_generator.manual_seed(int(seed))
        else:
            torch.manual_seed(int(seed))
        rng = np.random.default_rng((self._train.seed, index))
        return Step(index, self._plan.total_steps, phase.name, rng, self._strategy.all_gather)

    def _count(self, parts: list[Batch], phase: Phase, stop: bool) -> tuple[dict[str, float], bool]:
        """Each term's count over all parts on all ranks; in the same exchange, whether any rank was told to stop."""
        local: dict[str, float] = {}
        for part in parts:
            for name, count in self._prepared.objective.counts(part, phase.name).items():
                local[name] = local.get(name, 0.0) + float(count)
        self._check.begin(phase.name, local)
        counts = self._strategy.sum({**local, _STOP: float(stop)})
        return counts, bool(counts.pop(_STOP))

    def _backward(self, step: Step, parts: list[Batch], counts: Mapping[str, float], interval: _Interval) -> None:
        interval.acted.update(counts.keys())
        for number, part in enumerate(parts, start=1):
            with self._prepared.synchronised(number == len(parts)):
                with autocast(self._plan.precision, self._strategy.device):
                    terms = self._prepared.run(part.to(self._strategy.device), step)
                self._check.add(terms)
                shares = {name: term.weight * term.sum / max(counts[name], 1e-12) for name, term in terms.items()}
                loss = torch.stack(list(shares.values())).sum()
                (loss * self._prepared.gradient_scale).backward()  # type: ignore[no-untyped-call]
            interval.loss = interval.loss + loss.detach()
            for name, value in shares.items():
                interval.terms[name] = interval.terms.get(name, 0.0) + value.detach()
        self._check.end()

    def _update(self, index: int, phase: Phase, interval: _Interval) -> None:
        optimizer = self._prepared.optimizers[phase.name]
        factor = self._schedules[phase.name].factor(index - phase.first(self._plan.total_steps))
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        clip = self._train.clip_norm if phase.clip_norm is None else phase.clip_norm
        if clip is not None:
            moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            interval.grad_norm = torch.nn.utils.clip_grad_norm_(moved, clip)
        optimizer.step()
        # All gradients, not only this phase's: what the phase sent into others' parameters must not reach their step.
        self._prepared.objective.zero_grad(set_to_none=True)

    def _log(self, step: int, interval: _Interval) -> _Interval:
        names = sorted(interval.terms)
        sums = {"loss": float(interval.loss), **{f"/{name}": float(interval.terms[name]) for name in names}}
        totals = self._strategy.sum(sums)
        loss = totals["loss"] / interval.steps
        grad_norm = None if interval.grad_norm is None else float(interval.grad_norm)
        check_finite("loss", loss, step)
        check_finite("gradient norm", grad_norm or 0.0, step)
        if self._recorder:
            group = self._prepared.optimizers[self._phases[0].name].param_groups
            self._recorder.step(
                step,
                epoch=step / self._plan.steps_per_epoch,
                loss=loss,
                lr=max(entry["lr"] for entry in group),
                grad_norm=grad_norm,
                terms={name: totals[f"/{name}"] / interval.acted[name] for name in names},
                readings=self._prepared.objective.readings(),
            )
        return _Interval()

    def _saves_after(self, step: int) -> bool:
        every = self._train.checkpoint_every
        return step == self._plan.total_steps or bool(every and step % every == 0)

    def _look_and_save(self, position: Position, *, evaluates: bool) -> None:
        if self._recorder:
            self._recorder.pause()
            position.seconds, position.rows, position.tokens = (
                self._recorder.seconds,
                self._recorder.rows,
                self._recorder.tokens,
            )
        if evaluates:
            self._look_at_dev(position)
        if self._save:
            self._save(position)
        if self._recorder:
            self._recorder.resume()

    def _look_at_dev(self, position: Position) -> None:
        self._prepared.objective.eval()
        metrics = self._evaluate() if self._evaluate else {}
        self._prepared.objective.train()
        value = metrics.get(self._watched or "")
        is_best = (
            value is not None
            and not math.isnan(value)
            and (position.best_value is None or bool(self._better and self._better(value, position.best_value)))
        )
        if is_best:
            position.best_step, position.best_value, position.misses = position.step, value, 0
        elif value is None or not math.isnan(value):
            position.misses += 1
        if self._recorder:
            epoch = position.step / self._plan.steps_per_epoch
            status = self._prepared.objective.status()
            self._recorder.evaluation(position.step, epoch=epoch, metrics=metrics, is_best=is_best, status=status)

    def _out_of_patience(self, position: Position) -> bool:
        return self._train.patience is not None and position.misses >= self._train.patience


def _interrupted(number: int, step: int) -> Interrupted:
    return Interrupted(f"stopped at step {step}; a checkpoint is saved. Go on with --resume.", signal_number=number)


def position_from(state: Mapping[str, Any]) -> Position:
    """The position that a checkpoint's state.json holds."""
    return Position(**state["position"])
