"""The model card, which is the README of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from et_core.report import ReportData, write_card

DATA = ReportData(
    title="sst2",
    app="classification",
    model="minilm-l6-en@zoo",
    task_line="2 labels: negative, positive",
    command="et train sst2.yaml train.epochs=3",
    facts={"Rows": "6,920 train, 872 dev"},
    config={"train": "train.tsv"},
    metrics={"dev": {"accuracy": 0.8, "f1": 0.79, "loss": 0.5}},
    history=[],
    figures=[],
    notes=["2 rows were skipped."],
    model_license="Apache-2.0",
    usage={"Python": "import et_core as et", "Command line": "et predict runs/sst2"},
    best_step=20,
)
USAGE = {**DATA.usage, "transformers": "from transformers import AutoTokenizer, BertForSequenceClassification"}


def card(folder: Path, **changes: Any) -> tuple[dict[str, Any], str]:
    path = folder / "README.md"
    write_card(replace(DATA, **changes), path)
    _, front, body = path.read_text(encoding="utf-8").split("---\n", maxsplit=2)
    return yaml.safe_load(front), body


def test_card_has_the_front_matter_of_the_hub(tmp_path: Path) -> None:
    front, body = card(tmp_path, model="org/some-model@hf:main", pipeline_tag="text-classification", usage=USAGE)
    assert front == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "org/some-model",
        "metrics": ["accuracy", "f1"],
        "tags": ["et", "classification"],
    }
    assert "| accuracy | 0.8000 |\n| f1 | 0.7900 |" in body
    assert "```python\nimport et_core as et\n```" in body
    assert "```bash\net train sst2.yaml train.epochs=3\n```" in body
    assert "```yaml\ntrain: train.tsv\n```" in body


def test_card_names_transformers_only_where_the_model_loads_in_it(tmp_path: Path) -> None:
    assert card(tmp_path, usage=USAGE)[0]["library_name"] == "transformers"
    assert "library_name" not in card(tmp_path)[0]


def test_card_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    front, body = card(tmp_path, app="labeling", model_license=None)
    assert not {"license", "base_model", "pipeline_tag"} & front.keys()
    assert "The licence of the model it started from is not known." in body


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {}},
        {"metrics": {"dev": {}, "test": {"accuracy": float("nan")}}},
        {"facts": {}, "config": {}, "notes": [], "usage": {}, "command": "", "model_license": None, "best_step": None},
    ],
)
def test_card_is_written_of_whatever_there_is(tmp_path: Path, changes: dict[str, Any]) -> None:
    front, body = card(tmp_path, **changes)
    assert front["tags"] == ["et", "classification"]
    assert body.startswith("\n# sst2\n")


def test_broken_characters_do_not_stop_the_card(tmp_path: Path) -> None:
    assert "lone \ufffd and \ufffd here" in card(tmp_path, notes=["lone \ud800 and \x00 here"])[1]


def test_card_names_a_licence_that_the_hub_has_no_id_for(tmp_path: Path) -> None:
    assert card(tmp_path, model_license="Acme Model Terms")[0]["license"] == "other"
    assert card(tmp_path, model_license="Acme Model Terms")[0]["license_name"] == "Acme Model Terms"
    assert card(tmp_path, model_license="GPL-3.0-only")[0]["license"] == "gpl-3.0"


def test_card_says_when_the_figures_flatter(tmp_path: Path) -> None:
    warning = "There was no test set."
    assert warning in card(tmp_path)[1]
    assert warning not in card(tmp_path, metrics={"dev": {"accuracy": 0.9}, "test": {"accuracy": 0.8}})[1]


def test_hostile_texts_do_not_break_out_of_the_card(tmp_path: Path) -> None:
    text = "a | b\n---\n<script>x</script> [l](http://e) `c`"
    front, body = card(tmp_path, title=text, facts={text: text}, metrics={text: {text: 0.5}}, usage={"x": "a\n````\nb"})
    assert "<script" not in body
    assert "a \\| b --- &lt;script&gt;" in body
    assert "`````\na\n````\nb\n`````" in body
    assert front["tags"] == ["et", "classification"]
