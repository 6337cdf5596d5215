"""The loop, what it minimises and by which optimiser, and how a run is assembled, resumed and concluded."""

from et_core.training.loop import Loop, Position
from et_core.training.plan import Plan
from et_core.training.run import Finish, Outcome, train_worker
from et_core.training.setup import check_config, check_strategy
from et_core.training.splits import Split, StoreSplit, Turn
from et_core.training.supervised import Supervised

__all__ = [
    "Finish",
    "Loop",
    "Outcome",
    "Plan",
    "Position",
    "Split",
    "StoreSplit",
    "Supervised",
    "Turn",
    "check_config",
    "check_strategy",
    "train_worker",
]
