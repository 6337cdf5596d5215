from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from et_core.hooks import API_VERSION, HookSpecs, Register
from et_core.registry import KINDS, Status, resolve_target
from tests.fake_dists import fake_dist, load, on_path, registering

DOCS = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text("utf-8")
SPECS = {name: spec for name, spec in vars(HookSpecs).items() if name.startswith("et_")}
HEAD = "from et_core.hooks import Register, hookimpl\nET_API = 1\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with on_path(tmp_path):
        yield tmp_path


def arguments(function: object) -> str:
    names = [p for name, p in inspect.signature(function).parameters.items() if name != "self"]  # type: ignore[arg-type]
    return ", ".join(str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in names)


def section(hook: str) -> str:
    found = re.search(rf"^## `{hook}\(.*?(?=^## |\Z)", DOCS, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_there_is_one_hook_for_each_kind() -> None:
    assert list(SPECS) == [kind.hook for kind in KINDS.values()]


def test_every_hook_is_documented_with_its_exact_arguments() -> None:
    written = re.findall(r"^## `(et_\w+)\((.*)\)`$", DOCS, re.MULTILINE)
    assert written == [(name, arguments(spec)) for name, spec in SPECS.items()]


def test_the_documented_arguments_of_register_are_those_of_the_code() -> None:
    signature = inspect.signature(Register.__call__)
    words = arguments(Register.__call__).replace("name, target, ", "name, target, *, ")
    assert f"`register({words})`" in DOCS
    rows = re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE)
    assert rows == [name for name in signature.parameters if name != "self"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.plural)
def test_the_documented_example_of_a_hook_registers(site: Path, kind: object) -> None:
    hook, plural, interface = (getattr(kind, name) for name in ("hook", "plural", "interface"))
    text = section(hook)
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code) == 1
    fake_dist(site, "et-acme", module_source=HEAD + code[0])
    plugin = load(site).find("et-acme")
    assert (plugin.status, plugin.reason) == (Status.OK, "")
    assert {entry.kind for entry in plugin.entries} == {plural}
    assert f"`et_core.interfaces.{interface.rpartition(':')[2]}`" in text
    assert " ".join((SPECS[hook].__doc__ or "").replace("``", "`").split()) in " ".join(text.split())


def test_the_first_example_is_a_whole_plugin_module(site: Path) -> None:
    whole = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)[0]
    assert f"ET_API = {API_VERSION}\n" in whole
    fake_dist(site, "et-acme", module_source=whole)
    assert load(site).registry("backbones").names() == ["acme"]


@pytest.mark.parametrize("plural", KINDS)
def test_every_hook_fills_the_registry_of_its_kind(site: Path, plural: str) -> None:
    row = 'register("one", "a:b", summary="S", aliases=("two",), replaces="Et_X", deprecated="use it")'
    fake_dist(site, "et-acme", version="2.1", module_source=registering(row, kind=plural))
    found = load(site)
    entry = found.registry(plural).find("two")
    assert (entry.kind, entry.name, entry.target, entry.provider) == (plural, "one", "a:b", "et-acme 2.1")
    assert (entry.summary, entry.aliases, entry.replaces, entry.deprecated) == ("S", ("two",), "et-x", "use it")
    assert all(found.registry(other).names() == [] for other in KINDS if other != plural)


def test_a_hook_may_take_no_argument(site: Path) -> None:
    source = registering().replace("(register)", "()")
    fake_dist(site, "et-acme", module_source=source)
    assert load(site).find("et-acme").status is Status.OK


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.plural)
def test_every_kind_has_an_interface_that_imports(kind: object) -> None:
    assert inspect.isclass(resolve_target(kind.interface))  # type: ignore[attr-defined]
