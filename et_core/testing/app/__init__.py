"""What every app promises."""

from et_core.testing.app.checks import AppConformance

__all__ = ["AppConformance"]
