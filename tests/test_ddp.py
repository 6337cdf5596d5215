"""Two processes end where one does, and a process that fails takes the others with it and is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from et_core import api
from et_core.errors import ConfigError, DataError, EtError
from et_core.interfaces import Step, Strategy
from et_core.registry import plugins, refresh
from et_core.runfolder import Checkpoints
from et_core.strategies import Ddp, Single
from tests.seams import ranks
from tests.seams.tools import (
    PLUGIN,
    bag_objective,
    distance,
    seam_plugins,
    split_of,
    store_of,
    word_examples,
    write_words,
)

ROOT = Path(__file__).resolve().parent.parent
RANKS = PLUGIN.with_name("ranks.py")
TWO = {"name": "ddp", "processes": 2}


def config(tmp_path: Path, **train: Any) -> dict[str, Any]:
    """Ten steps: 35 rows in batches of eight, of which the last holds three, one for the second process."""
    return {
        "app": {"name": "classification", "head": "pooled-linear", "dropout": 0.0, "class_weights": "balanced"},
        "model": "seam-bag@init",
        "data": {
            "train": str(write_words(tmp_path / "train.tsv", 35)),
            "dev": str(write_words(tmp_path / "dev.tsv", 21, seed=1)),
        },
        "train": {
            "epochs": 2,
            "batch_size": 8,
            "lr": 0.05,
            "optimizer": "sgd",
            "precision": "fp32",
            "token_budget": 25,
            **train,
        },
        "plugins": {"files": [str(PLUGIN)]},
    }


def ranks_config(tmp_path: Path) -> dict[str, Any]:
    """With dropout and an optimiser that has state, so that a resumed run has both to bring back on each rank."""
    settings = config(
        tmp_path, schedule="seam-ranks", warmup=0, checkpoint_every=2, log_every=1, optimizer="adamw", lr=0.01
    )
    settings["app"]["dropout"] = 0.2
    model = {"ref": "seam-bag@init", "dropout": 0.2}
    return {**settings, "model": model, "plugins": {"files": [str(PLUGIN), str(RANKS)]}}


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model" / "model.safetensors") | load_file(path / "model" / "extra.safetensors")


def bits(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((path / "model").glob("*.safetensors"))}


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A process with a group of its own, whose output ends when the last of its children does."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def start_waiting(tmp_path: Path) -> subprocess.Popen[str]:
    """A run of two processes with a checkpoint, and with steps so slow that it is not near its end."""
    (tmp_path / "run.yaml").write_text(json.dumps({**ranks_config(tmp_path), "strategy": TWO}))
    process = start("et_core", "train", str(tmp_path / "run.yaml"), f"output={tmp_path / 'run'}", SEAM_RANKS="wait")
    deadline = time.monotonic() + 120
    while not Checkpoints(tmp_path / "run" / "checkpoints").steps():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_two_processes_end_with_the_weights_and_metrics_of_one(tmp_path: Path) -> None:
    settings = config(tmp_path)
    with seam_plugins():
        one = api.train(settings, {"output": str(tmp_path / "one")})
        two = api.train(settings, {"output": str(tmp_path / "two"), "strategy": TWO})
    assert two.results["steps"] == one.results["steps"] == 10
    assert two.metrics == pytest.approx(one.metrics, abs=1e-4)
    assert distance(weights_of(two.path), weights_of(one.path)) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("error", EtError, "^rank 1 failed:\nTraceback (.|\n)*ValueError: a number is missing\n$"),
        ("known", DataError, "^row 7 has no label.$"),
        ("kill", EtError, "^rank 1 was ended by SIGKILL. A system that is short of memory does that.$"),
        ("exit", EtError, r"^rank 1 ended without a word \(exit code 3\).$"),
    ],
)
def test_a_rank_that_fails_ends_all_and_is_the_one_that_is_named(
    mode: str, error: type[EtError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAM_RANKS", mode)
    plugins().add_file(PLUGIN)
    plugins().add_file(RANKS)
    began = time.monotonic()
    with pytest.raises(error, match=message) as caught:
        api.train(ranks_config(tmp_path), {"output": str(tmp_path / "run"), "strategy": TWO})
    refresh()
    assert type(caught.value) is error
    assert time.monotonic() - began < 60
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["parent", "all"])
def test_no_rank_outlives_a_killed_parent_and_the_run_goes_on_to_the_same_bits(
    kill: Callable[[int, int], None], tmp_path: Path
) -> None:
    process = start_waiting(tmp_path)
    kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=15)
    assert not (tmp_path / "run" / "results.json").exists()
    with seam_plugins():
        plugins().add_file(RANKS)
        resumed = api.train(str(tmp_path / "run.yaml"), {"output": str(tmp_path / "run")}, resume=True)
        whole = api.train(str(tmp_path / "run.yaml"), {"output": str(tmp_path / "whole")})
    assert bits(resumed.path) == bits(whole.path)
    assert resumed.metrics == whole.metrics


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_parent_stops_all_ranks_with_a_checkpoint(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start_waiting(tmp_path)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=60)
    step = Checkpoints(tmp_path / "run" / "checkpoints").steps()[-1]
    assert f"et: stopped at step {step}; a checkpoint is saved. Go on with --resume." in shown
    assert "Traceback" not in shown
    assert process.returncode == code


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_processes_that_torchrun_started_end_with_the_metrics_of_one(tmp_path: Path) -> None:
    settings = config(tmp_path)
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "et_core")
    process = start(*torchrun, "train", str(tmp_path / "run.yaml"), f"output={tmp_path / 'two'}", "strategy=ddp")
    shown, _ = process.communicate(timeout=200)
    assert process.returncode == 0, shown
    with seam_plugins():
        one = api.train(settings, {"output": str(tmp_path / "one")})
        two = api.load(tmp_path / "two")
        assert two.metrics == pytest.approx(one.metrics, abs=1e-4)
    assert distance(weights_of(two.path), weights_of(one.path)) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_of_one_process_goes_on_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With momentum, so that the optimiser's state has to come along.
    settings = config(tmp_path, trackers=["seam-bomb"], optimizer="adamw", lr=0.01, checkpoint_every=3, log_every=1)
    with seam_plugins():
        one = api.train(settings, {"output": str(tmp_path / "one")})
        monkeypatch.setenv("SEAM_BOMB", "5")
        with pytest.raises(RuntimeError, match="bomb"):
            api.train(settings, {"output": str(tmp_path / "two")})
        monkeypatch.delenv("SEAM_BOMB")
        two = api.train(settings, {"output": str(tmp_path / "two"), "strategy": TWO}, resume=True)
    assert two.results["steps"] == one.results["steps"] == 10
    assert two.metrics == pytest.approx(one.metrics, abs=1e-4)
    assert distance(weights_of(two.path), weights_of(one.path)) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_bert_to_the_metrics_of_one(tmp_path: Path) -> None:
    settings = config(tmp_path, optimizer="adamw", lr=1e-3, token_budget=8192)
    del settings["plugins"]
    settings["model"] = {"ref": "bert-tiny-random@zoo", "dropout": 0.0, "attention_dropout": 0.0}
    settings["app"] = {"name": "classification", "dropout": 0.0}
    one = api.train(settings, {"output": str(tmp_path / "one")})
    two = api.train(settings, {"output": str(tmp_path / "two"), "strategy": TWO})
    assert two.results["steps"] == one.results["steps"] == 10
    assert two.metrics == pytest.approx(one.metrics, abs=1e-4)
    first, second = (load_file(run.path / "model" / "model.safetensors") for run in (one, two))
    assert distance(second, first) < 1e-4


def buffers_after_a_step(strategy: Strategy, folder: Path) -> None:
    """Let each rank hold its own number in a buffer that is saved and in one that is not; write what a step leaves."""
    objective = bag_objective()
    for name, persistent in (("saved", True), ("constant", False)):
        objective.register_buffer(name, torch.zeros(1), persistent=persistent)
    prepared = strategy.prepare(objective, lambda _objective: {})
    for buffer in (objective.saved, objective.constant):
        buffer.fill_(strategy.rank + 1)
    store = store_of(folder / f"{strategy.rank}.arrow", word_examples(12))
    (part,) = next(iter(split_of(store).turns(0))).parts
    prepared.run(part, Step(0, 1, "main", np.random.default_rng(0), strategy.all_gather))
    (folder / f"{strategy.rank}.json").write_text(json.dumps([float(objective.saved), float(objective.constant)]))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_step_sends_only_the_buffers_that_are_saved(tmp_path: Path) -> None:
    Ddp(processes=2).launch(buffers_after_a_step, tmp_path)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[1, 1], [1, 2]]


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_device_that_this_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^strategy.device is '{name}'. Devices of this machine: cpu(, .*)?\.$"):
        Single(device=name)
    assert Single(device="cpu").device == torch.device("cpu")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ranks_with_different_numbers_of_rows_join_them_with_gradients(tmp_path: Path) -> None:
    Ddp(processes=2).launch(ranks.join_rows, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first[0] == second[0] == [[0, 1], [0, 1], [2, 3], [4, 5]]
    # Both ranks have a loss of the same weights, so each number's gradient is twice its weight.
    assert first[1] == [[0, 2]]
    assert second[1] == [[4, 6], [8, 10], [12, 14]]
