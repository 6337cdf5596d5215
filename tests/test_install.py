"""What is built and installed is what users get: wheels with all that is needed and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {
    "et_core": ".",
    "et_appzoo": "plugins/et-appzoo",
    "et_bert": "plugins/et-bert",
    "et_hcnn": "plugins/et-hcnn",
    "et_adabert": "plugins/et-adabert",
}
DATA = {
    "et_core": {"registry/providers.json", "report/templates/"},
    "et_appzoo": {"demo/"},
    "et_bert": {"presets.json", "tiny/"},
    "et_hcnn": set(),
    "et_adabert": set(),
}


def call(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel of each package by its import name, built from a copy, so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("et_core", "plugins", "templates", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    built = tmp_path_factory.mktemp("wheels")
    for folder in SOURCES.values():
        call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", built, copy / folder)
    return {wheel.name.partition("-")[0]: wheel for wheel in built.glob("*.whl")}


@pytest.fixture(scope="module")
def environment(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheels of all packages; their dependencies are those of this one."""
    venv = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", venv)
    pip = (sys.executable, "-m", "pip", "--python", venv / "bin/python")
    call(*pip, "install", "--no-deps", "--no-index", "--no-cache-dir", *wheels.values())
    (own,) = (venv / "lib").glob("python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


@pytest.mark.parametrize("package", SOURCES)
def test_wheel_holds_the_package_and_nothing_else(package: str, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[package]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert all(name.startswith(f"{package}/") for name in names)
    # What et plugins new writes from is compared file by file in test_plugins_new.py.
    inside = [path for name in names if not (path := name.removeprefix(f"{package}/")).startswith("templates/")]
    assert "py.typed" in inside
    for wanted in DATA[package]:
        assert any(name.startswith(wanted) for name in inside), f"{wanted} is missing"
    assert not [name for name in inside if "tests" in name.split("/") or "/test_" in f"/{name}" or "conftest" in name]
    data = [name for name in inside if not name.endswith(".py") and name != "py.typed"]
    assert not [name for name in data if not name.startswith(tuple(DATA[package]))]
    folder = ROOT / SOURCES[package] / package
    modules = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert {name for name in inside if name.endswith(".py")} == modules


def test_installed_wheels_are_found_and_used(environment: Path, tmp_path: Path) -> None:
    code = "import et_core, et_bert, et_appzoo; print(et_core.__file__, et_bert.__file__, et_appzoo.__file__)"
    files = subprocess.run(
        [environment / "bin/python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert all(Path(file).is_relative_to(environment) for file in files)
    listed = {row["plugin"]: row for row in json.loads(call(environment / "bin/et", "plugins", "list", "--json"))}
    for name in ("et-core", "et-appzoo", "et-bert", "et-hcnn"):
        assert listed[name]["status"] == "ok"
        assert listed[name]["entries"]
    resolved = json.loads(call(environment / "bin/et", "resolve", "bert-tiny-random", "--json"))
    assert Path(resolved["tokenizer"]).is_relative_to(environment)


def test_editable_and_wheel_on_one_path_count_once(environment: Path) -> None:
    code = "import importlib.metadata as m; print(sum(d.name == 'et-bert' for d in m.distributions()))"
    assert int(call(environment / "bin/python", "-c", code)) == 2
    names = [row["plugin"] for row in json.loads(call(environment / "bin/et", "plugins", "list", "--json"))]
    assert len(names) == len(set(names))
    backbones = json.loads(call(environment / "bin/et", "list", "backbones", "bert", "--json"))
    assert [row["distribution"] for row in backbones] == ["et-bert"]
