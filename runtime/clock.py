"""The one door to time. Nothing else in the house reads a clock.

``monotonic`` orders and measures; ``now`` is what the wall says and may jump. A deadline is never computed from the
one and compared with the other.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, and the local wall time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, never going back; the event loop's own time. Callable from any thread."""

    def now(self) -> datetime:
        """Local wall time with its zone (daylight saving applied)."""


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)  # itself and not a method around it: it is read twice for each message

    def now(self) -> datetime:
        return datetime.now().astimezone()
