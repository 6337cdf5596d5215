from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from et_core.config import ComponentConfig, check_arguments
from et_core.interfaces.app import App
from et_core.interfaces.artifact import Artifact
from et_core.interfaces.augmenter import Augmenter
from et_core.interfaces.backbone import Backbone
from et_core.interfaces.distiller import Distiller
from et_core.interfaces.model import Model
from et_core.interfaces.tokenizer import Tokenizer
from et_core.registry import registry


def build_component(kind: str, config: ComponentConfig, *, where: str, **given: Any) -> Any:
    """Build what *config* names among the *kind* ("apps", "strategies", ...), with its options and *given* keywords.

    *where* is the config's section, for messages. ConfigError for an option that the component does not take.
    """
    options = check_options(kind, config, where=where, given=given)
    return registry(kind).create(config.name, **given, **options)


def check_options(kind: str, config: ComponentConfig, *, where: str, given: Iterable[str] = ()) -> dict[str, Any]:
    """The options of *config*, converted to what the component takes besides what is *given* to it."""
    return _checked(kind, config.name, registry(kind).get(config.name), config.options, where=where, given=given)


def check_backbone_options(family: str, options: Mapping[str, Any]) -> Any:
    """A user's *options* as the ``Options`` of the backbone *family*; ConfigError for one that it does not take."""
    options_class = registry("backbones").get(family).Options
    checked = _checked("backbones", family, options_class, options, where="model")
    return registry("backbones").find(family).call(options_class, **checked)


def build_backbone(
    family: str, options: Mapping[str, Any], *, tokenizer: Tokenizer, artifact: Artifact | None = None
) -> Backbone:
    """Build the backbone *family* with a user's *options* and, where given, the config and weights of *artifact*."""
    checked = check_backbone_options(family, options)
    found = registry("backbones")
    backbone: Backbone = found.find(family).call(
        found.get(family).build, checked, tokenizer=tokenizer, artifact=artifact
    )
    backbone.family, backbone.options = found.find(family).qualified, dict(options)
    return backbone


def build_model(backbone: Backbone, apps: Mapping[str, App]) -> Model:
    """A model with the head of each task's app; what none of the heads needs of *backbone* is dropped."""
    heads = {task: app.head().build(backbone) for task, app in apps.items()}
    pairs = frozenset({"pairs"}) if any(app.reads_pairs for app in apps.values()) else frozenset[str]()
    backbone.restrict(pairs.union(*(head.needs for head in heads.values())))
    return Model(backbone, heads)


def build_distiller(config: ComponentConfig, *, where: str, student: Model, teacher: Model) -> Distiller:
    """Build the distiller that *config* names, which gets *student* and *teacher* where its constructor names them."""
    named = inspect.signature(registry("distillers").get(config.name)).parameters
    given = {name: model for name, model in (("student", student), ("teacher", teacher)) if name in named}
    distiller: Distiller = build_component("distillers", config, where=where, **given)
    return distiller


def build_augmenter(config: ComponentConfig, *, where: str, teacher: Model, tokenizer: Tokenizer) -> Augmenter:
    """Build the augmenter that *config* names, with *teacher* and *tokenizer* where its constructor names them."""
    named = inspect.signature(registry("augmenters").get(config.name)).parameters
    given = {name: part for name, part in (("teacher", teacher), ("tokenizer", tokenizer)) if name in named}
    augmenter: Augmenter = build_component("augmenters", config, where=where, **given)
    return augmenter


def _checked(
    kind: str,
    name: str,
    target: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    where: str,
    given: Iterable[str] = (),
) -> dict[str, Any]:
    entry = registry(kind).find(name)
    owner = f"{entry.name} ({entry.provider})"
    return check_arguments(target, options, where=where, owner=owner, given=tuple(given))
