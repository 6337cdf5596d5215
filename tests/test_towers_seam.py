"""A head that needs towers has each text read alone, by any backbone that takes one text and by no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from et_core import api
from et_core.errors import ComponentError, ConfigError
from et_core.interfaces import Batch, Inputs, Model, Text, provided_by
from tests.seams.seam_plugin import Bag, Towers
from tests.seams.tools import PLUGIN, seam_plugins

PAIRS = [{"text": f"w{n} same", "text_pair": f"w{n} thing", "label": n % 2} for n in range(12)]


def config(output: Path, model: str, **app: Any) -> dict[str, Any]:
    return {
        "app": {"name": "matching", **app},
        "model": model,
        "data": {"train": PAIRS, "dev": PAIRS},
        "train": {"max_steps": 2, "precision": "fp32", "batch_size": 4},
        "plugins": {"files": [str(PLUGIN)]},
        "output": str(output),
    }


def text(*ids: int) -> Text:
    row = torch.tensor([ids])
    return Text(row, torch.ones_like(row, dtype=torch.bool))


class Recording(Bag):
    """Remembers what it was asked."""

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Any:
        self.asked = [*getattr(self, "asked", []), (len(inputs.texts), sorted(inputs.marks), sorted(want))]
        return super().forward(inputs, want=want)


def test_the_backbone_is_run_once_for_each_text_and_knows_of_no_towers() -> None:
    backbone = Recording(10, hidden_size=8)
    inputs = Inputs((text(1, 2, 3), text(4, 5)), {"place": torch.zeros(1, 3, dtype=torch.int64)})
    features = Model(backbone, {}).features(Batch(inputs, {}, torch.tensor([0])), want=frozenset({"towers", "layers"}))
    assert backbone.asked == [(1, ["place"], ["layers"]), (1, [], ["layers"])]
    assert (features.tokens, features.mask, features.pooled) == (None, None, None)
    first, second = features.extra["towers"]
    torch.testing.assert_close(first.pooled, backbone(Inputs((text(1, 2, 3),))).pooled)
    torch.testing.assert_close(second.pooled, backbone(Inputs((text(4, 5),))).pooled)


def test_towers_are_provided_by_what_takes_one_text() -> None:
    assert provided_by(Bag) == Bag.provides | {"towers"}
    assert provided_by(Towers) == Towers.provides


def test_a_model_that_takes_two_texts_is_refused_before_data_is_read(tmp_path: Path) -> None:
    with seam_plugins(), pytest.raises(ConfigError) as error:
        api.train(config(tmp_path / "run", "seam-towers@init", towers=2, pooling="pooled"), progress=False)
    assert str(error.value) == (
        "app=matching as it is set has each text read alone, for which a model has to take one text; "
        "'seam-towers' takes texts. Choose another model (et list backbones), or have texts read together."
    )


@pytest.mark.parametrize(("model", "towers"), [("seam-bag@init", 1), ("seam-bag@init", 2), ("seam-towers@init", 1)])
def test_one_app_runs_on_each_kind_of_model(tmp_path: Path, model: str, towers: int) -> None:
    app = {} if towers == 1 else {"towers": 2, "pooling": "pooled"}
    with seam_plugins():
        run = api.train(config(tmp_path / "run", model, **app), progress=False)
        scores = [row.score for row in run.predict([(row["text"], row["text_pair"]) for row in PAIRS])]
        assert api.load(run.path).metrics == run.metrics
    assert len(scores) == len(PAIRS)
    assert np.isfinite(scores).all()


def test_two_texts_are_refused_where_no_head_needs_towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from et_appzoo.matching.app import Matching

    monkeypatch.setattr(Matching, "needs", frozenset({"tokens"}))
    with seam_plugins(), pytest.raises(ComponentError, match=r"'seam-bag' takes no texts.1.ids: it accepts text."):
        api.train(config(tmp_path / "run", "seam-bag@init", towers=2), progress=False)
