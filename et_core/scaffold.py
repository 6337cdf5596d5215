"""A new plugin: a package with one working component, written from the templates."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from et_core.errors import ConfigError, PluginError
from et_core.hooks import API_VERSION
from et_core.registry import KINDS, Kind, did_you_mean, plugins

_CORE = Path(__file__).resolve().parent
_PACKAGE, _TESTS = "PACKAGE/", "TESTS/"
"""Folders in the templates. A wheel of et-core that held files of tests would be taken for one with its own."""

_ABOUT, _RENDERED = "about.toml", ".j2"
_DISTRIBUTION = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_COMPONENT = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")

Render = Callable[[str, Mapping[str, Any]], str]


@dataclass(frozen=True)
class NewPlugin:
    """A package that can be written; *values* is what its templates are filled with."""

    distribution: str
    kind: Kind
    component: str
    values: Mapping[str, Any]

    @classmethod
    def named(cls, distribution: str, *, kind: str | None, component: str | None = None) -> NewPlugin:
        """ConfigError or PluginError where a name cannot be used; *component* is by default one for the *kind*."""
        _check_distribution(distribution)
        found = _find_kind(kind)
        about = tomllib.loads((_templates() / "kinds" / found.name / _ABOUT).read_text("utf-8"))
        component = component or f"{distribution.removeprefix('et-').partition('-')[0]}-{about['name']}"
        _check_component(found, component)
        names = {
            "distribution": distribution,
            "package": _package(distribution),
            "name": component,
            "kind": found.name,
            "plural": found.plural,
            "api": API_VERSION,
        }
        suites = sorted({"PluginConformance", about["suite"]} - {""})
        render = _renderer()
        texts = {key: render(value, names).strip() for key, value in about.items() if isinstance(value, str)}
        return cls(distribution, found, component, {**about, **texts, **names, "suites": suites})

    @property
    def next_commands(self) -> list[str]:
        """What to do in the folder that was written."""
        check = f"et plugins check {self.distribution}"
        return ["pip install -e '.[test]'", "pytest", check, *self.values["train"].splitlines()]

    def write(self, folder: Path) -> list[str]:
        """Write all files into *folder*, which must not exist; what was written, by its path in there."""
        if folder.exists():
            raise ConfigError(f"{folder} exists already. Remove it, or write somewhere else: --folder FOLDER")
        files = self._files()
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8")
        return list(files)

    def _files(self) -> dict[str, str]:
        render = _renderer()
        files = {}
        for source in (_templates() / "shared", _templates() / "kinds" / self.kind.name):
            for path in source.rglob("*"):
                name = path.relative_to(source).as_posix()
                if path.is_file() and name != _ABOUT and "__pycache__" not in path.parts:
                    name = name.replace(_PACKAGE, f"{self.values['package']}/").replace(_TESTS, "tests/test_")
                    text = path.read_text("utf-8")
                    rendered = render(text, self.values) if path.suffix == _RENDERED else text
                    files[name.removesuffix(_RENDERED)] = rendered
        return dict(sorted(files.items()))


def _templates() -> Path:
    """In an installed et-core a part of the package; in a checkout beside it, at the root of the repository."""
    packed = _CORE / "templates" / "plugin"
    return packed if packed.is_dir() else _CORE.parent / "templates" / "plugin"


def _renderer() -> Render:
    from jinja2 import Environment, StrictUndefined  # of all commands, only this one needs it

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return lambda text, values: environment.from_string(text).render(values)


def _package(distribution: str) -> str:
    return distribution.replace("-", "_")


def _check_distribution(name: str) -> None:
    if not _DISTRIBUTION.fullmatch(name):
        canonical = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        meant = f" Did you mean {canonical!r}?" if _DISTRIBUTION.fullmatch(canonical) else ""
        raise ConfigError(
            f"{name!r} cannot be the name of a plugin.{meant}\n"
            "Names are lower case letters and digits, joined by single '-', and begin with a letter: acme-models."
        )
    package = _package(name)
    if keyword.iskeyword(package):
        raise ConfigError(f"{name!r} cannot be the name of a plugin: its package would be a word of Python's own.")
    plugin = plugins().get(name)
    if plugin is not None:
        raise PluginError(f"{name} is a plugin that is installed already: {plugin.provider}. Choose another name.")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        raise PluginError(f"{name} is a package that is installed already: {name} {version}. Choose another name.")
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:  # without an origin: a mere folder
        raise PluginError(
            f"the package of {name} would be {package}, which imports another one already. Choose another name."
        )


def _find_kind(name: str | None) -> Kind:
    known = sorted(path.name for path in (_templates() / "kinds").iterdir())
    if name is None:
        raise ConfigError(f"--kind is missing: what the plugin adds. Kinds: {', '.join(known)}.")
    if name not in known:
        raise ConfigError(
            f"there is no template for the kind {name!r}.{did_you_mean(name, known)} Kinds: {', '.join(known)}."
        )
    return next(kind for kind in KINDS.values() if kind.name == name)


def _check_component(kind: Kind, name: str) -> None:
    if not _COMPONENT.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a {kind.name}. "
            "Names are lower case letters and digits, joined by single '-' or '.'."
        )
    found = plugins().registry(kind.plural)
    taken = next((entry for entry in found.entries if name in (entry.name, *entry.aliases)), None)
    if taken is not None:
        raise PluginError(
            f"the {kind.name} {name!r} is registered by {taken.provider} already. Choose another: --name NAME"
        )
