"""A run that was stopped at any moment and continued ends with the same bits as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.errors import CheckpointError
from et_core.runfolder import Checkpoints, RunFolder
from tests.seams.tools import PLUGIN, seam_plugins, write_words

ROOT = Path(__file__).resolve().parent.parent
SPEEDS = ("tokens_per_second", "rows_per_second")


def config(tmp_path: Path, **train: Any) -> dict[str, Any]:
    """Two epochs of six steps with dropout on, and a checkpoint each three of them."""
    return {
        "app": {"name": "classification", "head": "pooled-linear"},
        "model": {"ref": "seam-bag@init", "dropout": 0.2},
        "data": {
            "train": str(write_words(tmp_path / "train.tsv", 47)),
            "dev": str(write_words(tmp_path / "dev.tsv", 20, seed=1)),
        },
        "train": {
            "epochs": 2,
            "batch_size": 8,
            "lr": 0.02,
            "checkpoint_every": 3,
            "log_every": 1,
            "precision": "fp32",
            "token_budget": 40,
            **train,
        },
        "plugins": {"files": [str(PLUGIN)]},
    }


def bits(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "model").glob("*.safetensors"))}


def figures(path: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    lines = RunFolder(path).read_metrics()
    return [{key: value for key, value in line.items() if key not in SPEEDS} for line in lines]


def results(path: Path) -> dict[str, Any]:
    """What does not tell of a clock, or of a checkpoint that a kill left half written."""
    read = json.loads((path / "results.json").read_text())
    read["notes"] = [note for note in read["notes"] if not note.startswith("passed over the checkpoint")]
    return {
        key: read[key]
        for key in ("metrics", "epochs", "steps", "best_step", "precision", "train_rows", "dev_rows", "notes")
    }


def assert_same(found: Path, expected: Path) -> None:
    assert bits(found) == bits(expected)
    assert results(found) == results(expected)
    assert figures(found) == figures(expected)


@pytest.mark.parametrize("step", [2, 5, 12])
def test_a_run_that_failed_and_was_continued_ends_with_the_same_bits(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, trackers=["seam-bomb"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with seam_plugins():
        api.train(settings, {"output": str(whole)})
        monkeypatch.setenv("SEAM_BOMB", str(step))
        with pytest.raises(RuntimeError, match=f"the bomb went off at step {step}"):
            api.train(settings, {"output": str(broken)})
        monkeypatch.delenv("SEAM_BOMB")
        run = api.train(settings, {"output": str(broken)}, resume=True)
        again = api.train(settings, {"output": str(broken)}, resume=True)
    assert len(bits(whole)) == 2
    assert_same(broken, whole)
    assert run.predict(["w1 good w2"]) == again.predict(["w1 good w2"])
    assert [line["step"] for line in figures(broken) if "loss" in line] == list(range(1, 13))


@pytest.mark.parametrize("step", [2, 5])
def test_event_files_hold_every_figure_of_a_continued_run_once(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it goes on from step 3 or, without a checkpoint, from the beginning."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = config(tmp_path, trackers=["tensorboard", "seam-bomb"])
    output = {"output": str(tmp_path / "run")}
    monkeypatch.setenv("SEAM_BOMB", str(step))
    with seam_plugins():
        with pytest.raises(RuntimeError, match="bomb"):
            api.train(settings, output)
        monkeypatch.delenv("SEAM_BOMB")
        run = api.train(settings, output, resume=True)
    events = EventAccumulator(str(run.folder.tensorboard)).Reload()
    assert len(list(run.folder.tensorboard.iterdir())) == 2
    for name in ("loss", "dev/accuracy"):
        logged = [(line["step"], pytest.approx(line[name])) for line in run.folder.read_metrics() if name in line]
        assert [(event.step, event.value) for event in events.Scalars(name)] == logged
    assert {event.step for event in events.Tensors("config/text_summary")} == ({1, 4} if step == 5 else {1})


def test_the_bits_that_are_compared_depend_on_where_a_run_stands(tmp_path: Path) -> None:
    with seam_plugins():
        one = api.train(config(tmp_path), {"output": str(tmp_path / "one")}).path
        other = api.train(config(tmp_path), {"output": str(tmp_path / "other"), "train.seed": 43}).path
    assert bits(one) != bits(other)


def test_a_resumed_run_refuses_other_settings_and_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(tmp_path, trackers=["seam-bomb"])
    output = {"output": str(tmp_path / "run")}
    monkeypatch.setenv("SEAM_BOMB", "5")
    with seam_plugins():
        with pytest.raises(RuntimeError, match="bomb"):
            api.train(settings, output)
        with pytest.raises(CheckpointError) as caught:
            api.train(settings, {**output, "train.lr": 0.5}, resume=True)
        assert "was written with other settings:\n  train.lr: 0.02 then, 0.5 now\n" in str(caught.value)
        for name, file, rows in (("dev data", "dev.tsv", 20), ("training data", "train.tsv", 47)):
            write_words(tmp_path / file, rows, seed=9)
            with pytest.raises(CheckpointError, match=f"was written with other {name} than there is now"):
                api.train(settings, output, resume=True)


def test_what_does_not_change_the_weights_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(tmp_path, trackers=["seam-bomb"])
    free = {"train.log_every": 4, "train.trackers": [], "train.checkpoint_every": None, "train.keep_checkpoints": 5}
    monkeypatch.setenv("SEAM_BOMB", "5")
    with seam_plugins():
        with pytest.raises(RuntimeError, match="bomb"):
            api.train(settings, {"output": str(tmp_path / "run")})
        monkeypatch.delenv("SEAM_BOMB")
        api.train(settings, {"output": str(tmp_path / "run"), **free}, resume=True)
        api.train(settings, {"output": str(tmp_path / "whole")})
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")


def bert(tmp_path: Path, **train: Any) -> dict[str, Any]:
    settings = config(tmp_path, lr=0.002, token_budget=8192, **train)
    settings.pop("plugins")
    return {**settings, "app": "classification", "model": {"ref": "bert-tiny-random", "dropout": 0.2}}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train_until(folder: Path, kill_at: int, *, resume: bool = False) -> None:
    """Train the config beside *folder* in a process that is killed at that event; 0 lets it end."""
    process = start(
        *("-m", "tests.seams.kills", str(folder.parent / "config.json"), str(folder), str(kill_at)),
        *(["--resume"] if resume else []),
    )
    _, errors = process.communicate(timeout=200)
    assert process.returncode == (-signal.SIGKILL if kill_at else 0), errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed; its events are beside it."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "config.json").write_text(json.dumps(bert(folder)))
    train_until(folder / "whole", 0)
    assert results(folder / "whole")["best_step"] == 6  # neither the last nor, when it is used, among the newest two
    return folder / "whole"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "event",
    [
        "mkdir .",
        "step 1",
        "fsync checkpoints/step-000003.tmp/tensors.safetensors",
        "rename checkpoints/step-000003.tmp",
        "replace checkpoints/LATEST.tmp",
        "fsync checkpoints/step-000006.tmp/MANIFEST.json",
        "step 7",
        "rename checkpoints/step-000003",
        "unlink state.json",
        "rename checkpoints/step-000012.tmp",
        "mkdir model.tmp",
        "fsync model.tmp/model.safetensors",
        "rename model.tmp",
        "replace report.html.tmp",
        "replace results.json.tmp",
    ],
)
def test_a_run_killed_at_any_moment_and_continued_ends_with_the_same_bits(event: str, whole: Path) -> None:
    events = json.loads(whole.with_name("whole.events").read_text())
    killed = whole.with_name(f"killed-{events.index(event) + 1}")
    train_until(killed, events.index(event) + 1)
    assert not (killed / "results.json").exists()
    train_until(killed, 0, resume=True)
    assert_same(killed, whole)
    assert [line["step"] for line in figures(killed) if "loss" in line] == list(range(1, 13))
    left = [path.name for path in killed.rglob("*") if path.suffix in (".tmp", ".old", ".trash")]
    assert left == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(whole: Path) -> None:
    killed = whole.with_name("killed-often")
    reached = []
    for kill_at in (21, 25, 30):
        train_until(killed, kill_at, resume=bool(reached))
        reached.append(Checkpoints(killed / "checkpoints").steps()[-1])
    assert reached == sorted(set(reached))
    train_until(killed, 0, resume=True)
    assert_same(killed, whole)


def wait_for_step(folder: Path, process: subprocess.Popen[str], *, beyond: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the run ended by itself: {process.communicate()}")
        steps = [line["step"] for line in RunFolder(folder).read_metrics()]
        if steps and max(steps) > beyond:
            return
        time.sleep(0.05)
    raise AssertionError("no step was logged")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_stopped_by_sigterm_and_then_by_ctrl_c_ends_with_the_same_bits_and_log(tmp_path: Path) -> None:
    # Some seconds of steps, so that a signal meets the run in the middle of them; dropout and dev are on.
    settings = bert(tmp_path, epochs=150, checkpoint_every=None, eval_every=300, log_every=5)
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    command = ["-m", "et_core", "train", str(tmp_path / "config.yaml"), f"output={tmp_path / 'run'}", "--quiet"]
    beyond = 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start(*command, *(["--resume"] if beyond else []))
        wait_for_step(tmp_path / "run", process, beyond=beyond)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        step = Checkpoints(tmp_path / "run" / "checkpoints").steps()[-1]
        assert step > beyond
        beyond = step
    api.train(settings, {"output": str(tmp_path / "run")}, resume=True)
    api.train(settings, {"output": str(tmp_path / "whole")})
    assert bits(tmp_path / "run") == bits(tmp_path / "whole")
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    # A stop is logged as well, between the steps that are logged anyway.
    stops = [line["step"] for line in figures(tmp_path / "run") if "loss" in line and line["step"] % 5]
    assert len(stops) <= 2
    assert looks(tmp_path / "run") == looks(tmp_path / "whole")


def looks(path: Path) -> list[dict[str, Any]]:
    return [line for line in figures(path) if "loss" not in line]
