"""Where large buffers wait while messages carry only their ticket.

A snapshot of the weights is too large, and too alive, for a message. The one who made it leaves it here and sends the
ticket; the one who writes it looks it up, and hands the ticket back when the bytes are durable. Tickets are counted,
never random, and a ticket outlives a crash of either actor but not of the process.

Buffers may be filled again by whoever left them, but not before they were handed back: until then they stand still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runtime.disk import Buffer


class Cloakroom:
    """Buffers by ticket. Safe to use from the loop and from worker threads (single dict operations)."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Mapping[str, Buffer], Callable[[], None] | None]] = {}
        self._count = 0

    def leave(self, files: Mapping[str, Buffer], handed_back: Callable[[], None] | None = None) -> str:
        """Keep ``files`` (name -> content) and return their ticket.

        ``handed_back`` is called once, by whoever hands the ticket back, on their thread.
        """
        self._count += 1
        ticket = f"snapshot-{self._count}"
        self._kept[ticket] = (files, handed_back)
        return ticket

    def look(self, ticket: str) -> Mapping[str, Buffer] | None:
        """What the ticket stands for; ``None`` once it was handed back."""
        kept = self._kept.get(ticket)
        return kept[0] if kept is not None else None

    def hand_back(self, ticket: str) -> None:
        """Let the buffers go: nobody reads them any more. Handing back twice is harmless."""
        _, handed_back = self._kept.pop(ticket, (None, None))
        if handed_back is not None:
            handed_back()

    def clear(self) -> None:
        """Let everything go: whoever knew the tickets that are left is gone, or has no use for them."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
