"""What every tokenizer promises."""

from et_core.testing.tokenizer.checks import TokenizerConformance

__all__ = ["TokenizerConformance"]
