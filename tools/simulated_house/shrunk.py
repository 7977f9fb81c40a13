"""The shortest story that still breaks a promise: fewer faults first, then fewer deeds of people."""

from __future__ import annotations

import time
from collections.abc import Sequence

from runtime.simulation.shrinking import shrink
from runtime.simulation.strikes import Strike
from tools.simulated_house.universe import Outcome, Universe


def shrunk(broken: Outcome, seconds: float) -> tuple[Outcome, tuple[int, ...]]:
    """A universe of the same seed that breaks the same promise with less, and the deeds left undone in it.

    Args:
        broken: what was found.
        seconds: how long it may be tried, in real time; the universe in hand is still finished.
    """
    until = time.monotonic() + seconds
    best: list[Outcome] = [broken]

    def still(strikes: Sequence[Strike], without: tuple[int, ...]) -> bool:
        found = Universe(broken.seed, broken.days, faults=strikes, without=without).run()
        if found.promise != broken.promise or not found.violation:
            return False
        best[0] = found
        return True

    def in_time() -> bool:
        return time.monotonic() < until

    # What struck, not what was given: a fault at a point that is never reached any more is none.
    shrink(broken.strikes, lambda strikes: still(strikes, _undone(broken, broken.deeds)), in_time)
    strikes = best[0].strikes
    shrink(broken.deeds, lambda deeds: still(strikes, _undone(broken, deeds)), in_time)
    # With fewer people about, some fault may no longer be needed.
    deeds = best[0].deeds
    shrink(best[0].strikes, lambda fewer: still(fewer, _undone(broken, deeds)), in_time)
    return best[0], _undone(broken, best[0].deeds)


def _undone(broken: Outcome, deeds: Sequence[int]) -> tuple[int, ...]:
    return tuple(group for group in range(1, max(broken.deeds, default=0) + 1) if group not in deeds)
