"""What pytest shows of conformance suites; loaded wherever et-core is installed, so it imports nothing else."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

_KEY = "et-conformance"
_STATES = {"passed": "passed", "failed": "failed", "error": "failed", "skipped": "skipped", "xfailed": "xfailed"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:  # noqa: ARG001
    """Note on each report of a check which suite it belongs to, so that the summary works with several workers too."""
    report: Any = yield
    suite: Any = getattr(item, "cls", None)
    if _is_suite(suite) and item.name.startswith("test_"):
        report.user_properties.append((_KEY, _title(suite)))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line a suite: how many checks ran and what became of them, then why some did not."""
    suites: dict[str, dict[str, list[Any]]] = {}
    for category, state in _STATES.items():
        for report in terminalreporter.stats.get(category, []):
            if title := dict(getattr(report, "user_properties", ())).get(_KEY):
                suites.setdefault(title, {}).setdefault(state, []).append(report)
    if not suites:
        return
    terminalreporter.section("conformance")
    for title in sorted(suites):
        for line in _lines(title, suites[title]):
            terminalreporter.write_line(line)


def _title(suite: Any) -> str:
    from et_core.errors import EtError  # here, where et_core is imported anyway

    title: str
    try:
        title = suite.title()
    except EtError:
        # An error in a report ends the whole session; that nobody registers the name is for the checks to say.
        title = suite.name or suite.__name__
    return title


def _is_suite(cls: Any) -> bool:
    return any(base.__module__ == "et_core.testing.suite" for base in getattr(cls, "__mro__", ()))


def _lines(title: str, found: dict[str, list[Any]]) -> Iterator[str]:
    total = sum(len(reports) for reports in found.values())
    counts = {state: len(found[state]) for state in ("passed", "failed", "xfailed", "skipped") if state in found}
    words = {"xfailed": "expected to fail"}
    told = ", ".join(f"{count} {words.get(state, state)}" for state, count in counts.items())
    yield f"{title}: {total} checks, {told}"
    for report in found.get("skipped", []):
        yield f"  skipped {_name(report)}: {report.longrepr[2].removeprefix('Skipped: ')}"
    for report in found.get("xfailed", []):
        yield f"  expected to fail {_name(report)}: {report.wasxfail.removeprefix('reason: ')}"


def _name(report: Any) -> str:
    name: str = report.nodeid.rpartition("::")[2]
    return name.removeprefix("test_")
