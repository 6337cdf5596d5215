from __future__ import annotations

from typing import ClassVar

from et_core.testing.backbone.files import FileChecks
from et_core.testing.backbone.outputs import OutputChecks
from et_core.testing.backbone.training import TrainingChecks


class BackboneConformance(FileChecks, OutputChecks, TrainingChecks):
    """What every backbone promises: how it is built and saved, what it answers, and how it trains.

    A suite names the backbone and small sizes for it; what else it may set says ``BackboneSuite``.
    """

    minimum: ClassVar[int] = 17
