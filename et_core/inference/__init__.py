"""Using a trained model: loading a run, running examples through it, evaluating and predicting."""

from et_core.inference.engine import Engine
from et_core.inference.evaluate import evaluate
from et_core.inference.run import Run, Written

__all__ = ["Engine", "Run", "Written", "evaluate"]
