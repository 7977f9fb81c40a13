"""A mailbox: two lanes, one bound, a declared answer to being full.

Guarantees:
    * Control overtakes work, is never refused, and holds no two equal messages.
    * Work is first in, first out. When it is full the sender waits (``wait``), or the newcomer becomes a dead letter
      (``dead_letter``, for observers); types named in ``latest`` keep only their newest. Nothing is dropped silently.
    * The message in hand stays here, not in the actor, until it is acknowledged: a crash loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
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
    """One delivery of one message. ``cause`` is the id of the delivery whose handling sent it; 0 from outside."""

    id: int
    cause: int
    sender: str
    message: Message
    sent_at: float
    control: bool = False
    attempt: int = 0
    reply: asyncio.Future[Message] | None = None


class Mailbox:
    """The two lanes and the message in hand. Knows nothing of actors; ``put`` never blocks, ``room`` does."""

    __slots__ = ("_control", "_rooms", "_waiter", "_work", "in_hand", "spec")

    def __init__(self, spec: MailboxSpec) -> None:
        self.spec = spec
        self.in_hand: Envelope | None = None
        self._control: deque[Envelope] = deque()
        self._work: deque[Envelope] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._rooms: deque[asyncio.Future[None]] = deque()

    @property
    def depth(self) -> int:
        """Messages waiting, both lanes, without the one in hand."""
        return len(self._control) + len(self._work)

    @property
    def full(self) -> bool:
        """Is the work lane at its bound, counting those already waiting for room?"""
        return len(self._work) + len(self._rooms) >= self.spec.capacity

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest waiting message was sent."""
        waiting = [lane[0].sent_at for lane in (self._control, self._work) if lane]
        return min(waiting) if waiting else None

    def put(self, envelope: Envelope) -> None:
        """Add at the end of its lane, whatever the bound."""
        if envelope.control:
            if envelope.reply is None and any(e.message == envelope.message for e in self._control):
                return
            self._control.append(envelope)
        else:
            if isinstance(envelope.message, self.spec.latest):
                for waiting in self._work:
                    if type(waiting.message) is type(envelope.message):
                        waiting.message, waiting.id, waiting.cause = (
                            envelope.message,
                            envelope.id,
                            envelope.cause,
                        )
                        return
            self._work.append(envelope)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def room(self) -> None:
        """Wait until the work lane has room. Those who wait are served in order."""
        place = asyncio.get_running_loop().create_future()
        self._rooms.append(place)
        try:
            await place
        finally:
            if place in self._rooms:
                self._rooms.remove(place)

    async def next(self) -> Envelope:
        """Lease the next message: it becomes ``in_hand`` and stays there until ``acknowledge``."""
        while self.in_hand is None:
            if self._control:
                self.in_hand = self._control.popleft()
            elif self._work:
                self.in_hand = self._work.popleft()
                self._wake_sender()
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

    def empty_out(self) -> list[Envelope]:
        """Take everything out, the message in hand first; for an actor that will not come back."""
        left = [] if self.in_hand is None else [self.in_hand]
        left += [*self._control, *self._work]
        self.in_hand = None
        self._control.clear()
        self._work.clear()
        while self._rooms:
            self._wake_sender()
        return left

    def _wake_sender(self) -> None:
        while self._rooms:
            place = self._rooms.popleft()
            if not place.done():
                place.set_result(None)
                return
