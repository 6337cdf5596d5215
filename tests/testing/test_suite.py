from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import ClassVar

import pytest
import torch

import et_core.testing as kit
from et_core.registry import resolve_target
from et_core.testing import CheckFailed, Conformance, Outcome, PluginConformance, Status, check, run_suite, suites

SOURCE = '''
from et_core.testing import CheckFailed, Conformance, check


class Kit(Conformance):
    kind = "losses"
    has_flag = False

    @check()
    def holds(self):
        """It holds."""

    @check()
    def breaks(self):
        """Users are hurt, and mend it so."""
        raise CheckFailed("it is 3 and not 4")

    @check(unless=lambda suite: None if suite.has_flag else "it has no flag")
    def waves(self):
        """It waves."""


class TestExcused(Kit):
    name = "mse"
    expected_failures = {"breaks": "mse is new"}


class TestPlain(Kit):
    name = "cross-entropy"
    has_flag = True


class TestUnknown(Kit):
    name = "no-such-loss"
    has_flag = True
'''


class Kit(Conformance):
    kind: ClassVar[str] = "losses"
    minimum: ClassVar[int] = 2
    name = "mse"
    has_flag = False

    @check()
    def holds(self) -> None:
        """It holds."""

    @check()
    def breaks(self) -> None:
        """Users are hurt, and mend it so."""
        raise CheckFailed("it is 3 and not 4")

    @check(unless=lambda suite: None if suite.has_flag else "it has no flag")
    def waves(self) -> None:
        """It waves."""


class Excused(Kit):
    expected_failures: ClassVar[dict[str, str]] = {"breaks": "mse is new"}


def outcomes(suite: type[Conformance]) -> dict[str, Outcome]:
    return {outcome.check: outcome for outcome in run_suite(suite)}


def enough(suite: type[Conformance]) -> str:
    return str(outcomes(suite)["enough_checks_run"].error)


def test_each_check_has_its_outcome_and_a_failure_its_promise() -> None:
    found = outcomes(Kit)
    assert {name: outcome.status for name, outcome in found.items()} == {
        "enough_checks_run": Status.PASSED,
        "holds": Status.PASSED,
        "breaks": Status.FAILED,
        "waves": Status.SKIPPED,
    }
    assert found["waves"].reason == "it has no flag"
    assert str(found["breaks"].error) == "it is 3 and not 4"
    assert getattr(found["breaks"].error, "__notes__", None) == ["Users are hurt, and mend it so."]


def test_an_excused_failure_is_expected_and_a_success_then_fails() -> None:
    assert outcomes(Excused)["breaks"].status is Status.EXPECTED

    class Mended(Kit):
        expected_failures: ClassVar[dict[str, str]] = {"holds": "it did not"}

    found = outcomes(Mended)["holds"]
    assert (found.status, str(found.error)) == (
        Status.FAILED,
        "was expected to fail (it did not) and passes. Take it out of expected_failures.",
    )


def test_excuses_need_a_reason_and_a_check() -> None:
    class Silent(Kit):
        expected_failures: ClassVar[dict[str, str]] = {"breaks": " "}

    class Misspelt(Kit):
        expected_failures: ClassVar[dict[str, str]] = {"brakes": "it is new"}

    assert enough(Silent) == "expected_failures excuses 'breaks' without a reason. Say why it fails."
    assert enough(Misspelt) == "expected_failures names the unknown check 'brakes'. Did you mean 'breaks'?"


def test_too_few_checks_fail_whatever_a_subclass_asks_for() -> None:
    class Lax(Excused):
        minimum: ClassVar[int] = 1
        expected_failures: ClassVar[dict[str, str]] = {"breaks": "new", "holds": "new"}

    assert enough(Lax) == "1 of 4 checks run, and at least 2 have to: ['enough_checks_run']."


def test_the_minimum_cannot_be_excused() -> None:
    class Excusing(Kit):
        expected_failures: ClassVar[dict[str, str]] = dict.fromkeys(Kit.checks(), "because")

    found = outcomes(Excusing)["enough_checks_run"]
    assert (found.status, str(found.error)) == (
        Status.FAILED,
        "expected_failures excuses 'enough_checks_run', which nothing excuses. Take it out.",
    )


def test_a_check_cannot_be_replaced_or_removed() -> None:
    class Replaced(Kit):
        def breaks(self) -> None:  # type: ignore[override]
            return

    class Removed(Kit):
        test_breaks = None

    for suite in (Replaced, Removed):
        assert enough(suite) == "breaks is replaced in a subclass. Use expected_failures, with a reason."


def test_a_subclass_may_add_checks() -> None:
    class More(Excused):
        @check()
        def also(self) -> None:
            """It also holds."""

    assert list(More.checks()) == ["enough_checks_run", "holds", "breaks", "waves", "also"]
    assert enough(More) == "None"


def test_checks_are_seeded_and_leave_the_process_as_it_was() -> None:
    seen = []

    class Random(Kit):
        @check()
        def draws(self) -> None:
            """It draws."""
            seen.append((torch.rand(3).tolist(), torch.get_num_threads(), os.environ["ET_CACHE_DIR"]))
            torch.set_grad_enabled(False)

    before = os.environ["ET_CACHE_DIR"]
    for _ in range(2):
        assert outcomes(Random)["draws"].status is Status.PASSED
    assert seen[0][:2] == seen[1][:2]
    assert before not in (seen[0][2], seen[1][2])
    assert (os.environ["ET_CACHE_DIR"], torch.is_grad_enabled()) == (before, True)


def test_what_is_shared_is_made_once_for_each_class() -> None:
    made = []
    for suite in (Kit, Kit, Excused):
        suite.shared("number", lambda: made.append(1) or len(made))  # type: ignore[func-returns-value]
    assert (Kit.shared("number", int), Excused.shared("number", int)) == (1, 2)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints for the suites of SOURCE."""
    folder = tmp_path_factory.mktemp("suites")
    (folder / "test_kit.py").write_text(SOURCE, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", str(folder), "--junit-xml", str(folder / "out.xml")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_pytest_finds_each_check_and_prints_how_many_ran(shown: str) -> None:
    lines = shown.partition(" conformance ")[2].splitlines()[1:6]
    assert lines == [
        "loss et-core/cross-entropy: 4 checks, 3 passed, 1 failed",
        "loss et-core/mse: 4 checks, 2 passed, 1 expected to fail, 1 skipped",
        "  skipped waves: it has no flag",
        "  expected to fail breaks: mse is new",
        "no-such-loss: 4 checks, 3 passed, 1 failed",
    ]


def test_pytest_shows_a_failure_with_its_promise(shown: str) -> None:
    assert "it is 3 and not 4" in shown
    assert "Users are hurt, and mend it so." in shown


def test_the_pytest_plugin_imports_no_torch() -> None:
    code = "import json, sys, et_core.testing.pytest_plugin; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_every_suite_is_exported() -> None:
    of_kinds = [resolve_target(target) for target in suites._BY_KIND.values()]
    found = {name: getattr(kit, name) for name in kit.__all__ if name.endswith("Conformance")}
    assert found == {suite.__name__: suite for suite in (Conformance, PluginConformance, *of_kinds)}
