"""Where an actor works: its mailbox, what it has in hand, and whom it waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from runtime.errors import WaitCycle
from runtime.hot.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Coroutine

IDLE: Final = -1.0
"""Instead of a moment, where nothing goes on: no clock of ours is below 0."""


class Wait:
    """One edge of the wait-for graph: its owner ``words`` ``kind`` … ``on``, perhaps for a ``reply``.

    ``kind`` names the message. ``deadline`` is in monotonic seconds, ``timeout`` what the asker had said.
    """

    __slots__ = ("deadline", "kind", "on", "reply", "timeout", "words")

    def __init__(
        self,
        words: str,
        kind: str,
        on: Desk,
        reply: asyncio.Future[Any] | None = None,
        deadline: float = 0.0,
        timeout: float = 0.0,
    ) -> None:
        self.words = words
        self.kind = kind
        self.on = on
        self.reply = reply
        self.deadline = deadline
        self.timeout = timeout

    def __str__(self) -> str:
        return self.words.format(self.kind, self.on.name)


class Desk:
    """It outlives the instances that work at it, as the cell does, whose it is.

    Attributes:
        handling: the handler that runs, for whoever asks where it stands.
        begun_at: when it began, in monotonic seconds, or ``IDLE``.
        busy_from: since when messages are handled without a pause, or ``IDLE``; ``busy_seconds`` counts those before.
        handled: messages handled to their end.
        last_message: the type of the last of them, when there was time to note it.
        waits: whom the handler waits for; several, where it opened a task group.
    """

    __slots__ = (
        "begun_at",
        "busy_from",
        "busy_seconds",
        "handled",
        "handling",
        "last_message",
        "mailbox",
        "name",
        "waits",
    )

    def __init__(self, mailbox: Mailbox) -> None:
        self.name = mailbox.name
        self.mailbox = mailbox
        self.handling: Coroutine[Any, Any, Any] | None = None
        self.begun_at = IDLE
        self.busy_from = IDLE
        self.busy_seconds = 0.0
        self.handled = 0
        self.last_message = ""
        self.waits: tuple[Wait, ...] = ()

    @property
    def current_id(self) -> int:
        """The id of the delivery in hand: the cause of whatever is sent now. 0 if none is."""
        in_hand = self.mailbox.in_hand
        return 0 if in_hand is None else in_hand.id

    def rest(self, at: float) -> None:
        """Nothing is handled from now, ``at``, on."""
        self.handling = None
        self.begun_at = IDLE
        if self.busy_from != IDLE:
            self.busy_seconds += at - self.busy_from
            self.busy_from = IDLE

    def begin_wait(self, wait: Wait) -> None:
        """Add an edge to the wait-for graph. An actor may wait for several at once, so each has several.

        Raises:
            WaitCycle: it would close a circle.
        """
        if wait.on is self or wait.on.waits:
            back = _way(wait.on, self)
            if back is not None:
                raise WaitCycle("; ".join([f"{self.name} {wait}", *back]))
        self.waits += (wait,)

    def end_wait(self, wait: Wait) -> None:
        """Take the edge out. If the handling has ended meanwhile, it is out already."""
        waits = self.waits
        if len(waits) == 1 and waits[0] is wait:  # nearly always
            self.waits = ()
        else:
            self.waits = tuple([other for other in waits if other is not wait])


def _way(waiter: Desk, goal: Desk) -> list[str] | None:
    """How ``waiter`` waits, perhaps over others, for ``goal``; ``None`` if it does not."""
    if waiter is goal:
        return []
    for wait in waiter.waits:
        rest = _way(wait.on, goal)
        if rest is not None:
            return [f"{waiter.name} {wait}", *rest]
    return None
