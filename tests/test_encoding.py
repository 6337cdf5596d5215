"""Encoded rows are kept, and made anew when the code that makes them changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from et_appzoo.classification.app import Classification
from et_core import api
from et_core.data import code_fingerprint
from et_core.errors import ComponentError, DataError
from et_core.registry import refresh
from et_core.registry.files import forget_file, import_file
from tests.seams.tools import PLUGIN, seam_plugins, write_words

APP = """
from et_appzoo.classification.app import Classification
from et_core.hooks import hookimpl

ET_API = 1

@hookimpl
def et_register_apps(register):
    register("shouting", "shouting_plugin:Shouting", summary="Reads some words only")

class Shouting(Classification):
    def encode(self, rows, *arguments, **options):
        rows = [type(row)({**row, "text": KEEP(row["text"])}, index=row.index, where=row.where) for row in rows]
        return super().encode(rows, *arguments, **options)
"""


def test_a_class_is_known_by_the_source_of_its_package_and_of_its_bases(tmp_path: Path) -> None:
    file = tmp_path / "shouting_plugin.py"
    found = []
    for text in (APP, APP.replace("KEEP", "str.upper"), APP):
        file.write_text(text, "utf-8")
        forget_file(file)
        found.append(code_fingerprint(import_file(file).Shouting))
    forget_file(file)
    assert found[0] == found[2] != found[1]
    assert code_fingerprint(Classification) == code_fingerprint(Classification)
    assert code_fingerprint(Classification) not in found


def test_rows_are_encoded_anew_after_the_app_was_edited(tmp_path: Path) -> None:
    file = tmp_path / "shouting_plugin.py"
    config: dict[str, Any] = {
        "app": {"name": "shouting", "head": "pooled-linear", "dropout": 0.0},
        "model": "seam-bag@init",
        "data": {"train": str(write_words(tmp_path / "a.tsv", 40)), "dev": str(write_words(tmp_path / "b.tsv", 40))},
        "train": {"epochs": 6, "batch_size": 8, "lr": 0.03, "precision": "fp32", "keep_best": None},
        "plugins": {"files": [str(PLUGIN), str(file)]},
    }
    scores = {}
    for name, keep in (("blind", "(lambda text: 'w1')"), ("seeing", "str")):
        file.write_text(APP.replace("KEEP", keep), "utf-8")
        with seam_plugins():
            scores[name] = api.train(config, {"output": str(tmp_path / name)}).metrics["accuracy"]
        forget_file(file)
    refresh()
    assert scores["blind"] <= 0.5
    assert scores["seeing"] > 0.9


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ET_CACHE_DIR", str(tmp_path / "file" / "cache"))
    config = {
        "app": "classification",
        "model": "seam-bag@init",
        "data": {"train": str(write_words(tmp_path / "a.tsv", 40))},
        "plugins": {"files": [str(PLUGIN)]},
        "output": str(tmp_path / "run"),
    }
    with seam_plugins(), pytest.raises(DataError, match=r"cannot be kept in .*Not a directory\..*set ET_CACHE_DIR"):
        api.train(config)


def test_inputs_that_the_backbone_does_not_take_are_refused(tmp_path: Path) -> None:
    app = APP.replace('"shouting"', '"deaf"').replace("Shouting", "Deaf")
    encode = app.index("    def encode")
    file = tmp_path / "deaf_plugin.py"
    file.write_text(
        app[:encode].replace("shouting_plugin", "deaf_plugin")
        + "    def encode(self, rows, tokenizer, *, accepts, **options):\n"
        + "        return super().encode(rows, tokenizer, accepts=frozenset({'texts'}), **options)\n",
        "utf-8",
    )
    (tmp_path / "a.tsv").write_text("text\ttext_pair\tlabel\n" + "a\tb\tx\nb\ta\ty\n" * 4, "utf-8")
    config = {
        "app": {"name": "deaf", "head": "pooled-linear"},
        "model": "seam-bag@init",
        "data": {"train": str(tmp_path / "a.tsv")},
        "plugins": {"files": [str(PLUGIN), str(file)]},
        "output": str(tmp_path / "run"),
    }
    with seam_plugins(), pytest.raises(ComponentError) as caught:
        api.train(config)
    forget_file(file)
    assert str(caught.value) == (
        "Deaf encodes rows into texts.0.ids, texts.1.ids, but the backbone 'seam-bag' takes no texts.1.ids: it accepts "
        "text. Choose another model, or have App.encode follow *accepts*: with 'text' alone a pair is joined."
    )
