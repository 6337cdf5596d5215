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
from et_core.runfolder import RunFolder
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
    read = json.loads((path / "results.json").read_text())
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
        write_words(tmp_path / "train.tsv", 47, seed=9)
        with pytest.raises(CheckpointError) as caught:
            api.train(settings, output, resume=True)
        assert "was written for other training data than" in str(caught.value)


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


def run_python(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::ResourceWarning"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(tmp_path)))
    process = run_python("-m", "tests.seams.kills", str(tmp_path / "config.json"), str(tmp_path), "5")
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    whole, *killed = [json.loads(line) for line in output.splitlines()]
    assert whole["statuses"] == [0], errors
    assert whole["events"].count("step") == 12
    assert min(whole["events"].count(name) for name in ("fsync", "rename")) > 12
    *once, often = killed
    assert len(once) == 5
    for row in once:
        assert row["statuses"] == [-9, 0], (row, errors)
        assert_same(tmp_path / row["run"], tmp_path / "whole")
    assert often["statuses"].count(-9) >= 4
    assert often["statuses"][-1] == 0, errors
    assert_same(tmp_path / "killed-often", tmp_path / "whole")


def wait_for_steps(folder: Path, process: subprocess.Popen[str], *, beyond: int) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the run ended by itself: {process.communicate()}")
        steps = [line["step"] for line in RunFolder(folder).read_metrics()]
        if steps and max(steps) > beyond:
            return
        time.sleep(0.05)
    raise AssertionError("no step was logged")


@pytest.mark.slow
def test_sigterm_and_ctrl_c_save_and_say_so(tmp_path: Path) -> None:
    # Some seconds of steps, so that a signal meets the run in the middle of them.
    settings = config(tmp_path, epochs=150, checkpoint_every=None, eval_every=None, log_every=5, token_budget=8192)
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    command = ["-m", "et_core", "train", str(tmp_path / "config.yaml"), f"output={tmp_path / 'run'}", "--quiet"]
    with seam_plugins():
        api.train(settings, {"output": str(tmp_path / "whole")})
    beyond = 0
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = run_python(*command, *(["--resume"] if beyond else []))
        wait_for_steps(tmp_path / "run", process, beyond=beyond)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        steps = sorted(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
        assert f"et: stopped at step {steps[-1]}; a checkpoint is saved. Go on with --resume." in errors
        assert steps[-1] > beyond
        beyond = steps[-1]
    process = run_python(*command, "--resume")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert_same(tmp_path / "run", tmp_path / "whole")
