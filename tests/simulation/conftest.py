"""At the end of a test run: how much was simulated."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add up what the tests noted as ``simulated_days``."""
    days = seeds = 0.0
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == "simulated_days":
                days += float(str(value))
            elif name == "simulated_seeds":
                seeds += float(str(value))
    if seeds:
        terminalreporter.write_line(f"simulated {days:g} days of the whole house in {seeds:g} seeds")
