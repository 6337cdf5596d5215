from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from et_core.errors import PluginError
from et_core.registry import PluginSet, Status
from tests.fake_dists import fake_dist, load, on_path, registering

ROW = 'register("mine", "my_source:Mine", summary="Mine")'
COMPONENT = """
from et_core.interfaces import Source

class Mine(Source):
    def resolve(self, ref):
        return ref
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "my_source.py").write_text(registering(ROW, kind="sources") + COMPONENT, "utf-8")
    with on_path(tmp_path):
        sys.path.remove(str(tmp_path))
        yield tmp_path


def test_a_plain_file_adds_names_and_components(folder: Path) -> None:
    found = PluginSet([])
    assert found.registry("sources").names() == []
    plugin = found.add_file(folder / "my_source.py")
    assert (plugin.provider, plugin.status, plugin.origin) == ("my-source 0", Status.OK, str(folder / "my_source.py"))
    assert found.registry("sources").get("mine").__name__ == "Mine"
    assert found.registry("sources").find("my-source/mine").target == "my_source:Mine"


def test_the_same_file_twice_is_the_same_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = PluginSet([])
    first = found.add_file(folder / "my_source.py")
    component = found.registry("sources").get("mine")
    monkeypatch.chdir(folder)
    assert found.add_file(Path("my_source.py")) is first
    assert len(found.plugins) == 1

    another = PluginSet([])
    another.add_file(folder / "my_source.py")
    assert another.registry("sources").get("mine") is component


def test_a_file_is_taken_also_where_python_would_find_it_anyway(folder: Path) -> None:
    sys.path.insert(0, str(folder))
    assert PluginSet([]).add_file(folder / "my_source.py").status is Status.OK


def test_a_limit_on_plugins_does_not_concern_files_that_a_run_names(folder: Path) -> None:
    assert PluginSet([], only=[]).add_file(folder / "my_source.py").status is Status.OK


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.py", "{path}: there is no such file."),
        ("folder", "{path} is not a Python file."),
        ("notes.txt", "{path} is not a Python file."),
        (
            "my-source.py",
            "{path}: targets name the file as their module. Rename it to a Python name: my_plugin.py",
        ),
        ("re.py", "{path}: 're' is already the name of an imported module. Rename the file."),
        ("this.py", "{path}: 'this' is already the name of an installed module. Rename the file."),
        ("faulty.py", "{path} failed to load: ZeroDivisionError: division by zero"),
        ("mute.py", "{path} states no ET_API in mute. Add the line: ET_API = 1"),
    ],
)
def test_a_file_that_cannot_be_a_plugin_says_why(folder: Path, name: str, message: str) -> None:
    (folder / "folder").mkdir()
    for file in ("notes.txt", "my-source.py", "re.py", "this.py", "mute.py"):
        (folder / file).touch()
    (folder / "faulty.py").write_text("1 / 0\n", "utf-8")
    found = PluginSet([])
    with pytest.raises(PluginError) as caught:
        found.add_file(folder / name)
    assert str(caught.value) == message.format(path=folder / name)
    assert found.plugins == ()
    assert "this" not in sys.modules


@pytest.mark.parametrize("first", ["1 / 0\n", "", registering("1 / 0")])
def test_a_file_can_be_mended_and_loaded_again(folder: Path, first: str) -> None:
    path = folder / "my_source.py"
    good = path.read_text("utf-8")
    path.write_text(first, "utf-8")
    found = PluginSet([])
    with pytest.raises(PluginError):
        found.add_file(path)
    assert "my_source" not in sys.modules
    path.write_text(good + "# longer, as the cache of compiled modules goes by size and time\n", "utf-8")
    found.add_file(path)
    assert found.registry("sources").names() == ["mine"]


def test_a_file_that_is_interrupted_is_not_taken_for_loaded(folder: Path) -> None:
    path = folder / "slow.py"
    path.write_text("raise KeyboardInterrupt\n", "utf-8")
    with pytest.raises(KeyboardInterrupt):
        PluginSet([]).add_file(path)
    assert "slow" not in sys.modules


def test_two_files_or_a_file_and_a_package_of_one_name_clash(folder: Path) -> None:
    other = folder / "other" / "my_source.py"
    other.parent.mkdir()
    other.write_text(registering(), "utf-8")
    found = PluginSet([])
    found.add_file(folder / "my_source.py")
    with pytest.raises(PluginError) as caught:
        found.add_file(other)
    assert str(caught.value) == (
        f"{other} would be the plugin 'my-source', which {folder / 'my_source.py'} already is. Rename the file."
    )

    fake_dist(folder / "site", "my-source")
    with on_path(folder / "site"), pytest.raises(PluginError) as caught:
        load(folder / "site").add_file(other)
    assert str(caught.value) == (
        f"{other} would be the plugin 'my-source', which the installed my-source 1.0 already is. Rename the file."
    )


STRATEGY = """
from et_core.strategies import Ddp

class Mine(Ddp):
    def launch(self, worker, *args):
        super().launch(worker, *args)
"""


@pytest.mark.slow
def test_a_strategy_of_a_file_starts_processes_that_know_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my_strategy.py"
    row = 'register("mine", "my_strategy:Mine", summary="Mine")'
    file.write_text(registering(row, kind="strategies") + STRATEGY, "utf-8")
    rows = [{"text": f"{word} {number}", "label": word} for number in range(6) for word in ("good", "bad")]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    code = f"""
import et_core as et
if __name__ == "__main__":
    config = {{
        "app": "classification",
        "model": "bert-tiny-random",
        "data": {{"train": {str(tmp_path / "rows.jsonl")!r}}},
        "train": {{"max_steps": 2, "batch_size": 4}},
        "strategy": {{"name": "mine", "processes": 2}},
        "plugins": {{"files": [{str(file)!r}]}},
        "output": {str(tmp_path / "run")!r},
    }}
    print(et.train(config, progress=False).results["steps"])
"""
    (tmp_path / "start.py").write_text(code, "utf-8")
    command = [sys.executable, "-P", str(tmp_path / "start.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
