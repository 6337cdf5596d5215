"""What every backbone promises."""

from et_core.testing.backbone.checks import BackboneConformance

__all__ = ["BackboneConformance"]
