"""et: plugin-based transfer learning for language and image-language models.

    import et_core as et

    run = et.train("sst2.yaml", {"train.epochs": 1})
    run.metrics
    run.predict(["a charming and often affecting journey"])
"""

from et_core._lazy import exports

_ORIGINS = {
    "EtError": "et_core.errors",
    "ModelRef": "et_core.registry",
    "Run": "et_core.inference",
    "load": "et_core.api",
    "plugins": "et_core.registry",
    "registry": "et_core.registry",
    "resolve": "et_core.api",
    "train": "et_core.api",
}

__all__ = sorted(_ORIGINS)  # pyright: ignore[reportUnsupportedDunderAll]
__getattr__, __dir__ = exports(__name__, _ORIGINS)
