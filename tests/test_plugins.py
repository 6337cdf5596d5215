from __future__ import annotations

import importlib.metadata
import itertools
import json
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from et_core.errors import AmbiguousNameError, ConfigError, PluginError, UnknownNameError
from et_core.registry import GROUP, KINDS, PluginSet, Status
from tests.fake_dists import EMPTY_PLUGIN, fake_dist, load, on_path, registering, run_python

GOOD = registering('register("good", "et_good.model:Good", summary="A good one")', kind="sources")
MODEL = """
from et_core.interfaces import Source

class Good(Source):
    def resolve(self, ref):
        return ref
"""
FLAWED = {
    "et-broken": "import fairscale_is_absent\n",
    "et-old": registering('register("old", "a:b", summary="Old")', api=0),
    "et-new": registering('register("new", "a:b", summary="New")', api=2),
    "et-half": registering('register("half", "a:b", summary="Half")', "1 / 0"),
    "et-typo": registering('register("typo", "a:b", summary="Typo")').replace("backbones", "backbonse"),
    "et-bare": EMPTY_PLUGIN + "\ndef et_register_heads(register):\n    pass\n",
    "et-argument": registering().replace("(register)", "(registry, register)"),
    "et-silent": "",
    "et-words": "ET_API = '1'\n",
    "et-exits": "raise SystemExit('bye')\n",
    "et-twice": registering(*(f'register("one", "a:{target}", summary="One")' for target in "bc")),
    "et-kwarg": registering('register("one", "a:b", sumary="One")'),
    "et-nameless": registering('register("One", "a:b", summary="One")'),
    "et-mimic": "from et_core.errors import PluginError\nraise PluginError('et-mimic 0.9 is out of order')\n",
    "et-truth": "ET_API = True\n",
    "et-number": registering('register(3, "a:b", summary="Three")'),
    "et-panics": "class Panic(BaseException):\n    pass\n\nraise Panic('in Rust')\n",
    "et-yields": registering("yield"),
    "et-partial": EMPTY_PLUGIN + "from functools import partial\net_register_heads = partial(print)\n",
    "et-foreign": registering().replace("et_register_backbones", "pytest_configure"),
}
CORE = importlib.metadata.version("et-core")
REASONS = {
    "et-broken": "failed to load: ModuleNotFoundError: No module named 'fairscale_is_absent'",
    "et-old": f"speaks plugin API 0; et-core {CORE} speaks 1. "
    "Upgrade et-old, or install a version of et-core that speaks 0.",
    "et-new": f"speaks plugin API 2; et-core {CORE} speaks 1. "
    "Upgrade et-core, or install a version of et-new that speaks 1.",
    "et-half": "failed to load: ZeroDivisionError: division by zero",
    "et-typo": "defines the unknown hook 'et_register_backbonse'. Did you mean 'et_register_backbones'?",
    "et-bare": "defines et_register_heads without @hookimpl, so it would never be called.",
    "et-argument": "defines et_register_backbones(registry, register), but the hook hands out no 'registry'. "
    "Write et_register_backbones(register).",
    "et-silent": "states no ET_API in et_silent._plugin. Add the line: ET_API = 1",
    "et-words": "states ET_API = '1'. Write a whole number: ET_API = 1",
    "et-exits": "failed to load: SystemExit: bye",
    "et-twice": "registers the backbone name 'one' twice.",
    "et-kwarg": "failed to load: TypeError: _Staging.register() got an unexpected keyword argument 'sumary'",
    "et-truth": "states ET_API = True. Write a whole number: ET_API = 1",
    "et-number": "registers a backbone with name=3, of type int. It is text.",
    "et-panics": "failed to load: Panic: in Rust",
    "et-yields": "defines et_register_backbones as a generator, which registers nothing. Write it without 'yield'.",
    "et-partial": "defines et_register_heads without @hookimpl, so it would never be called.",
    "et-nameless": "registers the backbone name 'One'. "
    "Names are lower case letters and digits, joined by single '-' or '.'.",
    "et-mimic": "failed to load: PluginError: et-mimic 0.9 is out of order",
    "et-foreign": "defines the unknown hook 'pytest_configure'. "
    f"Hooks: {', '.join(sorted(kind.hook for kind in KINDS.values()))}.",
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with on_path(tmp_path):
        yield tmp_path


def bert(folder: Path, name: str, details: str = "") -> None:
    package = name.replace("-", "_")
    fake_dist(folder, name, module_source=registering(f'register("bert", "{package}:Bert", summary="B"{details})'))


@pytest.mark.parametrize("name", sorted(FLAWED))
def test_a_flawed_plugin_does_not_hide_the_good_one(site: Path, name: str) -> None:
    fake_dist(site, "et-good", module_source=GOOD, files={"model.py": MODEL})
    fake_dist(site, name, version="0.9", module_source=FLAWED[name])
    found = load(site)

    plugin = found.find(name)
    assert plugin.status is (Status.INCOMPATIBLE if name in ("et-old", "et-new") else Status.BROKEN)
    assert plugin.reason == REASONS[name]
    assert plugin.problem == f"{name} 0.9 {REASONS[name]}"
    assert plugin.entries == ()
    assert plugin.error is not None
    assert found.find("et-good").status is Status.OK
    assert found.registry("sources").get("good").__name__ == "Good"
    assert found.registry("backbones").names() == []


def test_real_discovery_reports_all_four_states(tmp_path: Path) -> None:
    fake_dist(tmp_path, "et-good", module_source=GOOD, files={"model.py": MODEL})
    for name in ("et-broken", "et-half", "et-old", "et-typo"):
        fake_dist(tmp_path, name, module_source=FLAWED[name])
    fake_dist(tmp_path, "et-left-out", module_source="raise AssertionError('a disabled plugin is not imported')")
    code = """
        import json
        from et_core.registry import plugins
        print(json.dumps({p.distribution: [p.status, p.reason] for p in plugins().plugins}))
        print(plugins().registry("sources").get("good").__name__)
    """
    limit = "et-good,et-broken,et-half,et-old,et-typo"
    done = run_python(textwrap.dedent(code), tmp_path, environment={"ET_PLUGINS": limit})
    assert done.stderr == ""
    states, name = done.stdout.splitlines()
    told = json.loads(states)
    assert name == "Good"
    assert told["et-good"] == ["ok", ""]
    assert told["et-broken"] == ["broken", REASONS["et-broken"]]
    assert told["et-half"] == ["broken", REASONS["et-half"]]
    assert told["et-old"] == ["incompatible", REASONS["et-old"]]
    assert told["et-typo"] == ["broken", REASONS["et-typo"]]
    assert told["et-left-out"] == ["disabled", f"is left out by ET_PLUGINS='{limit}'."]


def test_every_plugin_broken_still_gives_a_list_and_an_error_of_its_own(site: Path) -> None:
    for name, source in FLAWED.items():
        fake_dist(site, name, module_source=source)
    found = load(site)
    assert [plugin.distribution for plugin in found.plugins] == sorted(FLAWED)
    assert {plugin.status for plugin in found.plugins} == {Status.BROKEN, Status.INCOMPATIBLE}
    assert all(found.registry(kind).names() == [] for kind in KINDS)
    with pytest.raises(
        UnknownNameError, match=r"^unknown head 'crf'\.\nNo installed plugin registers any head\.\nNot lo"
    ):
        found.registry("heads").find("crf")


def test_an_unknown_name_never_shows_another_plugins_error(site: Path) -> None:
    bert(site, "et-bert")
    fake_dist(site, "et-broken", module_source=FLAWED["et-broken"])
    fake_dist(site, "et-old", module_source=FLAWED["et-old"])
    with pytest.raises(UnknownNameError) as caught:
        load(site, only=["et-bert", "et-broken", "et-old", "et-absent"]).registry("backbones").find("t5")
    assert str(caught.value) == (
        "unknown backbone 't5'.\n"
        "Registered backbones: bert.\n"
        "Not loaded: et-broken (broken), et-old (incompatible), et-absent (not installed). See: et plugins list"
    )
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_the_order_on_the_path_never_decides_between_two_plugins(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    bert(folders[0], "et-bert")
    bert(folders[1], "acme-bert")
    texts = []
    for order in itertools.permutations(folders):
        with on_path(*order), pytest.raises(AmbiguousNameError) as caught:
            load(*order).registry("backbones").find("bert")
        texts.append(str(caught.value))
    assert (
        texts
        == [
            "backbone 'bert' is registered by 2 installed plugins. Say which one, or uninstall the other:\n"
            "  acme-bert/bert   (acme-bert 1.0)\n"
            "  et-bert/bert   (et-bert 1.0)"
        ]
        * 2
    )


@pytest.mark.parametrize("written", ["et-bert", "ET_Bert"])
def test_replaces_wins_in_both_orders(tmp_path: Path, written: str) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    bert(folders[0], "et-bert")
    bert(folders[1], "acme-bert", f', replaces="{written}"')
    for order in itertools.permutations(folders):
        with on_path(*order):
            assert load(*order).registry("backbones").find("bert").distribution == "acme-bert"


def test_two_plugins_that_replace_each_other_are_ambiguous(site: Path) -> None:
    bert(site, "et-bert", ', replaces="acme-bert"')
    bert(site, "acme-bert", ', replaces="et-bert"')
    with pytest.raises(AmbiguousNameError):
        load(site).registry("backbones").find("bert")


def test_a_distribution_that_lies_twice_on_the_path_counts_once_and_the_first_wins(tmp_path: Path) -> None:
    editable, wheel = tmp_path / "editable", tmp_path / "wheel"
    source = registering('register("bert", "a:b", summary="B")')
    fake_dist(editable, "et-dup", version="2.0", module_source=source)
    fake_dist(wheel, "Et_Dup", version="1.0", module_source=source)
    code = """
        from et_core.registry import plugins
        print([p.provider for p in plugins().plugins if "dup" in p.distribution], plugins().find("et.dup").status)
        print([e.provider for e in plugins().registry("backbones").entries if "dup" in e.distribution])
    """
    for order, version in (((editable, wheel), "2.0"), ((wheel, editable), "1.0")):
        done = run_python(textwrap.dedent(code), *order)
        assert done.stdout == f"['et-dup {version}'] ok\n['et-dup {version}']\n", done.stderr
        with on_path(*order):
            (plugin,) = load(*order).plugins
            assert (plugin.provider, plugin.status) == (f"et-dup {version}", Status.OK)


def test_the_copy_that_python_imports_decides_whether_there_is_a_plugin(tmp_path: Path) -> None:
    fake_dist(tmp_path / "old", "et-dup", module_source="raise RuntimeError")
    fake_dist(tmp_path / "new", "et-dup", version="2.0")
    (tmp_path / "new" / "et_dup-2.0.dist-info" / "entry_points.txt").unlink()
    code = "from et_core.registry import plugins; print(plugins().get('et-dup'))"
    assert run_python(code, tmp_path / "new", tmp_path / "old").stdout == "None\n"
    assert "RuntimeError" in run_python(code, tmp_path / "old", tmp_path / "new").stdout


def test_one_malformed_metadata_file_does_not_hide_the_other_plugins(tmp_path: Path) -> None:
    for name in ("et-good", "et-garbled", "et-empty", "et-bytes"):
        fake_dist(tmp_path, name, module_source=EMPTY_PLUGIN)
    (tmp_path / "et_garbled-1.0.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\nno equals sign\n")
    (tmp_path / "et_empty-1.0.dist-info" / "METADATA").write_text("")
    (tmp_path / "et_bytes-1.0.dist-info" / "entry_points.txt").write_bytes(b"\xff\xfe[et.plugins]")
    code = """
        from et_core.registry import plugins
        print({p.distribution: str(p.status) for p in plugins().plugins if not p.origin})
        print(plugins().find("et-garbled").reason)
    """
    done = run_python(textwrap.dedent(code), tmp_path)
    assert "'et-good': 'ok'" in done.stdout, done.stderr
    assert "'et-garbled': 'broken'" in done.stdout
    assert "\nhas an entry_points.txt that cannot be read: " in done.stdout


def test_a_distribution_with_two_entry_points_is_broken(site: Path) -> None:
    fake_dist(site, "et-two", entry_points={"et-two": "et_two._plugin", "more": "et_two._plugin"})
    plugin = load(site).find("et-two")
    assert plugin.status is Status.BROKEN
    assert plugin.reason == "declares 2 entry points in the group 'et.plugins' (et-two, more). Declare one."


def test_repeating_the_same_row_changes_nothing(site: Path) -> None:
    row = 'register("bert", "a:b", summary="B")'
    fake_dist(site, "et-bert", module_source=registering(row, row))
    assert len(load(site).find("et-bert").entries) == 1


def test_entry_points_can_be_given_where_there_is_no_metadata(site: Path) -> None:
    fake_dist(site, "et-frozen", module_source=registering('register("bert", "a:b", summary="B")'))
    found = PluginSet([EntryPoint("ET_Frozen", "et_frozen._plugin", GROUP)])
    assert [plugin.provider for plugin in found.plugins] == ["et-frozen 0"]
    assert found.registry("backbones").names() == ["bert"]


def test_listing_plugins_and_names_imports_no_component(site: Path) -> None:
    fake_dist(
        site, "et-good", module_source=GOOD, files={"model.py": "from pathlib import Path\nPath(__file__).unlink()\n"}
    )
    found = load(site)
    sources = found.registry("sources")
    assert "good" in sources
    assert "god" not in sources
    assert (sources.names(), sources.find("good").summary) == (["good"], "A good one")
    assert (site / "et_good" / "model.py").exists()
    assert "et_good.model" not in sys.modules


def test_a_limit_leaves_the_others_out_without_importing_them(site: Path) -> None:
    bert(site, "et-bert")
    fake_dist(site, "et-loud", module_source="raise AssertionError")
    found = load(site, only=["ET_Bert"])
    assert [(plugin.distribution, plugin.status) for plugin in found.plugins] == [
        ("et-bert", Status.OK),
        ("et-loud", Status.DISABLED),
    ]
    assert "et_loud" not in sys.modules
    assert found.only == frozenset({"et-bert"})


@pytest.mark.parametrize(
    ("setting", "usable"),
    [("", []), ("et-a", ["et-a"]), (" ET_A , et-b,", ["et-a", "et-b"]), (None, ["et-a", "et-b", "et-c"])],
)
def test_the_environment_limits_plugins_but_never_the_core(
    tmp_path: Path, setting: str | None, usable: list[str]
) -> None:
    for name in ("et-a", "et-b", "et-c"):
        fake_dist(tmp_path, name)
    code = (
        "from et_core.registry import plugins; print([p.distribution for p in plugins().plugins if p.status == 'ok'])"
    )
    environment = {} if setting is None else {"ET_PLUGINS": setting}
    done = run_python(code, tmp_path, environment=environment)
    found = json.loads(done.stdout.replace("'", '"'))
    assert [name for name in found if name in ("et-a", "et-b", "et-c")] == usable
    assert "et-core" in found
    assert ("et-bert" in found) is (setting is None)


@pytest.mark.parametrize("name", ["et-broken", "et-old"])
def test_strict_raises_the_plugins_own_sentence(tmp_path: Path, name: str) -> None:
    fake_dist(tmp_path, name, module_source=FLAWED[name])
    code = "from et_core.registry import plugins; plugins()"
    assert run_python(code, tmp_path).returncode == 0
    assert run_python(code, tmp_path, environment={"ET_PLUGINS_STRICT": "0"}).returncode == 0
    done = run_python(code, tmp_path, environment={"ET_PLUGINS_STRICT": "1"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"et_core.errors.PluginError: {name} 1.0 {REASONS[name]}"
    assert run_python(code, tmp_path, environment={"ET_PLUGINS_STRICT": "1", "ET_PLUGINS": "et-bert"}).returncode == 0


def test_a_plugin_that_is_installed_later_is_seen_after_refresh(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from et_core.registry import plugins, refresh, registry
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from tests.fake_dists import fake_dist, registering
        first = plugins()
        assert plugins() is first
        fake_dist(Path({str(tmp_path)!r}), "et-late", module_source=registering('register("late", "a:b", summary="L")'))
        assert "late" not in registry("backbones")
        assert refresh() is plugins() is not first
        assert registry("backbones").find("late").distribution == "et-late"
    """
    done = run_python(textwrap.dedent(code), tmp_path)
    assert done.returncode == 0, done.stderr


def test_discovery_of_the_real_plugins_imports_nothing_heavy() -> None:
    code = """
        import sys
        from et_core.registry import plugins
        found = plugins()
        print(sorted(p.distribution for p in found.plugins if p.status == "ok"))
        print([name for name in ("torch", "transformers", "numpy", "omegaconf", "difflib") if name in sys.modules])
    """
    done = run_python(textwrap.dedent(code))
    assert done.stdout == "['et-adabert', 'et-appzoo', 'et-bert', 'et-core', 'et-hcnn']\n[]\n", done.stderr


def test_importing_the_registry_alone_loads_no_discovery() -> None:
    code = """
        import sys
        sys.modules.pop("importlib.metadata", None)  # an editable installation brings it
        import et_core.registry
        print([name for name in ("pluggy", "importlib.metadata", "difflib") if name in sys.modules])
    """
    assert run_python(textwrap.dedent(code)).stdout == "[]\n"


def test_a_plugin_is_found_by_any_spelling_and_a_wrong_name_gets_a_suggestion(site: Path) -> None:
    bert(site, "et-bert")
    assert load(site).find("ET.bert").provider == "et-bert 1.0"
    with pytest.raises(PluginError) as caught:
        load(site).find("et-brt")
    assert str(caught.value) == "no plugin 'et-brt' is installed. Did you mean 'et-bert'?\nInstalled plugins: et-bert."


def test_an_entry_point_asked_for_by_its_own_name_leads_to_its_distribution(site: Path) -> None:
    fake_dist(site, "acme-models", entry_points={"acme": "acme_models._plugin"})
    with pytest.raises(PluginError) as caught:
        load(site).find("acme")
    assert str(caught.value) == (
        "no plugin 'acme' is installed. It is an entry point of acme-models: plugins go by their distribution's name.\n"
        "Installed plugins: acme-models."
    )


def test_a_registry_is_found_by_plural_and_singular(site: Path) -> None:
    found = load(site)
    assert found.registry("losses") is found.registry("loss")
    with pytest.raises(ConfigError) as caught:
        found.registry("backbnes")
    assert str(caught.value) == f"unknown kind 'backbnes'. Did you mean 'backbones'?\nKinds: {', '.join(KINDS)}."


def test_what_is_registered_after_the_hook_has_returned_is_refused(site: Path) -> None:
    source = registering("kept.append(register)").replace("ET_API = 1", "ET_API = 1\nkept = []")
    package = fake_dist(site, "et-late", module_source=source)
    assert load(site).find("et-late").entries == ()
    with pytest.raises(PluginError, match=r"^et-late registers 'late' too late: its hook has returned already\.$"):
        sys.modules[f"{package}._plugin"].kept[0]("late", "a:b", summary="Late")


def test_a_plugin_that_prints_does_not_write_into_what_a_program_reads(site: Path) -> None:
    fake_dist(site, "et-loud", module_source="print('hello')\n" + GOOD)
    code = "import et_core.registry as r; print([e.name for e in r.plugins().find('et-loud').entries])"
    done = run_python(code, site)
    assert (done.stdout, done.stderr) == ("['good']\n", "hello\n")
