"""A pytest plug-in: once a test has failed with one of its parameters, it is not run with the others.

The campaign asks whether a test misses a protection, and for that one is enough.
"""

from __future__ import annotations

import pytest

_failed: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _failed.add(report.nodeid.partition("[")[0])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.nodeid.partition("[")[0] in _failed:
        pytest.skip("it has failed already")
