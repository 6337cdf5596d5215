"""Not installed, left out, broken and incompatible are four messages."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

import pytest

from et_core.errors import UnknownNameError
from et_core.registry import GROUP, PluginSet, did_you_mean
from tests.fake_dists import EMPTY_PLUGIN, fake_dist, load, on_path, registering

HINTS = {"backbones": {"t5": "et-t5", "bert": "et-bert"}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    names = ("albert", "bert", "roberta")
    calls = (f'register("{name}", "et_bert.x:Y", summary="X")' for name in names)
    fake_dist(tmp_path, "et-bert", module_source=registering(*calls))
    with on_path(tmp_path):
        yield tmp_path


def told(site: Path, name: str = "t5", **options: Any) -> str:
    with pytest.raises(UnknownNameError) as caught:
        load(site, hints=HINTS, **options).registry("backbones").find(name)
    return str(caught.value)


def test_a_provider_that_is_not_installed(site: Path) -> None:
    assert told(site) == (
        "unknown backbone 't5'.\n"
        "It is provided by et-t5, which is not installed: pip install et-t5\n"
        "Registered backbones: albert, bert, roberta."
    )


def test_a_provider_that_is_left_out(site: Path) -> None:
    fake_dist(site, "et-t5")
    assert told(site, only=["et-bert"]) == (
        "unknown backbone 't5'.\n"
        "It is provided by et-t5, which ET_PLUGINS='et-bert' leaves out.\n"
        "Registered backbones: albert, bert, roberta."
    )


def test_a_provider_that_lacks_a_module_is_told_what_to_install(site: Path) -> None:
    source = "import sentencepiece_is_absent\n"
    fake_dist(site, "et-t5", version="0.3.0", module_source=source, metadata="Provides-Extra: all\n")
    assert told(site) == (
        "unknown backbone 't5'.\n"
        "It is provided by et-t5 0.3.0, which failed to load: "
        "ModuleNotFoundError: No module named 'sentencepiece_is_absent'. "
        "Try: pip install 'et-t5[all]'; full traceback: et plugins check et-t5\n"
        "Registered backbones: albert, bert, roberta."
    )


def test_an_extra_that_does_not_exist_is_not_recommended(site: Path) -> None:
    fake_dist(site, "et-t5", module_source="import sentencepiece_is_absent\n")
    assert "Try: pip install et-t5; full traceback: et plugins check et-t5" in told(site)


def test_a_provider_without_metadata_gets_the_plain_command(site: Path) -> None:
    point = EntryPoint("et-t5", "sentencepiece_is_absent", GROUP)
    with pytest.raises(UnknownNameError, match="Try: pip install et-t5; full traceback"):
        PluginSet([point], hints=HINTS).registry("backbones").find("t5")


def test_a_provider_that_breaks_in_another_way(site: Path) -> None:
    fake_dist(site, "et-t5", module_source="raise ValueError('two\\nlines')\n")
    assert told(site).splitlines()[1] == (
        "It is provided by et-t5 1.0, which failed to load: ValueError: two lines. "
        "Full traceback: et plugins check et-t5"
    )


def test_a_provider_that_is_too_old(site: Path) -> None:
    fake_dist(site, "et-t5", version="0.0.9", module_source=registering(api=0))
    assert told(site).splitlines()[1] == (
        f"It is provided by et-t5 0.0.9, which speaks plugin API 0; et-core {version('et-core')} speaks 1. "
        "Upgrade et-t5, or install a version of et-core that speaks 0."
    )


def test_a_provider_that_is_there_but_lacks_the_name(site: Path) -> None:
    fake_dist(site, "et-t5", module_source=EMPTY_PLUGIN)
    assert told(site).splitlines()[1] == (
        "It is provided by another version of et-t5 than the installed 1.0: pip install --upgrade et-t5"
    )


def test_a_qualified_name_is_explained_by_its_distribution_alone(site: Path) -> None:
    assert told(site, "et-t5/t5").splitlines()[1] == "et-t5 is not installed: pip install et-t5"
    assert told(site, "acme/bert").splitlines()[1] == "No plugin 'acme' is installed."
    assert told(site, "et-bert/brt").splitlines()[1] == "Did you mean 'et-bert/bert' or 'et-bert/albert'?"
    fake_dist(site, "et-t5")
    assert told(site, "et-t5/t5", only=["et-bert"]).splitlines()[1] == "et-t5 1.0 is left out by ET_PLUGINS='et-bert'."


def test_the_nearest_known_names_are_suggested_after_a_sentence() -> None:
    assert did_you_mean("Brt", ["bert", "albert", "t5"]) == " Did you mean 'bert'?"
    assert did_you_mean("brt", ["bert", "albert", "t5"], count=2) == " Did you mean 'bert' or 'albert'?"
    assert did_you_mean("xyzzy", ["bert"]) == ""


def test_no_text_has_an_unfilled_place(site: Path) -> None:
    fake_dist(site, "et-t5", module_source="import sentencepiece_is_absent\n")
    assert "{" not in told(site) + told(site, only=[]) + told(site, "x") + told(site, "et-t5/x")
