"""What every head promises."""

from et_core.testing.head.checks import HeadConformance

__all__ = ["HeadConformance"]
