"""Commands that compute nothing start fast, whatever is installed: they load neither torch nor any plugin's code."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_dists import fake_dist, registering

HEAVY = {"torch", "transformers", "numpy", "pyarrow", "pandas", "huggingface_hub", "safetensors", "tokenizers"}
PRINT_MODULES = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
sys.argv = ["et", *sys.argv[1:]]
from et_core.cli.main import main
main()
"""
COMMANDS = [
    ["--help"],
    ["--version"],
    ["plugins", "list"],
    ["list", "backbones"],
    ["list", "apps", "--json"],
    ["list", "presets"],
    ["list", "presets", "--json"],
]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten more plugins, half of them broken in different ways; the others' components would load torch."""
    folder = tmp_path_factory.mktemp("crowd")
    broken = [
        "raise RuntimeError('broken')\n",
        "import not_installed_anywhere\n",
        "ET_API = 99\n",
        "def :\n",
        registering("register('x', 'no colon here')"),
    ]
    for number, source in enumerate(broken):
        fake_dist(folder, f"broken-{number}", module_source=source)
    for number in range(5):
        target = f"sound_{number}.model:Model"
        fake_dist(
            folder,
            f"sound-{number}",
            module_source=registering(f"register('sound-{number}', {target!r}, summary='A model')"),
            files={"model.py": "import torch\nclass Model: ...\n"},
        )
    return folder


def et(
    *arguments: str, path: Path, python: tuple[str, ...] = ("-c", PRINT_MODULES)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, *arguments],
        env={"PYTHONPATH": str(path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_light_commands_load_nothing_heavy(arguments: list[str], crowd: Path) -> None:
    done = et(*arguments, path=crowd)
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert "et_core.cli.main" in modules
    assert not HEAVY & modules
    assert not any(name.startswith("sound_") and name.endswith(".model") for name in modules)


def test_half_broken_plugins_hide_nothing(crowd: Path) -> None:
    listed = et("plugins", "list", "--json", path=crowd)
    found = {row["plugin"]: row["status"] for row in json.loads(listed.stdout)}
    assert {found[f"sound-{number}"] for number in range(5)} == {"ok"}
    assert {name: found[name] for name in ("et-core", "et-bert", "et-appzoo")} == dict.fromkeys(
        ("et-core", "et-bert", "et-appzoo"), "ok"
    )
    assert [found[f"broken-{number}"] for number in range(5)] == [
        "broken",
        "broken",
        "incompatible",
        "broken",
        "broken",
    ]
    assert "sound-3" in et("list", "backbones", path=crowd).stdout


def test_help_names_every_command(crowd: Path) -> None:
    text = et("--help", path=crowd).stdout
    for name in ("train", "evaluate", "predict", "config", "list", "resolve", "plugins", "zoo"):
        assert f"\n  {name} " in text


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]], ids=" ".join)
def test_light_commands_are_quick(arguments: list[str], crowd: Path) -> None:
    # Taken in turns with an empty program, so that other work on the machine slows both; the best of each counts.
    empty, command = [], []
    for _ in range(7):
        empty.append(seconds(lambda: et(path=crowd, python=("-c", "pass"))))
        command.append(seconds(lambda: et(*arguments, path=crowd, python=("-m", "et_core"))))
    assert min(command) - min(empty) < 0.3


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
