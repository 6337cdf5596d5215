"""Every check of the kit catches a component that is broken in just that way, and passes on a sound one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from et_core.registry import plugins
from et_core.registry.files import import_file
from et_core.testing import (
    AppConformance,
    BackboneConformance,
    CheckFailed,
    Conformance,
    DistillerConformance,
    HeadConformance,
    LossConformance,
    ObjectiveConformance,
    Status,
    StrategyConformance,
    TokenizerConformance,
)

SUITES: dict[str, type[Conformance]] = {
    "app": AppConformance,
    "backbone": BackboneConformance,
    "distiller": DistillerConformance,
    "head": HeadConformance,
    "loss": LossConformance,
    "objective": ObjectiveConformance,
    "strategy": StrategyConformance,
    "tokenizer": TokenizerConformance,
}
OF_EVERY_SUITE = "enough_checks_run"
"""Tested in test_suite.py."""

CHECKS = [
    pytest.param(kind, check, id=f"{kind}-{check}")
    for kind, suite in SUITES.items()
    for check in suite.checks()
    if check != OF_EVERY_SUITE
]


def module(kind: str) -> Any:
    path = Path(__file__).with_name(f"mutants_{kind}.py")
    plugins().add_file(path)
    return import_file(path)


@pytest.mark.parametrize(("kind", "check"), CHECKS)
def test_a_check_catches_its_mutant(kind: str, check: str) -> None:
    found = module(kind).MUTANTS[check]
    assert found
    for suite, fragment in found if isinstance(found, list) else [found]:
        outcome = suite().run(suite.checks()[check])
        assert outcome.status is Status.FAILED, suite
        assert isinstance(outcome.error, CheckFailed), outcome.error
        assert fragment in str(outcome.error)


@pytest.mark.parametrize("kind", SUITES)
def test_no_mutant_is_of_a_check_that_is_gone(kind: str) -> None:
    assert module(kind).MUTANTS.keys() == SUITES[kind].checks().keys() - {OF_EVERY_SUITE}


@pytest.mark.parametrize(("kind", "check"), CHECKS)
def test_a_sound_component_passes(kind: str, check: str) -> None:
    suite = module(kind).SOUND
    outcome = suite().run(suite.checks()[check])
    assert outcome.status in (Status.PASSED, Status.SKIPPED), outcome.error


@pytest.mark.parametrize("kind", SUITES)
def test_enough_of_a_sound_component_is_checked(kind: str) -> None:
    outcome = module(kind).SOUND().run(SUITES[kind].checks()[OF_EVERY_SUITE])
    assert outcome.status is Status.PASSED, outcome.error


@pytest.mark.parametrize(("kind", "check"), CHECKS)
def test_a_check_says_what_breaks_and_how_to_mend_it(kind: str, check: str) -> None:
    assert len(SUITES[kind].checks()[check].promise.split()) >= 8
