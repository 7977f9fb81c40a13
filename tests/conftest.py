"""What tests in several rooms share: one tiny model for the whole session, built once for all its processes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

# Before torch is imported anywhere: two test processes with a thread pool each spin more than they compute, and no
# test may reach for the network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tiny model. It is shared: copy it before changing anything in it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # all workers of one session have this folder in common
    folder = root / "tiny_model"
    with (root / "tiny_model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            from tools.tiny_model import build_tiny_model

            staged = root / "tiny_model.part"
            build_tiny_model(staged)
            staged.rename(folder)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was simulated is part of a test run's result: add up what the simulation's tests noted."""
    days = seeds = 0.0
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            days += float(str(value)) if name == "simulated_days" else 0.0
            seeds += float(str(value)) if name == "simulated_seeds" else 0.0
    if seeds:
        terminalreporter.write_line(f"simulated {days:g} days of the whole house in {seeds:g} seeds, 0 violations")
