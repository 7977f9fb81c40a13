"""A mailbox: two lanes, one bound, a declared answer to being full.

Guarantees:
    * Control overtakes work, is never refused, and holds no two equal messages.
    * Work is first in, first out. When it is full the sender waits (``wait``), or the newcomer is let go, counted and
      told (``dead_letter``, for observers); types in ``latest`` keep only their newest, in the place of the older.
    * The message in hand stays here, not in the actor, until it is acknowledged: a crash loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from messages import Message

Overflow = Literal["wait", "dead_letter"]


class MailboxSpec(msgspec.Struct, frozen=True):
    """How a mailbox is bounded. ``latest``: message types of which only the newest is worth keeping."""

    capacity: int = 256
    overflow: Overflow = "wait"
    latest: tuple[type[Message], ...] = ()


class Envelope(msgspec.Struct):
    """One delivery of one message.

    ``cause`` is the id of the delivery whose handling sent it, 0 from outside. ``incarnation``: the only one it is
    meant for (its tick, its device's result, its stop), or 0 where any may handle it.
    """

    id: int
    cause: int
    sender: str
    message: Message
    sent_at: float
    control: bool = False
    attempt: int = 0
    incarnation: int = 0
    reply: asyncio.Future[Message] | None = None


class Mailbox:
    """The two lanes and the message in hand. Knows nothing of actors; ``put`` never blocks, ``room`` does."""

    __slots__ = ("_control", "_granted", "_refuse", "_rooms", "_waiter", "_work", "in_hand", "spec")

    def __init__(self, spec: MailboxSpec) -> None:
        self.spec = spec
        self.in_hand: Envelope | None = None
        self._control: deque[Envelope] = deque()
        self._work: deque[Envelope] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._rooms: deque[asyncio.Future[None]] = deque()
        self._granted = 0
        self._refuse: Callable[[Envelope], None] | None = None

    @property
    def depth(self) -> int:
        """Messages waiting, both lanes, without the one in hand."""
        return len(self._control) + len(self._work)

    @property
    def full(self) -> bool:
        """Is the work lane at its bound? Those who wait for room, or were just given it, come before a newcomer."""
        return bool(self._rooms) or not self._has_room

    @property
    def _has_room(self) -> bool:
        return len(self._work) + self._granted < self.spec.capacity

    @property
    def newest_id(self) -> int:
        """The highest delivery id that waits; 0 if nothing does."""
        return max((envelope.id for lane in (self._control, self._work) for envelope in lane), default=0)

    def holds(self, number: int) -> bool:
        """Does a delivery wait whose id is at most ``number``?"""
        return any(envelope.id <= number for lane in (self._control, self._work) for envelope in lane)

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest waiting message was sent."""
        waiting = [lane[0].sent_at for lane in (self._control, self._work) if lane]
        return min(waiting) if waiting else None

    def put(self, envelope: Envelope) -> None:
        """Add at the end of its lane, whatever the bound."""
        if self._refuse is not None:
            self._refuse(envelope)
            return
        if envelope.control:
            if envelope.reply is None and any(
                e.message == envelope.message and e.incarnation == envelope.incarnation for e in self._control
            ):
                return
            self._control.append(envelope)
        else:
            if isinstance(envelope.message, self.spec.latest):
                for place, waiting in enumerate(self._work):
                    if type(waiting.message) is type(envelope.message) and waiting.reply is None:
                        self._work[place] = envelope
                        return
            self._work.append(envelope)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def room(self) -> None:
        """Wait, in order, for a place in the work lane; whoever is given it must ``put`` before awaiting anything.

        The place is kept for the one it was given to: a newcomer who runs in between would take it, and the one who
        had waited would go to the end of the line, perhaps for ever.
        """
        place = asyncio.get_running_loop().create_future()
        self._rooms.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with contextlib.suppress(ValueError):  # it may have been passed over already
                    self._rooms.remove(place)
            else:
                self._granted -= 1
                self._give_room()
            raise
        self._granted -= 1

    async def next(self) -> Envelope:
        """Lease the next message: it becomes ``in_hand`` and stays there until ``acknowledge``."""
        while self.in_hand is None:
            if self._control:
                self.in_hand = self._control.popleft()
            elif self._work:
                self.in_hand = self._work.popleft()
                self._give_room()
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
        return self.in_hand

    def acknowledge(self) -> None:
        """The message in hand is dealt with."""
        self.in_hand = None

    def close(self, refuse: Callable[[Envelope], None]) -> list[Envelope]:
        """Take everything out, the message in hand first, and hand later arrivals to ``refuse``.

        For an actor that will not come back; a message may still be on its way to it.
        """
        self._refuse = refuse
        left = [] if self.in_hand is None else [self.in_hand]
        left += [*self._control, *self._work]
        self.in_hand = None
        self._control.clear()
        self._work.clear()
        while self._rooms:
            self._give_place()
        return left

    def _give_room(self) -> None:
        while self._rooms and self._has_room:
            self._give_place()

    def _give_place(self) -> None:
        place = self._rooms.popleft()
        if not place.done():
            self._granted += 1
            place.set_result(None)
