"""What a run requires of its plugins is checked against what is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from et_core.errors import ConfigError, PluginError
from tests.fake_dists import fake_dist, load, on_path, registering


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    with on_path(tmp_path):
        yield tmp_path


def bert(folder: Path, name: str, details: str = "") -> None:
    package = name.replace("-", "_")
    fake_dist(folder, name, module_source=registering(f'register("bert", "{package}:Bert", summary="B"{details})'))


@pytest.mark.parametrize("text", ["et-bert", "et-bert>=0.1", "ET_Bert<2", "et-bert[all]==1.*", "et-bert>=1.0a1"])
def test_requirements_that_are_met_pass(site: Path, text: str) -> None:
    bert(site, "et-bert")
    load(site).require([text])


def test_an_installed_prerelease_counts_as_pip_counts_it(site: Path) -> None:
    fake_dist(site, "et-bert", version="1.1.dev3")
    load(site).require(["et-bert>=1.0"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("et-t5", "this run requires et-t5, which is not installed: pip install 'et-t5'"),
        ("et-bert>=2", "this run requires et-bert>=2, but et-bert 1.0 is installed: pip install 'et-bert>=2'"),
        ("et-broken", "this run requires et-broken, but et-broken 1.0 failed to load: ValueError: out of order"),
        ("et-off>1", "this run requires et-off>1, but et-off 1.0 is left out by ET_PLUGINS='et-bert,et-broken'."),
    ],
)
def test_requirements_that_are_not_met_say_why(site: Path, text: str, message: str) -> None:
    bert(site, "et-bert")
    fake_dist(site, "et-broken", module_source="raise ValueError('out of order')\n")
    fake_dist(site, "et-off")
    with pytest.raises(PluginError) as caught:
        load(site, only=["et-bert", "et-broken"]).require(["et-bert", text])
    assert str(caught.value) == message


def test_a_requirement_that_is_none_is_a_config_error(site: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(site).require(["et bert"])
    assert str(caught.value) == "plugins.required: 'et bert' is not a requirement. Write one such as 'et-bert>=0.1'."
