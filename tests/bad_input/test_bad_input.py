"""What a user is told when data, settings, a disk or a checkpoint are wrong; nothing is lost by it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from et_core.errors import (
    ArtifactError,
    CheckpointError,
    ConfigError,
    DataError,
    EtError,
    RunFolderError,
)
from et_core.registry import registry
from tests.bad_input.tools import HEADER, ROWS, refused, train, unfinish


@pytest.fixture
def stopped(folder: Path) -> dict[str, torch.Tensor]:
    """A run in ./run that stopped after its last checkpoint; the weights it would have ended with."""
    train()
    weights = load_file("run/model/model.safetensors")
    unfinish(Path("run"))
    return weights


def assert_same_weights(wanted: dict[str, torch.Tensor]) -> None:
    found = load_file("run/model/model.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            "sentence\tlabel\ngood\tpositive\n",
            "train.tsv has no column 'text', which the app reads as its 'text'. "
            "Say which column plays that role: data.columns.text=COLUMN.\nColumns: sentence, label.\n"
            "If the first line is a row and not a header: data.header=false.",
            id="missing column",
        ),
        pytest.param("", "train.tsv is empty.", id="empty file"),
        pytest.param(
            HEADER,
            "train.tsv has a header but no rows. If its first line is a row, set data.header=false.\n"
            "Header: text, label.",
            id="header alone",
        ),
        pytest.param(
            b"text\tlabel\ngood\tpositive\nb\xe4d\tnegative\n",
            "train.tsv line 3: byte 2 of the line (0xe4) is not UTF-8.\n"
            "Convert the file: iconv -f LATIN1 -t UTF-8 'train.tsv' > NEW_FILE "
            "(put in the encoding that it has, such as GB18030).",
            id="broken UTF-8",
        ),
        pytest.param(
            HEADER + "good\tpositive\nbad\nbad\tnegative\n",
            "train.tsv line 3: 1 field where the header has 2; it starts with 'bad'.\n"
            "Correct the row, or leave such rows out with data.on_bad_row=skip.",
            id="too few fields",
        ),
    ],
)
def test_bad_data_is_told_and_the_mended_file_trains_in_the_same_folder(content: str | bytes, message: str) -> None:
    Path("train.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(DataError) == message
    assert not Path("run").exists()
    Path("train.tsv").write_text(HEADER + ROWS, "utf-8")
    assert train().results["steps"] == 9


def test_unknown_label_in_dev_names_file_line_and_column() -> None:
    Path("dev.tsv").write_text(HEADER + ROWS + "fine\tpositve\n", "utf-8")
    assert refused(DataError, {"data.dev": "dev.tsv"}) == (
        "dev.tsv line 14: column 'label' holds 'positve'.\n"
        "Known labels: negative, positive. Did you mean 'positive'?\n"
        "Correct it, or leave bad rows out with data.on_bad_row=skip."
    )
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.learning_rate": 1}, "train.learning_rate is not a setting. Did you mean train.lr?"),
        (
            {"app.label_smothing": 0.1},
            r"app.label_smothing is not an argument of classification \(et-appzoo [\d.]+\). "
            r"Did you mean 'label_smoothing'\? Arguments: mode, labels, .*",
        ),
        (
            {"model.num_layer": 1},
            r"model.num_layer is not an argument of bert \(et-bert [\d.]+\). Did you mean 'num_layers'\? .*",
        ),
        (
            {"strategy": "ddp", "strategy.proceses": 2},
            r"strategy.proceses is not an argument of ddp \(et-core [\d.]+\). Did you mean 'processes'\? .*",
        ),
        ({"data.max_length": 512}, "data.max_length is 512, but bert-tiny-random@zoo has positions for 128 tokens."),
        (
            {"train.patience": 2},
            "train.patience needs a dev set and train.keep_best: set data.dev, such as data.dev=0.1.",
        ),
        (
            {"data.dev": 0.5, "train.keep_best": "acuracy"},
            "train.keep_best is 'acuracy'. Metrics of this run: accuracy, f1, mcc, auc, loss.",
        ),
        (
            {"train.freeze": ["embedings"]},
            "train.freeze: 'embedings' matches no parameter. Did you mean 'embeddings'? Parts: .*",
        ),
        ({"train.freeze": ["*"]}, "train.freeze leaves nothing to train."),
        (
            {"data.dev": 1.5},
            "data.dev is 1.5: expected a file, or a fraction of data.train between 0 and 1.",
        ),
        ({"data.dev": 0}, "data.dev is 0: expected a file, or a fraction of data.train between 0 and 1."),
        ({"data.dev": 0.01}, "data.dev is 0.01: of 12 rows that leaves nothing for one of train and dev."),
        ({"data.columns": {"txt": "a"}}, "data.columns.txt: the app reads no 'txt'. Did you mean data.columns.text?.*"),
        (
            {"model": ""},
            "model is not set. Write model=REF, such as a name that 'et list presets' shows, "
            "or put it into the config file.",
        ),
        ({"data.train": None}, "data.train is not set. Write data.train=train.tsv, or put it into the config file."),
        ({"model.tokenizer": "t5-x@zoo"}, "unknown preset 't5-x'.*"),
        ({"train.optimizer": "adam"}, "unknown optimizer 'adam'.\nDid you mean 'adamw'?.*"),
        (
            {"train.optimizer.beta": [0.9, 0.99]},
            "train.optimizer.beta is not an argument of adamw .* Did you mean 'betas'? Arguments: betas, eps.",
        ),
        ({"train.schedule.end": 0.1}, "train.schedule.end is not an argument of linear .* Arguments: none."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_setting_that_cannot_work_is_refused_before_training(settings: dict[str, Any], message: str) -> None:
    pattern = message if "\\" in message else message.replace("?", r"\?")
    with pytest.raises(EtError, match=rf"(?s)\A{pattern}\Z"):
        train(settings)
    assert not Path("run").exists()


def test_numbers_as_names_of_labels_are_refused() -> None:
    Path("train.tsv").write_text(HEADER + "".join(f"row {i}\t{i * 0.37:.2f}\n" for i in range(40)), "utf-8")
    assert refused(ConfigError) == (
        "the label column holds 40 different numbers in 40 rows. "
        "To predict a number set app.mode=regression; to treat them as names give app.labels."
    )
    assert not Path("run").exists()


def test_skipped_rows_are_counted_and_listed() -> None:
    Path("train.tsv").write_text(HEADER + ROWS + "short\nempty\t\n", "utf-8")
    Path("dev.tsv").write_text(HEADER + ROWS + "odd\tneutral\n", "utf-8")
    run = train({"data.on_bad_row": "skip", "data.dev": "dev.tsv"})
    assert (run.results["train_rows"], run.results["dev_rows"], run.results["skipped_rows"]) == (12, 12, 3)
    listed = [json.loads(line) for line in Path("run/skipped.jsonl").read_text("utf-8").splitlines()]
    assert [row["where"] for row in listed] == ["train.tsv line 14", "train.tsv line 15", "dev.tsv line 14"]
    assert "1 field where the header has 2" in listed[0]["reason"]
    assert "column 'label' is empty" in listed[1]["reason"]
    assert "holds 'neutral'" in listed[2]["reason"]
    assert all(row["raw"] for row in listed)


def test_folder_that_holds_a_run_or_anything_else_is_left_alone() -> None:
    train()
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    assert refused(RunFolderError) == (
        "run already holds a run (finished, 3 epochs).\nContinue it with --resume, or write elsewhere with output=..."
    )
    assert train(resume=True).results["steps"] == 9
    assert "train.lr: 0.001 then, 1.0 now" in refused(CheckpointError, {"train.lr": 1}, resume=True)
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    assert refused(RunFolderError, {"output": "other"}) == (
        "other holds other files (notes.txt), and a run needs a folder of its own.\nWrite elsewhere with output=..."
    )
    assert [path.name for path in Path("other").iterdir()] == ["notes.txt"]


def test_weights_of_another_family_are_refused() -> None:
    train({"output": "source"})
    shutil.copytree("source/model", "foreign")
    Path("foreign/MANIFEST.json").unlink()
    save_file({"transformer.h.0.attn.weight": torch.zeros(4, 4)}, "foreign/model.safetensors")
    message = refused(ArtifactError, {"model": "./foreign@local"})
    assert "the weights in foreign are not those of a BERT of this config: " in message
    assert "tensors are missing" in message
    assert message.endswith("Check that config.json and the weights belong together.")
    assert not Path("run").exists()
    config = json.loads(Path("foreign/config.json").read_text("utf-8"))
    Path("foreign/config.json").write_text(json.dumps({**config, "model_type": "gpt_neox"}), "utf-8")
    message = refused(ConfigError, {"model": "./foreign@local"})
    assert message.startswith("'./foreign@local' is of the family 'gpt_neox' (model_type in its config.json), which no")
    assert message.endswith(f"Installed families: {', '.join(registry('backbones').names())}.")
    assert not Path("run").exists()


def test_damaged_checkpoints_are_passed_over_by_name_and_the_run_ends_the_same(
    stopped: dict[str, torch.Tensor],
) -> None:
    with Path("run/checkpoints/step-000009/tensors.safetensors").open("r+b") as file:
        file.truncate(1000)
    with Path("run/checkpoints/step-000006/state.json").open("r+b") as file:
        file.seek(20)
        file.write(b"7")
    run = train(resume=True)
    notes = "\n".join(run.results["notes"])
    assert "passed over the checkpoint step-000009: tensors.safetensors is truncated: 1000 of " in notes
    assert "passed over the checkpoint step-000006: state.json was altered: its sha256 is not the one" in notes
    assert_same_weights(stopped)


def test_without_a_sound_checkpoint_nothing_is_begun_anew_by_itself(stopped: dict[str, torch.Tensor]) -> None:
    for step in (3, 6, 9):
        Path(f"run/checkpoints/step-{step:06d}/state.json").unlink()
    message = refused(CheckpointError, resume=True)
    assert message.startswith("no checkpoint in run/checkpoints can be used:\n  step-000009: state.json is missing.")
    assert message.endswith("To train from the beginning, remove that folder.")
    assert len(list(Path("run/checkpoints").glob("step-*"))) == 3
    shutil.rmtree("run/checkpoints")
    train(resume=True)
    assert_same_weights(stopped)


def test_resume_with_other_settings_or_data_is_refused_and_changes_nothing(stopped: dict[str, torch.Tensor]) -> None:
    config = Path("run/config.yaml").read_text("utf-8")
    assert refused(CheckpointError, {"train.lr": 0.5, "data.max_length": 64}, resume=True) == (
        "run/checkpoints/step-000009 was written with other settings:\n"
        "  data.max_length: 128 then, 64 now\n"
        "  train.lr: 0.001 then, 0.5 now\n"
        "Resume with the settings it was started with, or start anew with another output=..."
    )
    original = Path("train.tsv").read_text("utf-8")
    Path("train.tsv").write_text(original + "one more\tpositive\n", "utf-8")
    assert refused(CheckpointError, resume=True) == (
        "run/checkpoints/step-000009 was written with other training data than there is now.\n"
        "Restore the training data, or start anew with another output=..."
    )
    assert Path("run/config.yaml").read_text("utf-8") == config
    Path("train.tsv").write_text(original, "utf-8")
    train({"train.log_every": 1}, resume=True)
    assert_same_weights(stopped)


@pytest.fixture
def mount_disk(folder: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system of so many bytes at ./disk."""
    disk = folder / "disk"

    def mount(size: int) -> Path:
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            disk.rmdir()
            pytest.skip(f"mounting a small file system is not permitted here: {done.stderr.strip()}")
        return disk

    yield mount
    if disk.exists():
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_disk_while_training_keeps_the_last_checkpoint_and_resume_ends_the_same(
    mount_disk: Callable[[int], Path],
) -> None:
    train()
    one = sum(file.stat().st_size for file in Path("run/checkpoints/step-000003").iterdir())
    disk = mount_disk(one * 5 // 3)
    wanted = load_file("run/model/model.safetensors")
    message = refused(RunFolderError, {"output": "disk/run"})
    assert message.startswith("disk full while writing disk/run/checkpoints/step-000006 (needs about ")
    assert "Nothing was lost: the checkpoint of step 3 is as it was." in message
    assert message.endswith("Free some space, then run the same command with --resume.")
    assert sorted(path.name for path in Path("disk/run/checkpoints").iterdir()) == ["LATEST", "step-000003"]
    subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
    train({"output": "disk/run"}, resume=True)
    found = load_file("disk/run/model/model.safetensors")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_full_disk_while_predicting_leaves_no_half_file(mount_disk: Callable[[int], Path]) -> None:
    run = train()
    disk = mount_disk(2**20)
    Path("new.tsv").write_text("text\tnote\n" + f"good\t{'x' * 10000}\n" * 200, "utf-8")
    with pytest.raises(RunFolderError) as caught:
        run.predict_file("new.tsv", "disk/out.jsonl")
    assert str(caught.value) == ("disk full while writing disk/out.jsonl. Free some space, or write elsewhere.")
    assert not list(disk.iterdir())


def test_full_device_while_predicting_is_told() -> None:
    run = train()
    with pytest.raises(RunFolderError) as caught:
        run.predict_file("train.tsv", "/dev/full", output_format="jsonl")
    assert str(caught.value) == "disk full while writing /dev/full. Free some space, or write elsewhere."
