"""What every objective promises."""

from et_core.testing.objective.checks import ObjectiveConformance

__all__ = ["ObjectiveConformance"]
