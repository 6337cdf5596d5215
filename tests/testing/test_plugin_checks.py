"""The checks of a whole plugin, on real distributions that are each broken in one way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from et_core.registry import refresh
from et_core.testing import CheckFailed, PluginConformance, Status, suites_of
from tests.fake_dists import fake_dist, on_path

README = "\n# acme\n\n```yaml\napp: classification\nmodel: bert-tiny-random\ndata:\n  train: train.tsv\n```\n"
REQUIRES = "Requires-Dist: et-core>=0.1,<0.2\n"
MODULE = """from et_core.hooks import hookimpl

ET_API = 1
ET_CONFORMANCE = "acme.conformance"


@hookimpl
def et_register_losses(register):
    register("acme-loss", "acme.losses:AcmeLoss", summary="A loss")
"""
LOSSES = "from et_core.training.losses import Mse\n\n\nclass AcmeLoss(Mse):\n    pass\n"
SUITES = """from et_core.testing import LossConformance, PluginConformance


class TestPlugin(PluginConformance):
    name = "acme"


class TestAcmeLoss(LossConformance):
    name = "acme-loss"
    target = "number"
"""
COUNTING = "import itertools\n_COUNT = itertools.count()\n"
RECORD = ["acme/__init__.py", "acme/_plugin.py", "acme/losses.py", "acme/conformance.py", "acme/py.typed"]


@dataclass
class Fake:
    """A distribution as its wheel would install it."""

    module: str = MODULE
    requires: str = REQUIRES
    readme: str = README
    suites: str = SUITES
    losses: str = LOSSES
    record: list[str] = field(default_factory=lambda: list(RECORD))

    def write(self, folder: Path) -> None:
        files = {"losses.py": self.losses, "conformance.py": self.suites, "py.typed": ""}
        fake_dist(folder, "acme", module_source=self.module, files=files, metadata=self.requires + self.readme)
        rows = "".join(f"{name},,\n" for name in (*self.record, "acme-1.0.dist-info/entry_points.txt"))
        (folder / "acme-1.0.dist-info" / "RECORD").write_text(rows, "utf-8")


BROKEN: dict[str, tuple[Fake, str]] = {
    "it_loads": (Fake(module=MODULE.replace("import hookimpl", "import hookspell")), "acme 1.0 failed to load"),
    "its_module_imports_fast_and_nothing_heavy": (
        Fake(module="import torch\n" + MODULE),
        "acme._plugin imports torch",
    ),
    "it_states_the_api_and_a_range_of_et_core": (
        Fake(requires="Requires-Dist: et-core>=0.1\n"),
        "acme depends on et-core>=0.1, without an upper bound.",
    ),
    "every_target_is_what_its_kind_asks_for": (
        Fake(losses="AcmeLoss = dict\n"),
        "loss 'acme-loss' from acme 1.0 is not a subclass of Loss",
    ),
    "its_names_are_its_own": (
        Fake(module=MODULE.replace('"acme-loss"', '"mse"')),
        "losses: 'mse' is also registered by et-core",
    ),
    "registering_again_gives_the_same": (
        Fake(module=COUNTING + MODULE.replace('"acme-loss"', 'f"acme-{next(_COUNT)}"')),
        "a second look finds other names: losses acme-0, losses acme-1.",
    ),
    "the_configs_in_its_readme_work": (
        Fake(readme=README.replace("data:", "lr: 1\ndata:")),
        "the config with 'app: classification' in its README fails: ",
    ),
    "its_components_have_suites": (
        Fake(suites=SUITES.partition("class TestAcmeLoss")[0]),
        "losses acme-loss: no suite in acme.conformance.",
    ),
    "its_wheel_is_typed_and_without_tests": (Fake(record=RECORD[:-1]), "its wheel has no py.typed."),
}  # fmt: skip
FURTHER: dict[str, tuple[str, Fake, str]] = {
    "registers nothing": ("it_loads", Fake(module="ET_API = 1\n"), "acme 1.0 registers nothing."),
    "takes long": (
        "its_module_imports_fast_and_nothing_heavy",
        Fake(module="import time\ntime.sleep(0.5)\n" + MODULE),
        "ms are allowed",
    ),
    "other api": (
        "it_states_the_api_and_a_range_of_et_core",
        Fake(module=MODULE.replace("1", "0", 1)),
        "speaks plugin API 0",
    ),
    "no dependency": ("it_states_the_api_and_a_range_of_et_core", Fake(requires=""), "acme does not depend on et-core"),
    "other range": (
        "it_states_the_api_and_a_range_of_et_core",
        Fake(requires="Requires-Dist: et-core>=7,<8\n"),
        "et-core<8,>=7",
    ),
    "no block": ("the_configs_in_its_readme_work", Fake(readme="# acme\n"), "its README has no yaml block"),
    "unknown model": (
        "the_configs_in_its_readme_work",
        Fake(readme=README.replace("bert-tiny-random", "bert-tiny-randum")),
        "unknown preset 'bert-tiny-randum'",
    ),
    "no suites at all": (
        "its_components_have_suites",
        Fake(module=MODULE.replace("ET_CONFORMANCE", "SOMETHING")),
        "_plugin.py states no ET_CONFORMANCE",
    ),
    "tests inside": (
        "its_wheel_is_typed_and_without_tests",
        Fake(record=[*RECORD, "tests/test_acme.py"]),
        "its wheel holds tests/test_acme.py.",
    ),
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("ET_PLUGINS_STRICT", raising=False)
    with on_path(tmp_path):
        yield tmp_path
    refresh()


class Acme(PluginConformance):
    name = "acme"


def run(site: Path, fake: Fake, check: str) -> Any:
    fake.write(site)
    refresh()
    return Acme().run(Acme.checks()[check])


def test_every_check_of_plugins_has_a_mutant() -> None:
    assert BROKEN.keys() == PluginConformance.checks().keys() - {"enough_checks_run"}


@pytest.mark.parametrize("check", BROKEN)
def test_a_broken_plugin_is_caught(site: Path, check: str) -> None:
    fake, fragment = BROKEN[check]
    outcome = run(site, fake, check)
    assert (outcome.status, type(outcome.error)) == (Status.FAILED, CheckFailed), outcome.error
    assert fragment in str(outcome.error)


@pytest.mark.parametrize("case", FURTHER)
def test_other_ways_to_break_it_are_caught(site: Path, case: str) -> None:
    check, fake, fragment = FURTHER[case]
    outcome = run(site, fake, check)
    assert (outcome.status, type(outcome.error)) == (Status.FAILED, CheckFailed), outcome.error
    assert fragment in str(outcome.error)


@pytest.mark.parametrize("check", PluginConformance.checks())
def test_a_sound_plugin_passes(site: Path, check: str) -> None:
    outcome = run(site, Fake(), check)
    assert outcome.status is Status.PASSED, outcome.error


def test_an_editable_installation_is_not_looked_into_and_says_so(site: Path) -> None:
    outcome = run(site, Fake(record=[]), "its_wheel_is_typed_and_without_tests")
    assert (outcome.status, outcome.reason) == (
        Status.SKIPPED,
        "it is installed as editable, so there is no wheel to look into",
    )


def test_what_has_no_suite_of_its_own_is_checked_as_it_comes(site: Path) -> None:
    Fake(module=MODULE.replace("ET_CONFORMANCE", "SOMETHING")).write(site)
    suites = suites_of(refresh().find("acme"))
    assert [suite.title() for suite in suites] == ["plugin acme", "loss acme/acme-loss"]


def test_the_suites_of_a_plugin_come_from_the_module_it_names(site: Path) -> None:
    Fake().write(site)
    suites = suites_of(refresh().find("acme"))
    assert [suite.__name__ for suite in suites] == ["TestPlugin", "TestAcmeLoss"]


def check_command(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site), "ET_PLUGINS_STRICT": "0"}
    command = [sys.executable, "-m", "et_core", "plugins", "check", "acme", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_runs_all_suites_and_counts_them(site: Path) -> None:
    Fake().write(site)
    done = check_command(site)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert lines[0] == "acme 1.0: 1 names, 1 import, 0 fail"
    assert lines[1] == "plugin acme: 10 checks, 10 passed"
    assert any(line.startswith("loss acme/acme-loss: ") for line in lines)
    assert lines[-1].startswith("acme 1.0: ")


def test_the_command_shows_what_fails_with_what_it_is_there_for(site: Path) -> None:
    Fake(readme="# acme\n").write(site)
    done = check_command(site)
    assert done.returncode == 1
    assert (
        "  FAILED the_configs_in_its_readme_work: its README has no yaml block that starts with 'app:'." in done.stdout
    )
    assert "    The README's block is what people paste first." in done.stdout
    rows = json.loads(check_command(site, "--json").stdout)["suites"][0]["checks"]
    assert {row["check"]: row["status"] for row in rows}["the_configs_in_its_readme_work"] == "failed"


def test_a_module_of_suites_that_fails_to_import_says_so(site: Path) -> None:
    Fake(suites="import nowhere_to_be_found\n").write(site)
    done = check_command(site)
    assert done.returncode == 2
    assert "names acme.conformance as its ET_CONFORMANCE, which fails to import" in done.stderr


@pytest.mark.parametrize("value", ["3", "'not a module!'"])
def test_a_senseless_name_of_the_module_of_suites_is_refused(site: Path, value: str) -> None:
    Fake(module=MODULE.replace('"acme.conformance"', value)).write(site)
    assert "states ET_CONFORMANCE = " in refresh().find("acme").reason
