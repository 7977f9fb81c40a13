"""Where large buffers wait while messages carry only their ticket.

A snapshot of the weights is too large, and too alive, for a message. The one who made it leaves it here and sends the
ticket; the one who writes it looks it up, and hands the ticket back when the bytes are durable. Tickets are counted,
never random, and a ticket outlives a crash of either actor but not of the process.
"""

from __future__ import annotations

from collections.abc import Mapping


class Cloakroom:
    """Buffers by ticket. Safe to use from the loop and from worker threads (single dict operations)."""

    def __init__(self) -> None:
        self._kept: dict[str, Mapping[str, bytes]] = {}
        self._count = 0

    def leave(self, files: Mapping[str, bytes]) -> str:
        """Keep ``files`` (name -> content) and return their ticket."""
        self._count += 1
        ticket = f"snapshot-{self._count}"
        self._kept[ticket] = files
        return ticket

    def look(self, ticket: str) -> Mapping[str, bytes] | None:
        """What the ticket stands for; ``None`` once it was handed back."""
        return self._kept.get(ticket)

    def hand_back(self, ticket: str) -> None:
        """Let the buffers go. Handing back twice is harmless."""
        self._kept.pop(ticket, None)

    def clear(self) -> None:
        """Let everything go: whoever knew the tickets that are left is gone, or has no use for them."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
