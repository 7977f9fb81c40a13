"""Messages travel in virtual time: each takes a seeded while, and two from one sender to one receiver keep their order.

This is what finds races: with immediate delivery every run of a program sees one and the same interleaving.
"""

from __future__ import annotations

from runtime.cell import Cell, Stop
from runtime.hot.envelope import Envelope
from runtime.simulation.loop import SimLoop, latency

_LATER = 1.0 / (1 << 20)


class SeededDelivery:
    """``Delivery`` with latencies from the loop's stream ``delivery``; ``longest_seconds`` bounds each."""

    def __init__(self, loop: SimLoop, *, longest_seconds: float = 0.125) -> None:
        self._loop = loop
        self._longest_seconds = longest_seconds
        self._stream = loop.random("delivery")
        self._last: dict[tuple[str, str, bool], float] = {}
        self._newest: dict[str, float] = {}

    def carry(self, cell: Cell, envelope: Envelope) -> None:
        """Put the envelope into the mailbox after its latency."""
        pair = (envelope.sender, cell.name, envelope.control)
        due = self._loop.time() + latency(self._stream, self._longest_seconds)
        # Timers at the same moment fire in no promised order, so a later message is due a little later.
        due = max(due, self._last.get(pair, 0.0) + _LATER)
        self._last[pair] = due
        if isinstance(envelope.message, Stop):
            # Who is told to stop still deals with what was sent to it before: delivered at once, that would be there.
            due = max(due, self._newest.get(cell.name, 0.0) + _LATER)
        elif due > self._newest.get(cell.name, 0.0):
            self._newest[cell.name] = due
        self._loop.call_at(due, cell.mailbox.arrive, envelope)
