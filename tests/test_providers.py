from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from et_core.registry import KINDS
from tests.fake_dists import registering

ROOT = Path(__file__).parents[1]
PROVIDERS = json.loads((ROOT / "et_core" / "registry" / "providers.json").read_text("utf-8"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "providers.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def plugin(root: Path, name: str, source: str) -> None:
    package = name.replace("-", "_")
    folder = root / "plugins" / name
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    (folder / package / "_plugin.py").write_text(source, "utf-8")
    declared = f'[project]\nname = "{name}"\n[project.entry-points."et.plugins"]\n{name} = "{package}._plugin"\n'
    (folder / "pyproject.toml").write_text(declared, "utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "et_core" / "registry").mkdir(parents=True)
    plugin(
        tmp_path,
        "et-zeta",
        registering(*(f'register("{name}", "a:b", summary="S", aliases=("{name}-x",))' for name in ("t5", "mt5"))),
    )
    plugin(tmp_path, "et-alpha", registering('register("crf", "a:b", summary="S")', kind="heads"))
    return tmp_path


def test_the_table_in_the_repository_is_up_to_date() -> None:
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_table_names_real_kinds_and_the_plugins_of_this_repository() -> None:
    assert set(PROVIDERS) <= set(KINDS)
    assert PROVIDERS["backbones"]["bert"] == "et-bert"
    assert {name for table in PROVIDERS.values() for name in table.values()} <= {
        path.name for path in (ROOT / "plugins").iterdir()
    }


def test_writing_gives_sorted_names_and_aliases_and_then_the_check_passes(repository: Path) -> None:
    path = repository / "et_core" / "registry" / "providers.json"
    before = run("--check", "--root", str(repository))
    assert before.returncode == 1
    assert before.stderr == (
        "et_core/registry/providers.json is not up to date. Run: python tools/providers.py --write\n"
    )
    assert run("--write", "--root", str(repository)).returncode == 0
    assert path.read_text("utf-8") == (
        '{\n  "backbones": {\n    "mt5": "et-zeta",\n    "mt5-x": "et-zeta",\n    "t5": "et-zeta",\n'
        '    "t5-x": "et-zeta"\n  },\n  "heads": {\n    "crf": "et-alpha"\n  }\n}\n'
    )
    assert run("--check", "--root", str(repository)).returncode == 0
    path.write_text(path.read_text("utf-8").replace("crf", "crf-2"), "utf-8")
    assert run("--check", "--root", str(repository)).returncode == 1


def test_a_name_of_two_plugins_is_refused(repository: Path) -> None:
    plugin(repository, "et-other", registering('register("t5", "a:b", summary="S")'))
    done = run("--write", "--root", str(repository))
    assert done.returncode == 1
    assert done.stderr == "backbones: 't5' is registered by et-other and by et-zeta.\n"


def test_a_broken_plugin_stops_the_writing(repository: Path) -> None:
    plugin(repository, "et-broken", "1 / 0\n")
    done = run("--write", "--root", str(repository))
    assert done.returncode == 1
    assert "et-broken 0 failed to load: ZeroDivisionError" in done.stderr
    assert not (repository / "et_core" / "registry" / "providers.json").exists()
