"""What a plugin subclasses, and the data that passes between the parts of a run."""

from et_core._lazy import exports

_ORIGINS = {
    name: f"et_core.interfaces.{module}"
    for module, names in {
        "app": ("App", "HeadSpec", "LossSpec", "Role"),
        "artifact": ("Artifact",),
        "backbone": ("Backbone", "Generates"),
        "distiller": ("Distiller", "Observed"),
        "evaluation": ("Evaluation", "Metric"),
        "example": ("Example", "Row"),
        "figures": ("Bars", "Examples", "Figure", "Matrix", "Scatter"),
        "head": ("Head",),
        "inputs": ("Batch", "Features", "Inputs", "Text"),
        "loss": ("Loss",),
        "model": ("Model",),
        "objective": ("Objective", "Phase", "Step", "Term"),
        "optimization": ("OptimizerFactory", "Schedule"),
        "preset": ("Preset", "Provider"),
        "source": ("Source",),
        "strategy": ("Prepared", "Strategy"),
        "tokenizer": ("Encoded", "Tokenizer"),
        "tracker": ("Tracker",),
    }.items()
    for name in names
}

__all__ = sorted(_ORIGINS)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__, __dir__ = exports(__name__, _ORIGINS)
