from __future__ import annotations

import atexit
import contextlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from et_core.registry import KINDS, did_you_mean, plugins

T = TypeVar("T")


class CheckFailed(AssertionError):  # noqa: N818 - reads as what happened
    """What a check found; the check's docstring says why it matters and how to mend it."""


class Status(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED = "expected failure"


@dataclass(frozen=True)
class Outcome:
    """One check of a suite: what became of it, why it was skipped or may fail, and what it raised."""

    check: str
    status: Status
    reason: str = ""
    error: BaseException | None = None


class Check:
    """A promise that a component makes, as a method of a suite; pytest finds it under ``test_`` and its name.

    *unless* gives the reason why the suite at hand skips it, or None where it runs.
    """

    def __init__(self, function: Callable[[Any], None], unless: Callable[[Any], str | None] | None = None) -> None:
        self.function = function
        self.name = function.__name__
        self.promise = inspect.getdoc(function) or ""
        self._unless = unless

    def __set_name__(self, owner: type, name: str) -> None:
        def test(suite: Conformance) -> None:
            __tracebackhide__ = True
            _tell_pytest(suite.run(self))

        test.__name__, test.__doc__ = f"test_{name}", self.promise
        test.__qualname__ = f"{owner.__qualname__}.test_{name}"
        setattr(owner, f"test_{name}", test)

    def reason_to_skip(self, suite: Conformance) -> str | None:
        return self._unless(suite) if self._unless else None


def check(*, unless: Callable[[Any], str | None] | None = None) -> Callable[[Callable[[Any], None]], Check]:
    """Make a method of a suite a check. It raises ``CheckFailed``, or anything else, where the promise is broken."""
    return lambda function: Check(function, unless)


class Conformance:
    """The checks of one kind of component. A subclass names a registered component and how it is built for them.

    Usable as a pytest class, and by ``et plugins check`` for suites in the module that a plugin's ET_CONFORMANCE names.
    """

    kind: ClassVar[str]
    """The plural of the kind: "backbones"."""

    minimum: ClassVar[int] = 1
    """So many checks run at least, whatever is skipped or expected to fail. A subclass can only raise it."""

    name: ClassVar[str] = ""
    """The registered name, with or without its distribution."""

    config: ClassVar[Mapping[str, Any]] = {}
    """The component's options, as they would stand beside its name in a run's config; small, so that checks are."""

    expected_failures: ClassVar[Mapping[str, str]] = {}
    """Checks that are known to fail, with the reason. One of them that passes is a failure."""

    _kept: ClassVar[dict[str, Any]]

    @classmethod
    def title(cls) -> str:
        """What is checked, such as "loss et-core/mse"."""
        found = plugins().registry(cls.kind).find(cls.name)
        return f"{KINDS[cls.kind].name} {found.qualified}"

    @classmethod
    def checks(cls) -> dict[str, Check]:
        """All checks by name, in the order of their definition, those of base classes first."""
        found: dict[str, Check] = {}
        for base in reversed(cls.__mro__):
            found.update({name: value for name, value in vars(base).items() if isinstance(value, Check)})
        return found

    def run(self, check: Check) -> Outcome:
        """Run one check; nothing but KeyboardInterrupt and SystemExit leaves it."""
        counts = check.name == Conformance.enough_checks_run.name
        expected = None if counts else self.expected_failures.get(check.name)
        try:
            with _settings():
                reason = check.reason_to_skip(self)
                if reason is not None:
                    return Outcome(check.name, Status.SKIPPED, reason)
                check.function(self)
        except Exception as error:  # noqa: BLE001 - a component may fail in any way, and that is the finding
            if expected:
                return Outcome(check.name, Status.EXPECTED, expected, error)
            error.add_note(check.promise)
            return Outcome(check.name, Status.FAILED, error=error)
        if expected:
            found = CheckFailed(f"was expected to fail ({expected}) and passes. Take it out of expected_failures.")
            return Outcome(check.name, Status.FAILED, error=found)
        return Outcome(check.name, Status.PASSED)

    @classmethod
    def shared(cls, key: str, make: Callable[[], T]) -> T:
        """What *make* gives, made once for all checks of this class: for what takes long, such as a training run."""
        if "_kept" not in vars(cls):  # of this class alone, not of its base
            cls._kept = {}
        if key not in cls._kept:
            cls._kept[key] = make()
        found: T = cls._kept[key]
        return found

    @classmethod
    def folder(cls) -> Path:
        """A new folder for the files of a check; it goes when the process ends."""
        path = Path(tempfile.mkdtemp(prefix="et-check-"))
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        return path

    @check()
    def enough_checks_run(self) -> None:
        """A suite that skips, replaces or excuses its checks until few are left proves nothing.

        Give the component what the skipped checks need, or mend what is excused.
        """
        checks = self.checks()
        if (counting := Conformance.enough_checks_run.name) in self.expected_failures:
            raise CheckFailed(f"expected_failures excuses {counting!r}, which nothing excuses. Take it out.")
        for name, reason in self.expected_failures.items():
            if name not in checks:
                raise CheckFailed(f"expected_failures names the unknown check {name!r}.{did_you_mean(name, checks)}")
            if not reason.strip():
                raise CheckFailed(f"expected_failures excuses {name!r} without a reason. Say why it fails.")
        self._refuse_replaced()
        left = [c.name for c in checks.values() if c.name not in self.expected_failures and not c.reason_to_skip(self)]
        wanted = max(base.minimum for base in type(self).__mro__ if issubclass(base, Conformance))
        if len(left) < wanted:
            raise CheckFailed(f"{len(left)} of {len(checks)} checks run, and at least {wanted} have to: {left}.")

    def _refuse_replaced(self) -> None:
        for base in type(self).__mro__:
            own = [name for name, value in vars(base).items() if isinstance(value, Check)]
            later = type(self).__mro__[: type(self).__mro__.index(base)]
            replaced = [name for name in own for cls in later if {name, f"test_{name}"} & vars(cls).keys()]
            if replaced:
                raise CheckFailed(f"{replaced[0]} is replaced in a subclass. Use expected_failures, with a reason.")


def run_suite(suite: type[Conformance]) -> Iterator[Outcome]:
    """Run every check of *suite*, without pytest."""
    for found in suite.checks().values():
        yield suite().run(found)


def _tell_pytest(outcome: Outcome) -> None:
    import pytest  # the extra et-core[testing]; the command line does without

    __tracebackhide__ = True
    match outcome.status:
        case Status.SKIPPED:
            pytest.skip(outcome.reason)
        case Status.EXPECTED:
            pytest.xfail(outcome.reason)
        case Status.FAILED:
            raise outcome.error or CheckFailed(outcome.check)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """The same numbers each time: seeded, on one thread, with grad mode and threads put back afterwards."""
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    cache, folder = os.environ.get("ET_CACHE_DIR"), tempfile.TemporaryDirectory(prefix="et-check-cache-")
    os.environ["ET_CACHE_DIR"] = folder.name
    try:
        with folder:
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        if cache is None:
            del os.environ["ET_CACHE_DIR"]
        else:
            os.environ["ET_CACHE_DIR"] = cache
