"""Where the processes of a run are and how they share the work."""

from et_core.strategies.ddp import Ddp
from et_core.strategies.replicated import Replicated
from et_core.strategies.single import Single

__all__ = ["Ddp", "Replicated", "Single"]
