"""What every distiller promises."""

from et_core.testing.distiller.checks import DistillerConformance

__all__ = ["DistillerConformance"]
