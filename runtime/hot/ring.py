"""The bounded ring that the trace is kept in, and the numbers of the deliveries."""

from __future__ import annotations

SLACK = 4
"""The ring is cut back to its capacity when it has grown by a quarter of it."""


class Ring:
    """The newest ``capacity`` entries and up to a quarter more, oldest first.

    Hot paths append to ``entries`` themselves, and call ``trim`` once there are more than ``most``.

    Attributes:
        doubles: how many entries there were, ever, that are two edges; whoever appends such a one counts it.
        let_go: how many entries there were that are no longer here.
        newest_id: the id of the newest delivery; whoever makes one counts it up.
    """

    __slots__ = ("capacity", "doubles", "entries", "let_go", "most", "newest_id")

    def __init__(self, capacity: int) -> None:
        self.entries: list[object] = []
        self.capacity = capacity
        self.most = capacity + capacity // SLACK
        self.doubles = 0
        self.let_go = 0
        self.newest_id = 0

    def next_id(self) -> int:
        """The id of a new delivery."""
        self.newest_id += 1
        return self.newest_id

    def trim(self) -> None:
        """Let the oldest entries go, down to the capacity."""
        surplus = len(self.entries) - self.capacity
        if surplus > 0:
            self.let_go += surplus
            del self.entries[:surplus]
