"""What every strategy promises."""

from et_core.testing.strategy.checks import StrategyConformance

__all__ = ["StrategyConformance"]
