from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from et_core.errors import CheckpointError, RunFolderError
from et_core.runfolder import RunFolder, current, settle, staged_folder, verify, write_bytes, write_json, write_text

# Dies by SIGKILL before the call number argv[2] of anything that changes what is on the disk.
KILLED = """
import os, pathlib, signal, sys
from et_core.runfolder import staged_folder, write_text

def deadly(call):
    def wrapped(*args, **kwargs):
        deadly.left -= 1
        if deadly.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapped

folder = pathlib.Path(sys.argv[1])
for limit in map(int, sys.stdin):
    child = os.fork()
    if child == 0:
        deadly.left = limit
        for name in ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "chmod"):
            setattr(os, name, deadly(getattr(os, name)))
        write_text(folder / "file", "new" * 100)
        with staged_folder(folder / "model") as staged:
            for name in ("a", "b", "c"):
                (staged / name).write_text("new")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with staged_folder(tmp_path / "model") as staged:
        (staged / "weights").write_bytes(b"0123456789")
        (staged / "sub").mkdir()
        (staged / "sub" / "vocab").write_text("a b c")
    return tmp_path / "model"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_written_files_replace_older_ones_and_leave_nothing_beside(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    write_text(tmp_path / "a", "grün")
    write_bytes(tmp_path / "b", b"\x00\xff")
    write_json(tmp_path / "c", {"label": "好", "lr": 0.1})
    assert (tmp_path / "a").read_bytes() == "grün".encode()
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert "好" in (tmp_path / "c").read_text("utf-8")
    assert json.loads((tmp_path / "c").read_bytes()) == {"label": "好", "lr": 0.1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_full_disk_leaves_the_old_file_and_says_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"accuracy": 0.9})
    path.with_name("results.json.tmp").symlink_to("/dev/full")
    with pytest.raises(
        RunFolderError, match=r"^disk full while writing .*results\.json \(.* free\)\.\nWhat was there "
    ):
        write_json(path, {"accuracy": 0.8})
    assert json.loads(path.read_bytes()) == {"accuracy": 0.9}
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


def test_staged_folder_appears_whole_with_a_manifest_of_all_files(folder: Path) -> None:
    verify(folder)
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    assert manifest["format"] == 1
    assert {name: row["size"] for name, row in manifest["files"].items()} == {"sub/vocab": 5, "weights": 10}
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_staged_folder_is_not_seen_before_it_is_complete(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "model") as staged:
        assert staged == tmp_path / "model.tmp"
        (staged / "weights").write_bytes(b"0")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "weights").exists()


def test_folder_without_manifest_is_written_on_request(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "model", manifest=False) as staged:
        (staged / "weights").write_bytes(b"0")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["weights"]


def test_failed_block_leaves_the_old_folder_untouched(folder: Path) -> None:
    def fail() -> None:
        with staged_folder(folder) as staged:
            (staged / "weights").write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    verify(folder, requires=("weights", "sub/vocab"))
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_leftovers_of_a_killed_writer_do_not_get_into_the_next_folder(folder: Path) -> None:
    leftover = folder.with_name("model.tmp")
    leftover.mkdir()
    (leftover / "stale").write_bytes(b"0")
    with staged_folder(folder) as staged:
        (staged / "weights").write_bytes(b"new")
    assert sorted(path.name for path in folder.iterdir()) == ["MANIFEST.json", "weights"]
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_interrupted_replacement_is_read_from_the_old_folder_and_put_back_by_the_writer(folder: Path) -> None:
    folder.rename(folder.with_name("model.old"))
    assert current(folder) == folder.with_name("model.old")
    settle(folder)
    assert current(folder) == folder
    verify(folder)


def test_files_of_a_staged_folder_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "model") as staged:
        staged.chmod(0o755)
        (staged / "weights").write_bytes(b"0")
        (staged / "weights").chmod(0o600)
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o644


def test_writer_killed_at_any_call_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    seen = set()
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdin is not None
        assert script.stdout is not None
        for limit in range(1, 100):
            # What the last kill left is not cleaned up first: a real writer meets it too.
            write_text(tmp_path / "file", "old")
            with staged_folder(tmp_path / "model") as staged:
                (staged / "a").write_text("old")
            print(limit, file=script.stdin, flush=True)
            code = int(script.stdout.readline())
            assert code in (0, -9)
            model = current(tmp_path / "model")
            verify(model)
            state = ((tmp_path / "file").read_text()[:3], (model / "a").read_text(), len(list(model.iterdir())))
            seen.add((*state, model.name))
            if code == 0:
                break
        script.stdin.close()
    assert code == 0
    assert limit > 15
    assert seen == {
        ("old", "old", 2, "model"),
        ("new", "old", 2, "model"),
        ("new", "old", 2, "model.old"),
        ("new", "new", 4, "model"),
    }


def test_everything_is_on_the_disk_before_the_folder_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int | str] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(descriptor: int) -> None:
        calls.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def record_rename(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    with staged_folder(tmp_path / "model") as staged:
        (staged / "weights").write_bytes(b"0")
        (staged / "sub").mkdir()
        (staged / "sub" / "vocab").write_text("a b c")
    model = tmp_path / "model"
    files = ("sub/vocab", "weights", "MANIFEST.json", "sub", ".")
    assert calls == [*((model / name).stat().st_ino for name in files), "rename", tmp_path.stat().st_ino]


def test_full_disk_removes_the_unfinished_folder_and_names_the_need(folder: Path) -> None:
    def fill() -> None:
        with staged_folder(folder, needs=272_000_000, advice="Nothing was lost.") as staged:
            (staged / "weights").symlink_to("/dev/full")
            (staged / "weights").write_bytes(b"0")

    with pytest.raises(
        RunFolderError, match=r"disk full while writing .*/model \(needs about 272 MB, .* free\)\.\nNothing"
    ):
        fill()
    verify(folder, requires=("sub/vocab",))
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]


def test_full_disk_is_recognised_on_a_real_small_disk(small_disk: Path) -> None:
    def fill() -> None:
        with staged_folder(small_disk / "runs" / "model") as staged:
            (staged / "weights").write_bytes(bytes(2_000_000))

    with pytest.raises(RunFolderError, match=r"disk full while writing .*/runs/model \(1 MB free\)"):
        fill()
    assert list((small_disk / "runs").iterdir()) == []


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "file", "text")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "MANIFEST.json").unlink(), r"it was not finished \(no MANIFEST\.json\)"),
        (lambda folder: (folder / "weights").unlink(), r"weights is missing"),
        (lambda folder: os.truncate(folder / "weights", 4), r"weights is truncated: 4 of 10 bytes"),
        (lambda folder: (folder / "weights").write_bytes(b"0123x56789"), r"weights was altered: its sha256 "),
        (lambda folder: (folder / "sub" / "vocab").write_text("a b c d"), r"sub/vocab was altered: it has 7 bytes "),
        (lambda folder: os.truncate(folder / "MANIFEST.json", 30), r"MANIFEST\.json cannot be read"),
        (lambda folder: (folder / "MANIFEST.json").write_text("[]"), r"MANIFEST\.json was altered"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"files": {}, "format": 2}'), r"has the format 2"),
        (lambda folder: (folder / "MANIFEST.json").write_text('{"files": {}, "format": 1}'), r"weights is not listed"),
        (lambda folder: folder.rename(folder.with_name("gone")), r"there is no such folder"),
    ],
)
def test_damaged_folder_is_refused_with_the_reason(folder: Path, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    damage(folder)
    with pytest.raises(CheckpointError, match=f"model cannot be used: .*{reason}"):
        verify(folder, requires=("weights",))


def test_new_run_gets_a_folder_and_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs" / "sst2", resume=False)
    assert run.path.is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"file is a file; a run needs a folder"):
        RunFolder.create(tmp_path / "file", resume=False)
    with pytest.raises(RunFolderError, match=r"cannot create .*file/run: .*output="):
        RunFolder.create(tmp_path / "file" / "run", resume=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match=r"cannot create .*: Permission denied"):
        RunFolder.create(tmp_path / "run", resume=False)
    with pytest.raises(RunFolderError, match="is not writable"):
        RunFolder.create(tmp_path, resume=False)


def test_folder_that_holds_a_run_is_only_taken_with_resume(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", resume=False)
    run.config_file.write_text("")
    with pytest.raises(
        RunFolderError, match=r"already holds a run \(stopped before its first checkpoint\)\.\n.*--resume"
    ):
        RunFolder.create(run.path, resume=False)
    for step in (20, 500):
        (run.checkpoints / f"step-{step:06d}").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"already holds a run \(stopped at step 500\)"):
        RunFolder.create(run.path, resume=False)
    write_json(run.results_file, {})
    with pytest.raises(RunFolderError, match=r"\(finished\)"):
        RunFolder.create(run.path, resume=False)
    write_json(run.results_file, {"epochs": 3})
    with pytest.raises(RunFolderError, match=r"\(finished, 3 epochs\)"):
        RunFolder.create(run.path, resume=False)
    assert RunFolder.create(run.path, resume=True).path == run.path


@pytest.mark.parametrize("resume", [False, True])
def test_folder_with_other_files_is_refused(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds other files \(README\.md\)"):
        RunFolder.create(tmp_path, resume=resume)


@pytest.mark.parametrize("resume", [False, True])
def test_folder_of_a_run_killed_at_its_first_file_is_started_again(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "config.yaml.tmp").write_text("mod")
    assert RunFolder.create(tmp_path, resume=resume).path == tmp_path


def test_open_says_what_a_run_lacks(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs" / "sst2", resume=False)
    with pytest.raises(RunFolderError, match=r"holds no run: neither config\.yaml nor model/"):
        RunFolder.open(run.path)
    run.config_file.write_text("")
    with pytest.raises(RunFolderError, match=r"sst3 does not exist\. Runs in .*runs: sst2\."):
        RunFolder.open(run.path.with_name("sst3"))
    with pytest.raises(RunFolderError, match=r"the run stopped before its first checkpoint\.\n.*--resume"):
        RunFolder.open(run.path)
    (run.checkpoints / "step-000500").mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"the run stopped at step 500 before it was finished\.\n.*--resume"):
        RunFolder.open(run.path)
    run.model.with_name("model.old").mkdir()
    assert RunFolder.open(run.path).path == run.path
    run.config_file.unlink()
    with pytest.raises(RunFolderError, match=r"holds no config\.yaml"):
        RunFolder.open(run.path)


def test_metrics_can_be_read_while_they_are_written_and_continue_after_a_resume(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read_metrics() == []
    for step in (10, 20, 30):
        run.append_metrics({"step": step, "loss": 1 / step})
        assert run.read_metrics()[-1] == {"step": step, "loss": 1 / step}
    with run.metrics_file.open("a") as file:
        file.write('{"step": 40, "part": {"loss": 0}')
    assert [line["step"] for line in run.read_metrics()] == [10, 20, 30]
    run.truncate_metrics(20)
    run.append_metrics({"step": 25})
    assert [line["step"] for line in run.read_metrics()] == [10, 20, 25]
    assert run.metrics_file.read_text().startswith('{"step": 10, "loss": 0.1}\n{"step": 20, ')


def test_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics_file.write_text('{"step": 10}')
    run.truncate_metrics(10)
    run.append_metrics({"step": 20})
    assert run.read_metrics() == [{"step": 10}, {"step": 20}]


def test_damaged_line_of_the_metrics_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics_file.write_text('{"step": 10}\n{"st\n{"step": 30}\n')
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl line 2 is not JSON: '{\"st'"):
        run.read_metrics()


def test_full_disk_is_explained_when_metrics_are_written(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.metrics_file.symlink_to("/dev/full")
    with pytest.raises(RunFolderError, match=r"disk full while writing .*metrics\.jsonl"):
        run.append_metrics({"step": 1})
