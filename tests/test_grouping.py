"""Tests of one group share what is slow to make; pytest-xdist keeps them together by a suffix to their names."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("grouping")
def test_a_group_reaches_the_scheduler(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ or not request.config.getoption("loadgroup", default=False):
        pytest.skip("groups are kept by --dist loadgroup alone, as `make test` asks for")
    assert request.node.nodeid.endswith("@grouping"), (
        "pytest and pytest-xdist of these versions do not go together: every worker makes anew what a group shares"
    )
