"""The loop, what it minimises and by which optimiser, and how a run is assembled, resumed and concluded."""

from typing import TYPE_CHECKING

from et_core._lazy import exports

if TYPE_CHECKING:
    from et_core.training.distillation import Distillation, Lesson
    from et_core.training.loop import Loop, Position
    from et_core.training.plan import Plan
    from et_core.training.run import Finish, Outcome, refuse_other_run, train_worker
    from et_core.training.setup import build_strategy, check_config, search_config, trial_config
    from et_core.training.splits import Split, StoreSplit, Turn
    from et_core.training.supervised import Supervised
    from et_core.training.teachers import take_tokenizer
    from et_core.training.trials import Trial, best_of, differences, trials_in, trials_table

__all__ = [
    "Distillation",
    "Finish",
    "Lesson",
    "Loop",
    "Outcome",
    "Plan",
    "Position",
    "Split",
    "StoreSplit",
    "Supervised",
    "Trial",
    "Turn",
    "best_of",
    "build_strategy",
    "check_config",
    "differences",
    "refuse_other_run",
    "search_config",
    "take_tokenizer",
    "train_worker",
    "trial_config",
    "trials_in",
    "trials_table",
]

_ORIGINS = {
    "Distillation": "et_core.training.distillation",
    "Finish": "et_core.training.run",
    "Lesson": "et_core.training.distillation",
    "Loop": "et_core.training.loop",
    "Outcome": "et_core.training.run",
    "Plan": "et_core.training.plan",
    "Position": "et_core.training.loop",
    "Split": "et_core.training.splits",
    "StoreSplit": "et_core.training.splits",
    "Supervised": "et_core.training.supervised",
    "Trial": "et_core.training.trials",
    "Turn": "et_core.training.splits",
    "best_of": "et_core.training.trials",
    "build_strategy": "et_core.training.setup",
    "check_config": "et_core.training.setup",
    "differences": "et_core.training.trials",
    "refuse_other_run": "et_core.training.run",
    "search_config": "et_core.training.setup",
    "take_tokenizer": "et_core.training.teachers",
    "train_worker": "et_core.training.run",
    "trial_config": "et_core.training.setup",
    "trials_in": "et_core.training.trials",
    "trials_table": "et_core.training.trials",
}

__getattr__, __dir__ = exports(__name__, _ORIGINS)
