from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from et_appzoo.demo import FILES, write_demo
from et_core.config import load_config


def read(path: Path) -> list[tuple[str, ...]]:
    header, *lines = path.read_text("utf-8").splitlines()
    assert header == "text\tlabel"
    return [tuple(line.split("\t")) for line in lines]


def test_the_data_is_six_hundred_different_reviews_half_of_them_good(tmp_path: Path) -> None:
    write_demo(tmp_path)
    train, dev = read(tmp_path / "reviews.train.tsv"), read(tmp_path / "reviews.dev.tsv")
    assert (len(train), len(dev)) == (480, 120)
    for rows in (train, dev):
        assert all(len(row) == 2 for row in rows)
        assert Counter(row[1] for row in rows) == {"positive": len(rows) / 2, "negative": len(rows) / 2}
    texts = {" ".join(row[0].lower().split()) for row in train + dev}
    assert len(texts) == 600
    assert all(row[0] == row[0].strip() != "" for row in train + dev)


def test_the_config_is_one_that_loads(tmp_path: Path) -> None:
    path = write_demo(tmp_path / "new" / "folder")
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(FILES)
    config = load_config(path).config
    assert (config.app.name, config.model.ref) == ("classification", "minilm-l6-en@zoo")
    assert config.data.columns == {"text": "text", "label": "label"}
    assert yaml.safe_load(path.read_text("utf-8"))["data"]["dev"] == "reviews.dev.tsv"
    (path.parent / FILES[1]).write_text("changed", "utf-8")
    write_demo(path.parent)
    assert len(read(path.parent / FILES[1])) == 480


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "et_appzoo.demo", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )


LOGS = """
import logging
from et_core.log import show_log

{before}
show_log()
show_log()
logging.getLogger("et").info("heard")
logging.getLogger("other").info("other")
print(len(logging.getLogger().handlers), len(logging.getLogger("et").handlers))
"""


@pytest.mark.parametrize(
    ("before", "heard", "handlers"),
    [
        ("", "heard\n", "0 1\n"),
        ("logging.basicConfig(format='own: %(message)s')", "own: heard\n", "1 0\n"),
        ("logging.getLogger('et').setLevel('WARNING')", "", "0 1\n"),
    ],
)
def test_the_log_is_shown_once_and_the_programs_own_logging_left_alone(before: str, heard: str, handlers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOGS.format(before=before)], capture_output=True, text=True, check=True
    )
    assert (done.stderr, done.stdout) == (heard, handlers)


@pytest.mark.slow
def test_the_demo_runs_twice_and_shows_what_it_did(tmp_path: Path) -> None:
    for name in ("reviews", "reviews-2"):
        done = demo(tmp_path, "--model", "bert-tiny-random")
        assert done.returncode == 0, done.stderr
        assert "accuracy" in done.stdout
        predictions = [line for line in done.stdout.splitlines() if re.match(r" *(positive|negative) +\d+% ", line)]
        assert len(predictions) == 3
        report = Path("demo", "runs", name, "report.html")
        assert f"Report:    {report}" in done.stdout
        assert (tmp_path / report).is_file()
        assert f"et predict demo/runs/{name} --input demo/reviews.dev.tsv --output predictions.jsonl" in done.stdout


def test_a_model_that_does_not_exist_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    done = demo(tmp_path, "--model", "no-such-model")
    assert done.returncode == 2
    assert done.stderr.startswith("et: ")
    assert "no-such-model" in done.stderr
    assert "Traceback" not in done.stderr
