"""``Clock`` on a simulated loop: virtual seconds, and a wall clock that a test may set."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from runtime.simulation.loop import SimLoop


class SimClock:
    """What the programs in one universe believe the time is, in the zone they live in."""

    def __init__(self, loop: SimLoop, zone: tzinfo = UTC) -> None:
        self._loop = loop
        self._zone = zone
        self.monotonic = loop.time
        """Virtual seconds since the universe began. The loop's very method: it is asked several times a message."""

    def now(self) -> datetime:
        """The wall clock, with every jump it made."""
        return self._loop.wall(self._zone)
