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
from tests.fake_dists import fake_dist, on_path, registering

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
FRESH = "  ref: bert@init\n  hidden_size: 16\n  num_layers: 2\n  num_heads: 2\n  intermediate_size: 32\n"
COUNTING = "import itertools\n_COUNT = itertools.count()\n"
ENDING = "import os, sys\nif 'pytest' not in sys.modules:\n    os._exit({status})\n"
RECORD = ["acme/__init__.py", "acme/_plugin.py", "acme/losses.py", "acme/conformance.py", "acme/py.typed"]


def readme(*, app: str = " classification\n", model: str = " bert-tiny-random\n", more: str = "") -> str:
    return f"# acme\n\n```yaml\napp:{app}model:{model}data:\n  train: train.tsv\n{more}```\n"


def fresh(more: str) -> str:
    return readme(model="\n" + FRESH + more)


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
    "imports end Python": (
        "its_module_imports_fast_and_nothing_heavy",
        Fake(module=ENDING.format(status=3) + MODULE),
        "acme._plugin fails to import: Python ends with status 3 and says nothing.",
    ),
    "imports end Python as if all were well": (
        "its_module_imports_fast_and_nothing_heavy",
        Fake(module="print('hello', flush=True)\n" + ENDING.format(status=0) + MODULE),
        "acme._plugin fails to import: Python ends with status 0 and says nothing.",
    ),
    "fails to register again": (
        "registering_again_gives_the_same",
        Fake(module=COUNTING + MODULE + "    if next(_COUNT):\n        raise ValueError('I was called before')\n"),
        "a second look finds it broken, the first found it ok: acme 1.0 ",
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
UNRESOLVED: dict[str, tuple[str, str]] = {
    "preset": (readme(model=" bert-tiny-randum\n"), "unknown preset 'bert-tiny-randum'"),
    "head": (readme(app="\n  name: classification\n  head: no-such-head\n"), "unknown head 'no-such-head'"),
    "source": (readme(model=" resnet@timmm\n"), "unknown source 'timmm'"),
    "revision of fresh weights": (readme(model=" bert@init:main\n"), "fresh weights have none"),
    "family": (readme(model=" bertt@init\n"), "unknown backbone 'bertt'"),
    "chosen family": (
        readme(model="\n  ref: ./dir@local\n  family: bertt\n"),
        "unknown backbone 'bertt'",
    ),
    "option of fresh weights": (fresh("  hidden_sise: 64\n"), "model.hidden_sise is not an argument of bert"),
    "option of a preset": (
        readme(model="\n  ref: bert-tiny-random\n  num_layerz: 2\n"),
        "model.num_layerz is not an argument of bert",
    ),
    "what the model provides": (
        readme(app="\n  name: matching\n  towers: 2\n", model=" hcnn@init\n"),
        "needs tokens, towers of its model; hcnn provides pooled.",
    ),
    "tokenizer": (fresh("  tokenizer: {name: no-such-tokenizer}\n"), "unknown tokenizer 'no-such-tokenizer'"),
    "tokenizer of a preset": (
        readme(model="\n  ref: bert-tiny-random\n  tokenizer: {name: no-such-tokenizer}\n"),
        "unknown tokenizer 'no-such-tokenizer'",
    ),
    "tokenizer of another model": (fresh("  tokenizer: bert-tiny-randum\n"), "unknown preset 'bert-tiny-randum'"),
    "option of a tokenizer": (
        fresh("  tokenizer: {name: et-core/pretrained, nonsense: 2}\n"),
        "model.tokenizer.nonsense is not an argument of pretrained",
    ),
    "option of a preset's tokenizer": (
        readme(model="\n  ref: bert-tiny-random\n  tokenizer: {nonsense: 2}\n"),
        "model.tokenizer.nonsense is not an argument of pretrained",
    ),
    "strategy's option": (
        readme(more="strategy: {name: ddp, processses: 2}\n"),
        "strategy.processses is not an argument of ddp",
    ),
}
"""Blocks of a README that name what is not there."""

RESOLVED = {
    "fresh weights": fresh(""),
    "fresh weights with another model's tokenizer": fresh("  tokenizer: minilm-l6-en@zoo\n"),
    "weights that are not here": readme(model=" org/repo@hf\n"),
    "a preset that is not here": readme(model="\n  ref: bert-base-en\n  dropout: 0.2\n"),
    "a folder that is not here": readme(model="\n  ref: ./dir@local\n  tokenizer: {name: pretrained}\n"),
    "processes": readme(more="strategy: {name: ddp, processes: 2}\n"),
}


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


@pytest.mark.parametrize("part", UNRESOLVED)
def test_a_readme_that_names_what_is_not_there_is_caught(site: Path, part: str) -> None:
    block, fragment = UNRESOLVED[part]
    outcome = run(site, Fake(readme=block), "the_configs_in_its_readme_work")
    assert (outcome.status, type(outcome.error)) == (Status.FAILED, CheckFailed), outcome.error
    assert fragment in str(outcome.error)


@pytest.mark.parametrize("part", RESOLVED)
def test_what_a_readme_names_need_not_be_on_this_machine(site: Path, part: str) -> None:
    outcome = run(site, Fake(readme=RESOLVED[part]), "the_configs_in_its_readme_work")
    assert outcome.status is Status.PASSED, outcome.error


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        ("", "", Status.FAILED),
        ("", "acme", Status.PASSED),
        ("rival", "", Status.PASSED),
        # The name is of both again: a config has to say which.
        ("rival", "acme", Status.FAILED),
    ],
)
def test_a_name_that_one_of_two_takes_over_is_no_conflict(site: Path, ours: str, theirs: str, status: Status) -> None:
    module = MODULE.replace(', summary="A loss"', ', summary="A loss", replaces={!r}')
    theirs_module = registering(
        f'register("acme-loss", "rival.losses:Loss", summary="A loss", replaces={theirs or None!r})', kind="losses"
    )
    fake_dist(site, "rival", module_source=theirs_module)
    outcome = run(site, Fake(module=module.format(ours or None)), "its_names_are_its_own")
    assert outcome.status is status, outcome.error


def test_a_dependency_is_found_however_its_name_is_written(site: Path) -> None:
    outcome = run(
        site, Fake(requires=REQUIRES.replace("et-core", "ET_Core")), "it_states_the_api_and_a_range_of_et_core"
    )
    assert outcome.status is Status.PASSED, outcome.error


def test_a_plugin_that_is_left_out_is_left_out_again(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ET_PLUGINS", "et-bert")
    outcome = run(site, Fake(), "registering_again_gives_the_same")
    assert outcome.status is Status.PASSED, outcome.error


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
