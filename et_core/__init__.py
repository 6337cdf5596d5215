"""et: plugin-based transfer learning for language and image-language models.

import et_core as et

run = et.train("sst2.yaml", {"train.epochs": 1})
run.metrics
run.predict(["a charming and often affecting journey"])
"""

from typing import TYPE_CHECKING

from et_core._lazy import exports

if TYPE_CHECKING:
    from et_core.api import distill, load, resolve, train
    from et_core.errors import EtError
    from et_core.inference import Run
    from et_core.registry import ModelRef, plugins

__all__ = [
    "EtError",
    "ModelRef",
    "Run",
    "distill",
    "load",
    "plugins",
    "resolve",
    "train",
]

_ORIGINS = {
    "EtError": "et_core.errors",
    "ModelRef": "et_core.registry",
    "Run": "et_core.inference",
    "distill": "et_core.api",
    "load": "et_core.api",
    "plugins": "et_core.registry",
    "resolve": "et_core.api",
    "train": "et_core.api",
}

__getattr__, __dir__ = exports(__name__, _ORIGINS)
