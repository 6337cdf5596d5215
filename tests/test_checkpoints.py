from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from et_core.errors import CheckpointError, RunFolderError
from et_core.runfolder import Checkpoints
from et_core.runfolder import checkpoints as checkpoints_module

# For each line "FUNCTION NUMBER FOLDER" a forked child saves step 30 and dies by SIGKILL at that call of that function.
KILLED = """
import os, pathlib, signal, sys
import safetensors.torch, torch

target = left = None

def deadly(name, call, before_death=lambda *args: None):
    def wrapped(*args, **kwargs):
        global left
        if name == target:
            left -= 1
            if left == 0:
                before_death(*args)
                os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped

def half(tensors, path):
    save_file(tensors, path)
    os.truncate(path, path.stat().st_size // 2)

save_file = safetensors.torch.save_file
safetensors.torch.save_file = deadly("save_file", save_file, half)
for name in ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
    setattr(os, name, deadly(name, getattr(os, name)))
from et_core.runfolder import Checkpoints

torch.set_num_threads(1)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        target, number, folder = line.rstrip("\\n").split(" ", 2)
        left = int(number)
        Checkpoints(pathlib.Path(folder)).save(30, {"w": torch.full((1000,), 30.0)}, {"run": "killed"})
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
CALLS = ("fsync", "replace", "rename", "save_file", "unlink", "rmdir", "mkdir")


def save(checkpoints: Checkpoints, *steps: int, **options: Any) -> None:
    for step in steps:
        checkpoints.save(step, {"w": torch.full((1000,), float(step))}, {"run": "whole"}, **options)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_checkpoint_gives_back_tensors_and_state_exactly(checkpoints: Checkpoints) -> None:
    tensors = {
        "model.half": torch.randn(3, 4).to(torch.bfloat16),
        "model.turned": torch.randn(3, 4).t(),
        "optimizer.main.step.half": torch.tensor(7.0),
        "model.empty": torch.empty(0, 2),
        "rng": torch.get_rng_state(),
    }
    state = {"lr": 0.1 + 0.2, "tiny": 5e-324, "best": math.inf, "loss": math.nan, "epoch": 3, "seen": [1, None, "é"]}
    path = checkpoints.save(500, tensors, state)
    loaded = checkpoints.newest()
    assert loaded is not None
    assert (loaded.step, loaded.path, loaded.passed_over) == (500, path, [])
    assert path.name == "step-000500"
    assert math.isnan(loaded.state.pop("loss"))
    assert loaded.state == {name: value for name, value in state.items() if name != "loss"}
    again = loaded.tensors()
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_tensors_that_share_storage_are_saved_each_for_itself(checkpoints: Checkpoints) -> None:
    whole = torch.arange(12.0).reshape(3, 4).requires_grad_()
    shared = {"whole": whole, "tied": whole, "row": whole[1], "column": whole[:, 1], "flat": whole.view(-1)}
    checkpoints.save(1, shared, {})
    again = checkpoints.load(1).tensors()
    for name, tensor in shared.items():
        assert torch.equal(again[name], tensor)
    again["whole"].zero_()
    assert torch.equal(again["tied"], whole)
    assert torch.equal(checkpoints.load(1).tensors()["whole"], whole)


def test_older_checkpoints_are_removed_but_not_the_protected(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10, 20, 30, 40, needs=(10,))
    assert checkpoints.steps() == [10, 30, 40]
    save(checkpoints, 50)
    assert checkpoints.steps() == [40, 50]
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["LATEST", "step-000040", "step-000050"]
    assert (checkpoints.folder / "LATEST").read_text() == "step-000050\n"


def test_saving_a_step_again_replaces_it(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10)
    checkpoints.save(10, {"w": torch.zeros(2)}, {"run": "second"})
    loaded = checkpoints.newest()
    assert loaded is not None
    assert loaded.state == {"run": "second"}
    assert checkpoints.steps() == [10]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            lambda path: os.truncate(path / "tensors.safetensors", 12),
            "tensors.safetensors is truncated: 12 of 4072 bytes.",
        ),
        (lambda path: flip_a_byte(path / "tensors.safetensors"), "tensors.safetensors was altered: its sha256 is not"),
        (lambda path: (path / "MANIFEST.json").unlink(), "it was not finished (no MANIFEST.json)."),
        (
            lambda path: flip_a_byte(path / "state.json"),
            "state.json was altered: its sha256 is not",
        ),
        (lambda path: (path / "state.json").unlink(), "state.json is missing."),
    ],
)
def test_damaged_checkpoint_is_passed_over_with_the_reason(checkpoints: Checkpoints, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    save(checkpoints, 10, 20)
    damage(checkpoints.folder / "step-000020")
    loaded = checkpoints.newest()
    assert loaded is not None
    assert loaded.step == 10
    assert torch.equal(loaded.tensors()["w"], torch.full((1000,), 10.0))
    ((name, why),) = loaded.passed_over
    assert name == "step-000020"
    assert why.startswith(reason)
    with pytest.raises(CheckpointError, match="step-000020 cannot be used: "):
        checkpoints.load(20)


def test_unfinished_folder_is_named_and_removed_by_the_next_save(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10)
    for name in ("step-000020.tmp", "step-000005.trash", "notes.tmp"):
        (checkpoints.folder / name).mkdir()
    loaded = checkpoints.newest()
    assert loaded is not None
    assert loaded.passed_over == [("step-000020.tmp", "it was not finished.")]
    save(checkpoints, 30)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["LATEST", "notes.tmp", "step-000010", "step-000030"]


def test_damaged_checkpoint_does_not_push_out_a_sound_one(checkpoints: Checkpoints) -> None:
    save(checkpoints, 10, 20)
    flip_a_byte(checkpoints.folder / "step-000020" / "tensors.safetensors")
    assert checkpoints.newest() is not None
    save(checkpoints, 30)
    assert checkpoints.steps() == [10, 30]


def test_going_back_behind_a_damaged_checkpoint_keeps_what_is_saved_then(checkpoints: Checkpoints) -> None:
    checkpoints.keep = 1
    save(checkpoints, 10, 20, needs=(10,))
    (checkpoints.folder / "step-000020" / "MANIFEST.json").unlink()
    save(checkpoints, 15)
    loaded = checkpoints.newest()
    assert loaded is not None
    assert loaded.step == 15


def test_a_checkpoint_that_needs_a_damaged_one_is_passed_over(checkpoints: Checkpoints) -> None:
    checkpoints.keep = 3
    save(checkpoints, 10)
    save(checkpoints, 20, 30, needs=(20,))
    flip_a_byte(checkpoints.folder / "step-000020" / "tensors.safetensors")
    loaded = checkpoints.newest()
    assert loaded is not None
    assert loaded.step == 10
    assert [name for name, _ in loaded.passed_over] == ["step-000030", "step-000020"]
    assert loaded.passed_over[0][1].startswith("it needs step-000020: tensors.safetensors was altered")


def test_no_checkpoint_and_none_that_verifies_are_told_apart(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None
    assert checkpoints.steps() == []
    with pytest.raises(CheckpointError, match=r"holds no checkpoint of step 5\. There are: none\."):
        checkpoints.load(5)
    save(checkpoints, 10, 20)
    for step in (10, 20):
        (checkpoints.folder / f"step-{step:06d}" / "state.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"can be used:\n  step-000020: state\.json is missing\.\n  step-000010: "
    ):
        checkpoints.newest()
    with pytest.raises(CheckpointError, match=r"There are: 10, 20\."):
        checkpoints.load(5)


@pytest.fixture(scope="module")
def script() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where fsync costs nothing; a kill leaves the same behind on any disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def kills(script: subprocess.Popen[str], folder: Path) -> Iterator[tuple[str, int, Checkpoints]]:
    """Kill a save of step 30 at every call in turn; give the call, and what the folder holds after it."""
    assert script.stdin is not None
    assert script.stdout is not None
    for call in CALLS:
        for number in range(1, 100):
            checkpoints = Checkpoints(folder)
            save(checkpoints, 10, 20)
            print(call, number, folder, file=script.stdin, flush=True)
            code = int(script.stdout.readline())
            assert code in (0, -9)
            if code == 0:
                break
            yield call, number, checkpoints


def test_save_killed_at_any_call_leaves_a_checkpoint_that_verifies(script: subprocess.Popen[str], memory: Path) -> None:
    reached: Counter[str] = Counter()
    steps = set()
    for call, number, checkpoints in kills(script, memory):
        loaded = checkpoints.newest()
        assert loaded is not None, f"{call} {number}"
        assert loaded.state == {"run": "killed" if loaded.step == 30 else "whole"}
        assert torch.equal(loaded.tensors()["w"], torch.full((1000,), float(loaded.step)))
        for step in checkpoints.steps():
            checkpoints.load(step)
        reached[call] += 1
        steps.add(loaded.step)
        save(checkpoints, 40)
        after = checkpoints.newest()
        assert after is not None
        assert (after.step, after.passed_over) == (40, [])
        assert not [path for path in memory.iterdir() if path.suffix]
        for step in checkpoints.steps():
            (memory / f"step-{step:06d}").rename(memory / f"step-{step:06d}.trash")
    assert reached.keys() == set(CALLS)
    assert reached["fsync"] >= 6
    assert steps == {20, 30}


def test_replacing_a_checkpoint_killed_at_any_call_leaves_the_old_or_the_new(
    script: subprocess.Popen[str], memory: Path
) -> None:
    runs = set()
    save(Checkpoints(memory), 30)
    for _, _, checkpoints in kills(script, memory):
        loaded = checkpoints.newest()
        assert loaded is not None
        assert loaded.step == 30
        assert torch.equal(loaded.tensors()["w"], torch.full((1000,), 30.0))
        runs.add((loaded.state["run"], loaded.path.name))
        save(checkpoints, 30)
        after = checkpoints.newest()
        assert after is not None
        assert after.state == {"run": "whole"}
    assert runs == {("whole", "step-000030"), ("whole", "step-000030.old"), ("killed", "step-000030")}


def test_full_disk_is_explained_and_the_older_checkpoint_stays(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk / "checkpoints")
    save(checkpoints, 10)
    with pytest.raises(RunFolderError) as caught:
        checkpoints.save(20, {"w": torch.zeros(1_000_000)}, {})
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"disk full while writing {checkpoints.folder}/step-000020 (needs about 4 MB, 1 MB free")
    assert second == (
        "Nothing was lost: the checkpoint of step 10 is as it was. "
        "Free some space, then run the same command with --resume."
    )
    loaded = checkpoints.newest()
    assert loaded is not None
    assert (loaded.step, loaded.passed_over) == (10, [])
    save(checkpoints, 20)
    assert checkpoints.steps() == [10, 20]


def test_full_disk_at_the_first_checkpoint_does_not_promise_one(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk / "checkpoints")
    with pytest.raises(RunFolderError, match=r"There is no earlier checkpoint, so training will begin again\."):
        checkpoints.save(20, {"w": torch.zeros(1_000_000)}, {})
    assert checkpoints.newest() is None


def half_of_it(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """What is left when a disk fills up, and what safetensors then says."""
    save_file(tensors, path)
    os.truncate(path, path.stat().st_size // 2)
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_space(*args: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing_at(number: int, call: Callable[..., Any], failure: Callable[..., Any]) -> Callable[..., Any]:
    """*call* but for its time *number*, which is a *failure*."""
    count = 0

    def wrapped(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return failure(*args, **options) if count == number else call(*args, **options)

    return wrapped


WRITES: list[tuple[Any, str, Callable[..., Any], int]] = [
    (checkpoints_module, "save_file", half_of_it, 1),
    (Path, "write_text", no_space, 2),
    (Path, "mkdir", no_space, 1),
    (os, "fsync", no_space, 7),
]


@pytest.mark.parametrize(("owner", "name", "failure", "least"), WRITES, ids=[name for _, name, _, _ in WRITES])
def test_a_save_that_fails_at_any_write_leaves_the_older_checkpoint(
    owner: Any, name: str, failure: Callable[..., Any], least: int, checkpoints: Checkpoints
) -> None:
    save(checkpoints, 10)
    failed = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, failing_at(failed + 1, getattr(owner, name), failure))
            try:
                save(checkpoints, 20)
            except RunFolderError as error:
                message = str(error)
            else:
                break
        failed += 1
        assert message.startswith(f"disk full while writing {checkpoints.folder}/")
        assert "Free some space, then run the same command" in message
        assert not [path.name for path in checkpoints.folder.iterdir() if path.suffix]
        loaded = checkpoints.newest()
        assert loaded is not None
        assert loaded.passed_over == []
        assert torch.equal(loaded.tensors()["w"], torch.full((1000,), float(loaded.step)))
        if loaded.step == 10:
            assert "Nothing was lost: the checkpoint of step 10 is as it was." in message
        else:
            # It failed at the last of it, when the checkpoint stood already.
            checkpoints.load(10)
            (checkpoints.folder / "step-000020").rename(checkpoints.folder / "step-000020.trash")
    assert failed >= least
    assert checkpoints.steps() == [10, 20]
