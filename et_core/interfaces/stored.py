from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from et_core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from et_core.interfaces.artifact import Artifact
    from et_core.interfaces.backbone import Backbone


def load_weights(backbone: Backbone, artifact: Artifact) -> None:
    """Copy the weights of a model folder that et wrote into *backbone*, by the names of its ``layout``.

    ArtifactError, with nothing copied, where a tensor is missing, left over or of another shape.
    """
    stored: dict[str, Tensor] = {}
    for path in artifact.weights:
        try:
            stored |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}") from error
    wanted = backbone.layout({})
    shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in (wanted, stored)]
    wrong = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
    if wrong:
        family = artifact.config.get("model_type", "model")
        raise ArtifactError(
            f"the weights in {artifact.folder} are not those of the {family} that its config.json describes: "
            f"{len(wrong)} tensors are missing, left over or of another shape, such as {wrong[0]!r}."
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(stored[name])


def check_stored(options: Any, artifact: Artifact, *, free: Container[str] = ()) -> None:
    """ConfigError where *options*, a dataclass, name another value than the config of *artifact*'s weights has.

    Options that are None, and *free* ones, which say nothing about the shape of weights, are passed over.
    """
    stored: Mapping[str, Any] = artifact.config
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in free or value is None or value == stored.get(field.name):
            continue
        raise ConfigError(
            f"model.{field.name} is {value}, but the weights have {stored.get(field.name)}. Leave it out, or start "
            f"from fresh weights with {stored['model_type']}@init."
        )
