from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from et_core.config import RunConfig, check_arguments, load_config
from et_core.errors import AmbiguousNameError, ConfigError, EtError
from et_core.hooks import API_VERSION
from et_core.interfaces import Backbone, check_backbone_options, provided_by
from et_core.registry import GROUP, Entry, ModelRef, Plugin, plugins, registry
from et_core.registry import Status as PluginStatus
from et_core.sources import resolve
from et_core.testing.suite import CheckFailed, Conformance, check
from et_core.training import build_strategy, check_config
from et_core.training.setup import build_app
from et_core.training.vocabulary import TokenizerChoice

_HEAVY = ("torch", "transformers", "numpy", "pandas", "timm", "fairscale", "scipy", "sklearn", "PIL", "tokenizers")
_IMPORT = """
import json, sys, time
import et_core.hooks
start = time.perf_counter()
module = __import__({module!r}, fromlist=["_"])
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "heavy": [name for name in {heavy!r} if name in sys.modules]}}))
"""
_TOLD = '{"seconds": '
_BLOCK = re.compile(r"^```ya?ml\n(app:.*?)^```$", re.DOTALL | re.MULTILINE)


def _is_editable(suite: PluginConformance) -> str | None:
    # A build leaves metadata in the source folder, which Python finds first where it is started there.
    files = [str(file) for file in suite.distribution().files or ()] if suite.distribution().read_text("RECORD") else []
    packaged = any(file.endswith(".py") and "/" in file for file in files)
    return None if packaged else "it is installed as editable, so there is no wheel to look into"


class PluginConformance(Conformance):
    """What every plugin promises, whatever it registers. *name* is its distribution's."""

    kind: ClassVar[str] = "plugins"
    minimum: ClassVar[int] = 9

    import_budget_ms: float = 150.0
    """How long the module of its entry point may take to import: every command pays it."""

    @classmethod
    def title(cls) -> str:
        return f"plugin {cls.name}"

    @classmethod
    def plugin(cls) -> Plugin:
        return plugins().find(cls.name)

    @classmethod
    def distribution(cls) -> Distribution:
        return importlib.metadata.distribution(cls.name)

    @check()
    def it_loads(self) -> None:
        """A plugin that does not load registers nothing, and its users get "unknown name".

        ``et plugins list`` says why.
        """
        plugin = self.plugin()
        if plugin.status is not PluginStatus.OK:
            raise CheckFailed(plugin.problem)
        if not plugin.entries:
            raise CheckFailed(f"{plugin.provider} registers nothing. Mark its hooks with @hookimpl.")

    @check()
    def its_module_imports_fast_and_nothing_heavy(self) -> None:
        """Every command imports the module of every plugin's entry point, ``et --help`` too.

        Register strings there; import torch and the like in the modules that the strings name.
        """
        seconds = []
        for _ in range(3):
            found = _import_alone(self._module())
            if found["heavy"]:
                raise CheckFailed(f"{self._module()} imports {', '.join(found['heavy'])}.")
            seconds.append(found["seconds"])
            if seconds[-1] * 1000 <= self.import_budget_ms:
                return
        raise CheckFailed(
            f"{self._module()} takes {min(seconds) * 1000:.0f} ms to import, the best of {len(seconds)}; "
            f"{self.import_budget_ms:.0f} ms are allowed."
        )

    @check()
    def it_states_the_api_and_a_range_of_et_core(self) -> None:
        """Without an upper bound a release of et-core with another API breaks those who installed the plugin.

        Write ``"et-core>=0.1,<0.2"`` into its dependencies, with the version that it is tested with inside.
        """
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        version = importlib.metadata.version("et-core")
        if self.plugin().status is PluginStatus.INCOMPATIBLE:
            raise CheckFailed(self.plugin().problem)
        if self.plugin().distribution == "et-core":
            return
        asked = [Requirement(text) for text in self.distribution().requires or ()]
        core = [r for r in asked if canonicalize_name(r.name) == "et-core" and "extra" not in str(r.marker)]
        if not core:
            raise CheckFailed(f"{self.name} does not depend on et-core, whose plugin API {API_VERSION} it speaks.")
        if not any(spec.operator in ("<", "<=", "~=", "==") for found in core for spec in found.specifier):
            raise CheckFailed(f"{self.name} depends on {core[0]}, without an upper bound.")
        if not all(found.specifier.contains(version, prereleases=True) for found in core):
            raise CheckFailed(f"{self.name} depends on {core[0]}; et-core {version} is installed.")

    @check()
    def every_target_is_what_its_kind_asks_for(self) -> None:
        """A target that does not import fails in the user's run instead of here."""
        problems = []
        for entry in self.plugin().entries:
            try:
                entry.load()
            except EtError as error:
                problems.append(str(error))
        if problems:
            raise CheckFailed("\n".join(problems))

    @check()
    def its_names_are_its_own(self) -> None:
        """A name of two plugins has to be written with its distribution in every config.

        Choose another name, or state ``replaces`` where taking it over is the point.
        """
        for entry in self.plugin().entries:
            for name in (entry.name, *entry.aliases):
                others = [other for other in _namesakes(entry, name) if not _is_settled(entry, other)]
                if others:
                    raise CheckFailed(f"{entry.kind}: {name!r} is also registered by {others[0].provider}.")

    @check()
    def registering_again_gives_the_same(self) -> None:
        """A notebook looks for plugins again after an installation; names that come and go then break it."""
        from et_core.registry import PluginSet

        first = self.plugin()
        again = PluginSet(self._points(), only=plugins().only).find(self.name)
        if again.status is not first.status:
            problem = again.problem or first.problem
            raise CheckFailed(f"a second look finds it {again.status}, the first found it {first.status}: {problem}")
        if changed := set(again.entries) ^ set(first.entries):
            names = sorted(f"{entry.kind} {entry.name}" for entry in changed)
            raise CheckFailed(f"a second look finds other names: {', '.join(names)}.")

    @check()
    def the_configs_in_its_readme_work(self) -> None:
        """The README's block is what people paste first. It has one at least, that starts with ``app:``.

        Every name and setting in it is looked up. Files that it names, such as data and weights, need not be there.
        """
        blocks = _BLOCK.findall(self._readme())
        if not blocks:
            raise CheckFailed("its README has no yaml block that starts with 'app:'.")
        for block in blocks:
            _try_config(block, self.folder())

    @check()
    def its_components_have_suites(self) -> None:
        """What no suite is about is checked as it comes, or not at all where it needs options.

        Add a class for it to the module that ET_CONFORMANCE names, and import it in a test.
        """
        from et_core.testing.suites import suites_in, without_suite

        plugin = self.plugin()
        declared = suites_in(importlib.import_module(plugin.conformance)) if plugin.conformance else []
        missing = [f"{entry.kind} {entry.name}" for entry in without_suite(plugin, declared)]
        if missing:
            where = plugin.conformance or "any module: _plugin.py states no ET_CONFORMANCE"
            raise CheckFailed(f"{', '.join(missing)}: no suite in {where}.")

    @check(unless=_is_editable)
    def its_wheel_is_typed_and_without_tests(self) -> None:
        """Without py.typed the types of a plugin are ignored; tests in a wheel are installed as a package "tests"."""
        files = [Path(str(file)) for file in self.distribution().files or ()]
        if not any(file.name == "py.typed" for file in files):
            raise CheckFailed("its wheel has no py.typed. Add an empty one, and name it under package-data.")
        tests = [file for file in files if "tests" in file.parts or file.name.startswith("test_")]
        if tests:
            raise CheckFailed(f"its wheel holds {tests[0]}. Name the packages: include = ['acme_models*'].")

    @classmethod
    def _points(cls) -> list[Any]:
        return list(cls.distribution().entry_points.select(group=GROUP))

    @classmethod
    def _module(cls) -> str:
        name: str = cls._points()[0].value.partition(":")[0]
        return name

    @classmethod
    def _readme(cls) -> str:
        """The README as the distribution's metadata holds it, or as it is now where the installation is editable."""
        origin = json.loads(cls.distribution().read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            readme = Path(url2pathname(urlsplit(origin["url"]).path)) / "README.md"
            return readme.read_text("utf-8") if readme.is_file() else ""
        metadata: Any = cls.distribution().metadata
        return str(metadata.get_payload() or metadata.get("Description") or "")


def _import_alone(module: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = _IMPORT.format(module=module, heavy=_HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    told = done.stdout.splitlines()[-1:]  # what is printed before is the module's own
    if done.returncode or not told or not told[0].startswith(_TOLD):
        said = done.stderr.strip().splitlines()[-1:] or [f"Python ends with status {done.returncode} and says nothing."]
        raise CheckFailed(f"{module} fails to import: {said[0]}")
    found: dict[str, Any] = json.loads(told[0])
    return found


def _namesakes(entry: Entry, name: str) -> list[Entry]:
    return [
        other
        for other in registry(entry.kind).entries
        if other.distribution != entry.distribution and name in (other.name, *other.aliases)
    ]


def _is_settled(entry: Entry, other: Entry) -> bool:
    # Two that replace each other cancel out, and the name is of both again.
    return (entry.replaces == other.distribution) != (other.replaces == entry.distribution)


def _try_config(block: str, folder: Path) -> None:
    path = Path(tempfile.mkdtemp(dir=folder)) / "run.yaml"
    path.write_text(block, "utf-8")
    first = block.splitlines()[1] if block.startswith("app:\n") else block.splitlines()[0]
    try:
        config = load_config(path).config
        check_config(config)
        _check_parts(config)
    except EtError as error:
        raise CheckFailed(f"the config with {first.strip()!r} in its README fails: {error}") from error


def _check_parts(config: RunConfig) -> None:
    """What ``check_config`` leaves to a run, as far as no file has to be there: weights may not be on this machine."""
    needs = build_app(config).needs
    build_strategy(config)
    ref = ModelRef.parse(config.model.ref)
    told = _family_of(ref)  # which finds the reference too, so also where the config names a family
    family = config.model.family or told
    backbone: type[Backbone] | None = registry("backbones").get(family) if family else None
    if family and backbone is not None:
        check_backbone_options(family, config.model.options)
        if missing := needs - provided_by(backbone):
            raise ConfigError(
                f"app={config.app.name} needs {', '.join(sorted(missing))} of its model; "
                f"{family} provides {', '.join(sorted(backbone.provides))}."
            )
    _check_tokenizer(config, ref, backbone)


def _family_of(ref: ModelRef) -> str | None:
    """The family of *ref*, or None where only the files of the model say it."""
    registry("sources").find(ref.source)
    match ref.source:
        case "init":
            return resolve(ref).family
        case "zoo":
            presets = registry("presets")
            preset: Any = presets.get(ref.target)
            try:
                registry("backbones").find(preset.family)
            except AmbiguousNameError:
                return f"{presets.find(ref.target).distribution}/{preset.family}"
            return str(preset.family)
    return None


def _check_tokenizer(config: RunConfig, ref: ModelRef, backbone: type[Backbone] | None) -> None:
    settings, tokenizers = config.model.tokenizer, registry("tokenizers")
    if settings.ref is not None:
        _family_of(ModelRef.parse(settings.ref))
    elif backbone is not None and ref.source == "init":
        TokenizerChoice(config, backbone, resolve(ref))
        return
    name = settings.name or (None if backbone is None else backbone.tokenizer)
    if name is not None:
        fit, entry = tokenizers.get(name).fit, tokenizers.find(name)
        owner = f"{entry.name} ({entry.provider})"
        check_arguments(fit, settings.options, where="model.tokenizer", owner=owner, given=("texts",))
