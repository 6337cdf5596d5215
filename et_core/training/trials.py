"""The networks that may be the best of a search, each trained alone for a while."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from et_core.config import load_config
from et_core.interfaces.figures import Examples
from et_core.registry import registry
from et_core.runfolder import RunFolder


@dataclass(frozen=True)
class Trial:
    """The *options* of a network, and what it came to on *dev*: figures by name, None for one that is not finite."""

    options: Mapping[str, Any]
    dev: Mapping[str, float | None]

    @property
    def judged_by(self) -> str:
        """The loss where there is one, which moves less by chance than a share of rows that are right."""
        return "loss" if "loss" in self.dev else next(iter(self.dev))

    @property
    def merit(self) -> float:
        """More is better."""
        name = self.judged_by
        value = self.dev[name]
        if value is None:
            return float("-inf")
        return value if name != "loss" and registry("metrics").get(name).higher_is_better else -value


def best_of(trials: Sequence[Trial]) -> int:
    """The place of the best, the earlier of two that are as good."""
    return max(range(len(trials)), key=lambda place: trials[place].merit)


def trials_in(folder: RunFolder) -> list[Trial]:
    """The finished trials of a run, in the order in which they were tried."""
    found = []
    for path in sorted(folder.trials.glob("[0-9]*"), key=lambda path: int(path.name)):
        trial = RunFolder(path)
        dev = json.loads(trial.results_file.read_text("utf-8"))["metrics"]["dev"]
        found.append(Trial(load_config(trial.config_file).config.model.options, dev))
    return found


def trials_table(trials: Sequence[Trial]) -> Examples:
    """What the trials differ in, and what each came to."""
    apart = differences([trial.options for trial in trials])
    metrics = list(trials[0].dev)
    best = best_of(trials)
    rows = [
        [
            f"{place + 1}, taken" if place == best else place + 1,
            *differing.values(),
            *(trial.dev.get(name) for name in metrics),
        ]
        for place, (trial, differing) in enumerate(zip(trials, apart, strict=True))
    ]
    note = (
        f"What the search found best, each trained alone for a while and measured on dev. The best by "
        f"{trials[best].judged_by} was then trained from the beginning. How they were found: search/report.html."
    )
    return Examples("Networks that were tried", ["trial", *apart[0], *metrics], rows, note)


def differences(networks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each network's options those that are not the same in all of them, as they are shown."""
    names = {name: None for options in networks for name in options}
    differing = [name for name in names if any(options.get(name) != networks[0].get(name) for options in networks)]
    return [{name: _written(options.get(name)) for name in differing} for options in networks]


def _written(option: Any) -> Any:
    return "; ".join(map(str, option)) if isinstance(option, list) else option
