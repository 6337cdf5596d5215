"""The command line, as processes: what it prints, and the code it ends with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from et_core import api
from et_core.cli.options import print_json
from tests.fake_dists import EMPTY_PLUGIN, fake_dist, registering

CONFIG = """\
app: classification
model: bert-tiny-random
data:
  train: train.tsv
train:
  epochs: 200
  batch_size: 4
  precision: fp32
  checkpoint_every: 100000
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(CONFIG, "utf-8")
    rows = "".join(f"{word} film {i}\t{label}\n" for i in range(6) for word, label in (("good", "pos"), ("bad", "neg")))
    (tmp_path / "train.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
    return tmp_path


def et(*arguments: str, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "et_core", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    if code:
        assert not done.stdout
    return done


def printed_json(*arguments: str, cwd: Path | None = None) -> Any:
    return json.loads(et(*arguments, "--json", cwd=cwd).stdout)


def test_help_of_the_program_and_of_each_command_shows_its_use() -> None:
    assert et("--help").stdout.startswith("Usage: et [OPTIONS] COMMAND [ARGS]...")
    assert et("plugins", "--help").stdout.startswith("Usage: et plugins [OPTIONS] COMMAND [ARGS]...")
    assert "--resume" in et("train", "-h").stdout
    script = Path(sys.executable).with_name("et")
    if script.exists():
        shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
        assert shown == et("--version").stdout


def test_unknown_command_is_answered_with_the_nearest() -> None:
    shown = et("trian", code=2).stderr
    assert "there is no command 'trian'. Did you mean 'train'? Commands: train, distill, evaluate, predict," in shown
    assert (
        "there is no command 'lst'. Did you mean 'list'? Commands: check, list, new, show."
        in et("plugins", "lst", code=2).stderr
    )
    assert "there is no command 'fetch'. Commands: pin." in et("zoo", "fetch", code=2).stderr
    assert "No such option '--resum'. Did you mean '--resume'?" in et("train", "--resum", code=2).stderr
    assert "Settings are written without dashes, such as train.lr=3e-5" in et("train", "--lr", "3", code=2).stderr


def test_help_of_train_names_nothing_that_only_a_plugin_has() -> None:
    shown = et("train", "--help").stdout
    assert "et train app=APP model=REF data.train=FILE data.dev=0.1" in shown
    assert "minilm" not in shown


def test_a_deprecated_name_is_told_once_without_the_line_of_code(folder: Path, tmp_path: Path) -> None:
    call = "register('old', 'et_core.training.optimizers:AdamW', summary='S', deprecated='use adamw.')"
    fake_dist(tmp_path / "site", "acme", module_source=registering(call, kind="optimizers"))
    done = subprocess.run(
        [sys.executable, "-m", "et_core", "train", "run.yaml", "train.optimizer=old", "train.epochs=1", "--quiet"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    warned = [line for line in done.stderr.splitlines() if "deprecated" in line or "Warning" in line]
    assert len(warned) == 1
    assert re.fullmatch(r"et: warning: optimizer '(acme/)?old' from acme 1\.0 is deprecated: use adamw\.", warned[0])


def test_plugins_are_listed_shown_and_checked() -> None:
    table = et("plugins", "list").stdout.splitlines()
    assert table[0].split() == ["plugin", "version", "status", "registers"]
    assert [line.split()[0] for line in table[1:]] == sorted(line.split()[0] for line in table[1:])
    (zoo,) = [line for line in table if line.startswith("et-bert ")]
    assert zoo.split(maxsplit=3)[3] == "1 backbone, 16 presets"
    listed = {row["plugin"]: row for row in printed_json("plugins", "list")}
    assert {"et-appzoo", "et-bert", "et-core"} <= listed.keys()
    shown = printed_json("plugins", "show", "et-bert")
    assert shown == listed["et-bert"]
    backbones = [entry for entry in shown["entries"] if entry["kind"] == "backbones"]
    assert [(entry["name"], entry["target"]) for entry in backbones] == [("bert", "et_bert.encoder:BertBackbone")]
    text = et("plugins", "show", "et-bert").stdout
    assert "Transformer encoder, Devlin et al. 2018" in text
    shown_error = et("plugins", "show", "et-brt", code=2).stderr
    assert shown_error.startswith("et: ")
    assert "et-bert" in shown_error


def test_check_imports_everything_and_fails_with_what_fails(tmp_path: Path) -> None:
    calls = [f"register({name!r}, 'acme.{name}:Model', summary='A model')" for name in ("gone", "here")]
    module = registering(*calls, kind="trackers")
    fake_dist(tmp_path, "acme", module_source=module, files={"here.py": "class Model: ...\n"})
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "et_core", "plugins", "check", "acme"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "failed  trackers     gone" in done.stdout
    assert "No module named 'acme.gone'" in done.stderr
    command = [sys.executable, "-m", "et_core", "plugins", "check", "acme", "--json"]
    checked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    errors = {row["name"]: row["error"] for row in json.loads(checked.stdout)["entries"]}
    assert "No module named 'acme.gone'" in errors["gone"]


def test_a_plugin_that_registers_nothing_fails_its_check_and_is_told_why(tmp_path: Path) -> None:
    fake_dist(tmp_path, "acme", module_source=EMPTY_PLUGIN)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    reason = "nothing: hooks are functions et_register_... of the module itself, marked with @hookimpl"
    command = [sys.executable, "-m", "et_core", "plugins"]
    checked = subprocess.run([*command, "check", "acme"], env=environment, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (1, f"acme 1.0 registers {reason}\n")
    listed = subprocess.run([*command, "list"], env=environment, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in listed.splitlines() if line.startswith("acme ")]
    assert line.endswith(reason)


def test_broken_preset_does_not_hide_the_others(tmp_path: Path) -> None:
    module = registering("register('lost', 'acme.gone:TABLE[lost]', summary='Lost')", kind="presets")
    fake_dist(tmp_path, "acme", module_source=module)
    command = [sys.executable, "-m", "et_core", "list", "presets"]
    options: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(tmp_path)}, "text": True, "check": True}
    table = subprocess.run(command, capture_output=True, **options).stdout
    (line,) = [line for line in table.splitlines() if line.startswith("lost ")]
    assert line.split()[1] == "broken"
    assert "No module named 'acme.gone'" in line
    assert "bert-tiny-random" in table
    listed = {
        r["name"]: r for r in json.loads(subprocess.run([*command, "--json"], capture_output=True, **options).stdout)
    }
    assert "No module named 'acme.gone'" in listed["lost"]["problem"]
    assert listed["bert-tiny-random"]["pinned"]


def test_pinning_a_missing_file_is_refused() -> None:
    assert "File 'missing.json' does not exist" in et("zoo", "pin", "--file", "missing.json", code=2).stderr


def test_printed_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"loss": None}


def test_list_prints_names_by_kind_and_pattern() -> None:
    presets = printed_json("list", "presets", "bert-*-zh")
    assert {"bert-base-zh", "bert-base-wwm-zh"} <= {row["name"] for row in presets}
    assert all(row["name"].endswith("-zh") and row["license"] for row in presets)
    assert et("list", "presets", "bert-tiny-random").stdout.splitlines()[1].split()[:4] == [
        "bert-tiny-random",
        "0.2",
        "M",
        "Apache-2.0",
    ]
    assert et("list", "presets", "xyzzy*").stderr == "no preset matches 'xyzzy*'.\n"
    assert "Error: a kind is missing. Kinds: backbones, heads, losses," in et("list", code=2).stderr
    unknown = et("list", "backbons", code=2).stderr
    assert unknown.startswith("et: ")
    assert "backbones" in unknown


def test_resolve_shows_what_a_reference_stands_for() -> None:
    found = printed_json("resolve", "bert-tiny-random")
    assert (found["ref"], found["family"], found["license"]) == ("bert-tiny-random@zoo", "bert", "Apache-2.0")
    text = et("resolve", "bert@init").stdout
    assert "family     bert\n" in text
    assert "license    -\n" in text
    assert "tokenizer  -\n" in text
    assert "weights    fresh\n" in text
    assert et("resolve", "org/repo", code=2).stderr.startswith("et: ")


def test_config_shows_each_value_and_its_origin(folder: Path) -> None:
    shown = printed_json("config", "run.yaml", "train.lr=0.1", cwd=folder)
    assert (shown["config"]["train"]["lr"], shown["config"]["train"]["epochs"]) == (0.1, 200.0)
    assert shown["origins"]["train.lr"] == "override"
    assert shown["origins"]["train.epochs"] == "run.yaml:6"
    lines = et("config", "run.yaml", cwd=folder).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("train.batch_size ")]
    assert line.split() == ["train.batch_size", "4", "#", "run.yaml:7"]


def test_error_a_user_can_mend_prints_without_traceback_and_exits_with_2(folder: Path) -> None:
    message = "et: train.learning_rate is not a setting. Did you mean train.lr?\n"
    assert et("config", "run.yaml", "train.learning_rate=1", code=2, cwd=folder).stderr == message
    traced = et("config", "--debug", "run.yaml", "train.learning_rate=1", code=2, cwd=folder).stderr
    assert traced.startswith("Traceback (most recent call last):")
    assert "et_core.errors.ConfigError" in traced
    assert traced.endswith(message)


def test_setting_of_a_file_is_refused_with_its_line(folder: Path) -> None:
    with (folder / "run.yaml").open("a") as file:
        file.write("trian: {}\n")
    shown = et("train", "run.yaml", code=2, cwd=folder).stderr
    assert shown == "et: run.yaml line 10: trian is not a setting. Did you mean train?\n"


def test_a_chosen_format_wins_over_the_extensions_of_a_prediction(folder: Path) -> None:
    et("train", "run.yaml", "train.epochs=1", "output=run", "--quiet", cwd=folder)
    (folder / "train.tsv").rename(folder / "new.parquet")
    files = ["--input", "new.parquet", "--input-format", "tsv", "--output", "out.parquet", "--output-format", "csv"]
    et("predict", "run", *files, cwd=folder)
    lines = (folder / "out.parquet").read_text("utf-8").splitlines()
    assert lines[0] == "text,label,prediction,probabilities"
    assert len(lines) == 13


def start_training(folder: Path, output: str) -> subprocess.Popen[str]:
    """A training process that has logged some steps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "et_core", "train", "run.yaml", f"output={output}", "--quiet"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = folder / output / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_training_with_a_checkpoint_from_which_it_goes_on(
    number: signal.Signals, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_training(folder, "runs/stopped")
    process.send_signal(number)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == code, shown
    (checkpoint,) = (folder / "runs/stopped/checkpoints").glob("step-*")
    step = int(checkpoint.name.removeprefix("step-"))
    assert shown.splitlines()[-1] == f"et: stopped at step {step}; a checkpoint is saved. Go on with --resume."
    assert "Traceback" not in shown
    monkeypatch.chdir(folder)
    refused = et("predict", "runs/stopped", "--input", "train.tsv", "--output", "out.jsonl", code=2)
    assert f"the run stopped at step {step} before it was finished" in refused.stderr
    resumed = api.train("run.yaml", ["output=runs/stopped"], resume=True, progress=False)
    assert resumed.results["steps"] == 600 > step
    whole = api.train("run.yaml", ["output=runs/whole"], progress=False)
    assert (resumed.path / "model/model.safetensors").read_bytes() == (
        whole.path / "model/model.safetensors"
    ).read_bytes()


def test_a_limit_that_names_what_is_not_installed_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "et_core", "plugins", "list"],
        env={**os.environ, "ET_PLUGINS": "et-brt", "ET_PLUGINS_STRICT": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "ET_PLUGINS='et-brt' names et-brt, which is not installed.\n"
