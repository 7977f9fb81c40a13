"""Many universes together: what they found, what went wrong in them, and what was never tried."""

from __future__ import annotations

import hashlib
from collections import Counter

from runtime.simulation.coverage import CrashPoints, Orders
from tools.simulated_house.universe import Outcome


class Campaign:
    """Add outcomes in order of their seeds; keeps sums and the broken ones, not every universe."""

    def __init__(self, seeds: int) -> None:
        self.seeds = seeds
        self.done = 0
        self.days = 0.0
        self.lives = 0
        self.broken: list[Outcome] = []
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.crash_points = CrashPoints()
        self.orders = Orders()
        self._trace = hashlib.sha256()

    def add(self, outcome: Outcome) -> None:
        """One universe."""
        self.done += 1
        self.days += outcome.days
        self.lives += outcome.lives
        self.faults.update(outcome.faults)
        self.counts.update(outcome.counts)
        self.crash_points.add(outcome.crash_points)
        self.orders.add(outcome.orders)
        self._trace.update(outcome.trace.encode())
        if outcome.violation:
            self.broken.append(outcome)

    @property
    def trace(self) -> str:
        """One digest over the traces of all seeds, in order."""
        return self._trace.hexdigest()

    def progress(self, seconds: float) -> str:
        """How it goes, in one line."""
        pace = self.days / seconds if seconds else 0.0
        left = round(seconds / self.done * (self.seeds - self.done)) if self.done else 0
        return (
            f"{self.done} of {self.seeds} seeds, {pace:.1f} days a second, "
            f"violations: {len(self.broken)}, {left // 60}:{left % 60:02d} left"
        )

    def what_struck(self) -> str:
        """Faults by kind."""
        return ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())) or "none"

    def coverage(self) -> str:
        """What was tried of what there is."""
        return f"{self.crash_points}; {self.orders}"

    def uncovered(self) -> list[str]:
        """What was not."""
        points = [f"never ended at: {point}" for point in self.crash_points.unreached]
        return points + [f"one order only: {pair}" for pair in self.orders.pairs()[1]]

    def totals(self, seconds: float) -> str:
        """The line that ends a campaign."""
        return (
            f"{self.done} seeds, {self.days:g} simulated days in {seconds:.1f} s ({self.days / seconds:.1f} a second), "
            f"{self.lives} lives, {self.counts['batches']} batches, {self.counts['nights']} nights, "
            f"{sum(self.faults.values())} faults; violations: {len(self.broken)}"
        )
