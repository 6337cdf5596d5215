from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from et_core.errors import AmbiguousNameError, ArtifactError, PluginError, RefError, UnknownNameError
from et_core.interfaces.artifact import Artifact
from et_core.interfaces.preset import Preset, Provider
from et_core.interfaces.source import Source
from et_core.registry import Entry, ModelRef, Registry, registry
from et_core.sources.files import LAYOUT, read_folder

if TYPE_CHECKING:
    from et_core.sources.hub import HubSource

MIRROR = "ET_ZOO_DIR"

_log = logging.getLogger("et")


class _NotHereError(Exception):
    """This place does not have the files; the next one may. *remedy* says how to fill it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class ZooSource(Source):
    """``name@zoo``: a preset that a plugin registers, from the first place that has it.

    Tried in order: the folder ``$ET_ZOO_DIR/<name>``, then the preset's providers. A place that has the files, but
    broken ones, ends the search: nothing is silently replaced by a download.
    """

    def __init__(self, *, hub: HubSource | None = None) -> None:
        self._hub = hub

    def resolve(self, ref: ModelRef) -> Artifact:
        if ref.revision:
            raise RefError(
                f"{str(ref)!r} has a revision, but the plugin that registers a preset pins its files. "
                f"Write '{ref.target}@zoo', or name the repository itself: 'org/repo@hf:{ref.revision}'."
            )
        presets = registry("presets")
        entry = _find(presets, ref.target)
        found: Any = presets.get(ref.target)
        preset: Preset = replace(found, family=_family(entry, found))
        canonical = ModelRef(entry.qualified if "/" in ref.target else entry.name, ref.source)
        tried: list[str] = []
        for place, look in self._places(canonical, preset):
            try:
                return look()
            except _NotHereError as error:
                tried.append(f"  {place}: {error.reason}\n    -> {error.remedy}")
        raise ArtifactError("\n".join([f"{str(canonical)!r} was found in none of {len(tried)} places:", *tried]))

    def _places(self, ref: ModelRef, preset: Preset) -> list[tuple[str, Callable[[], Artifact]]]:
        places: list[tuple[str, Callable[[], Artifact]]] = [("mirror folder", lambda: _from_mirror(ref, preset))]
        for provider in preset.providers:
            places.append(self._place(ref, preset, provider))
        return places

    def _place(self, ref: ModelRef, preset: Preset, provider: Provider) -> tuple[str, Callable[[], Artifact]]:
        match provider.kind:
            case "package":
                return f"package {provider.module}", lambda: _from_package(ref, preset, provider)
            case "hub":
                return f"Hub repository {provider.repo}", lambda: self._from_hub(ref, preset, provider)
            case "fresh":
                return "fresh weights", lambda: _fresh(ref, preset, provider)
        raise PluginError(f"preset {preset.name!r} has a provider of the unknown kind {provider.kind!r}.")

    def _from_hub(self, ref: ModelRef, preset: Preset, provider: Provider) -> Artifact:
        from et_core.sources.hub import HubSource, NotFetchedError

        hub = self._hub or HubSource()
        at_hub = ModelRef(provider.repo, "hf", provider.commit)
        try:
            artifact = hub.fetch(at_hub, sha256=provider.sha256 if provider.commit else None)
        except NotFetchedError as error:
            raise _NotHereError(error.reason, error.remedy) from error
        if provider.commit is None:
            _log.warning("%s is not pinned to a commit yet; this run uses %s.", ref, artifact.ref)
        # Unpinned, only the Hub's own reference says which files were used.
        return replace(
            artifact,
            ref=ref if provider.commit else artifact.ref,
            family=preset.family,
            license=preset.license,
        )


def _find(presets: Registry[Any], name: str) -> Entry:
    try:
        return presets.find(name)
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{error}\nA Hub repository is written 'org/repo@hf', a folder of a model './dir@local'."
        ) from error


def _family(entry: Entry, preset: Preset) -> str:
    """Of several families of that name the one that the preset's own plugin registers."""
    families, own = registry("backbones"), f"{entry.distribution}/{preset.family}"
    try:
        families.find(preset.family)
    except AmbiguousNameError:
        return own if own in families else preset.family
    except UnknownNameError:
        pass  # told where it is built, with the name of the preset
    return preset.family


def _from_mirror(ref: ModelRef, preset: Preset) -> Artifact:
    root = os.environ.get(MIRROR)
    if not root:
        raise _NotHereError(f"{MIRROR} is not set.", f"export {MIRROR}=/models   # with /models/{preset.name}/{LAYOUT}")
    folder = Path(root).expanduser() / preset.name
    if not folder.is_dir():
        raise _NotHereError(f"there is no folder {folder}.", f"Fill it: {folder}/{LAYOUT}")
    return _from_folder(ref, preset, folder, origin=f"mirror folder {folder}")


def _from_package(ref: ModelRef, preset: Preset, provider: Provider) -> Artifact:
    folder = _package_folder(provider)
    return _from_folder(ref, preset, folder, origin=f"package {provider.module}")


def _fresh(ref: ModelRef, preset: Preset, provider: Provider) -> Artifact:
    tokenizer = _package_folder(provider) if provider.module else None
    return Artifact(
        ref, preset.family, preset.config, tokenizer=tokenizer, license=preset.license, origin="fresh weights"
    )


def _from_folder(ref: ModelRef, preset: Preset, folder: Path, *, origin: str) -> Artifact:
    files = read_folder(folder, label=repr(str(ref)))
    return Artifact(ref, preset.family, files.config, files.weights, files.tokenizer, preset.license, origin=origin)


def _package_folder(provider: Provider) -> Path:
    # Found without importing it: packages of weights import whole frameworks.
    spec = importlib.util.find_spec(provider.module)
    remedy = provider.install or f"Install the package that has the module {provider.module}."
    if spec is None or not spec.submodule_search_locations:
        raise _NotHereError("it is not installed.", remedy)
    folder = Path(next(iter(spec.submodule_search_locations))) / provider.folder
    if not folder.is_dir():
        raise _NotHereError(f"it is installed, but without the folder {folder}.", remedy)
    return folder
