"""A mailbox: two lanes, one bound, a declared answer to being full.

Guarantees:
    * Control overtakes work, is never refused, and holds no two equal messages.
    * Work is first in, first out. When it is full the sender waits (``wait``), or the newcomer is let go, counted and
      told (``dead_letter``, for observers); types in ``latest`` keep only their newest, in the place of the older.
    * What travels counts as if it had arrived, and a place that was promised is kept for the one who waited for it.
    * The message in hand stays here, not in the actor, until it is acknowledged: a crash loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.hot.envelope import Envelope

if TYPE_CHECKING:
    from runtime.tree import MailboxSpec


class Mailbox:
    """The two lanes and the message in hand. Knows nothing of actors; ``put`` never blocks, ``room`` does.

    Hot paths know it from the inside. Whoever sends may append to ``work`` while fewer than ``bound`` wait there, and
    then wakes the ``waiter``. Whoever serves takes from ``work`` what comes next by counting up ``taken``, and then
    calls ``give_room`` if there are ``rooms``: those who wait for room. What was taken lies at the front until it is
    cleared away, all at once: a list is a quicker queue than a deque, and an empty one takes 600 bytes less.

    Args:
        name: whose it is.
        direct: messages are put in as they are sent; else they ``travel`` first.
    """

    __slots__ = (
        "_direct",
        "_granted",
        "_refuse",
        "_travelling",
        "bound",
        "control",
        "in_hand",
        "name",
        "rooms",
        "spec",
        "taken",
        "waiter",
        "work",
    )

    def __init__(self, spec: MailboxSpec, name: str = "", *, direct: bool = True) -> None:
        self.spec = spec
        self.name = name
        self.in_hand: Envelope | None = None
        self.control: list[Envelope] = []
        self.work: list[Envelope] = []
        self.taken = 0
        self.waiter: asyncio.Future[None] | None = None
        self._direct = direct
        self.rooms: deque[asyncio.Future[None]] | None = None
        self._granted = 0
        self._travelling = 0
        self._refuse: Callable[[Envelope], None] | None = None
        self.bound = 0
        self._set_bound()

    def _set_bound(self) -> None:
        """How long ``work`` may be for a message to be added without a closer look; 0: look."""
        simple = self._direct and self._refuse is None and not self.rooms and not self._granted
        self.bound = self.spec.capacity if simple else 0

    @property
    def depth(self) -> int:
        """Messages waiting, both lanes, without the one in hand."""
        return len(self.control) + self.waiting

    @property
    def waiting(self) -> int:
        """Messages waiting in the work lane."""
        return len(self.work) - self.taken

    @property
    def full(self) -> bool:
        """Is the work lane at its bound? Those who wait for room, or were just given it, come before a newcomer."""
        return bool(self.rooms) or not self._has_room

    @property
    def _has_room(self) -> bool:
        return self.waiting + self._granted + self._travelling < self.spec.capacity

    @property
    def newest_id(self) -> int:
        """The highest delivery id that waits; 0 if nothing does."""
        return max((envelope.id for envelope in self._both_lanes()), default=0)

    def holds(self, number: int) -> bool:
        """Does a delivery wait whose id is at most ``number``?"""
        return any(envelope.id <= number for envelope in self._both_lanes())

    @property
    def oldest_sent_at(self) -> float | None:
        """When the oldest waiting message was sent."""
        return min((envelope.sent_at for envelope in self._both_lanes()), default=None)

    def _both_lanes(self) -> list[Envelope]:
        return self.control + self.work[self.taken :]

    def clear_away(self) -> None:
        """Forget what was taken: it is in hand or dealt with."""
        del self.work[: self.taken]
        self.taken = 0

    def travel(self) -> None:
        """A work message is on its way: it takes up room from now on, and will be put by ``arrive``."""
        self._travelling += 1

    def arrive(self, envelope: Envelope) -> None:
        """Put what was travelling."""
        if not envelope.control:
            self._travelling -= 1
        self.put(envelope)

    def put(self, envelope: Envelope) -> None:
        """Add at the end of its lane, whatever the bound."""
        if self._refuse is not None:
            self._refuse(envelope)
            return
        if envelope.control:
            if not envelope.asks and any(
                e.message == envelope.message and e.incarnation == envelope.incarnation for e in self.control
            ):
                return
            self.control.append(envelope)
        else:
            if self.spec.latest and isinstance(envelope.message, self.spec.latest):
                for place in range(self.taken, len(self.work)):
                    waiting = self.work[place]
                    if type(waiting.message) is type(envelope.message) and not waiting.asks:
                        self.work[place] = envelope
                        return
            self.work.append(envelope)
        self.wake()

    def wake(self) -> None:
        """Have whoever leases this mailbox look, if it waits."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def room(self) -> None:
        """Wait, in order, for a place in the work lane; whoever is given it must ``put`` before awaiting anything.

        The place is kept for the one it was given to: a newcomer who runs in between would take it, and the one who
        had waited would go to the end of the line, perhaps for ever.
        """
        place = asyncio.get_running_loop().create_future()
        if self.rooms is None:
            self.rooms = deque()
        self.rooms.append(place)
        self._set_bound()
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with contextlib.suppress(ValueError):  # it may have been passed over already
                    (self.rooms or deque()).remove(place)
            else:
                self._granted -= 1
            self.give_room()
            raise
        self._granted -= 1
        self._set_bound()

    async def next(self) -> Envelope:
        """Lease the next message: it becomes ``in_hand`` and stays there until ``acknowledge``."""
        while self.in_hand is None:
            if self.control:
                self.in_hand = self.control.pop(0)
            elif self.taken < len(self.work):
                self.in_hand = self.work.pop(self.taken)
                if self.rooms is not None:
                    self.give_room()
            else:
                await self.something()
        return self.in_hand

    async def something(self) -> None:
        """Wait until a message waits; only for the one who leases this mailbox, and only if none does."""
        self.waiter = waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self.waiter = None

    def acknowledge(self) -> None:
        """The message in hand is dealt with."""
        self.in_hand = None

    def close(self, refuse: Callable[[Envelope], None]) -> list[Envelope]:
        """Take everything out, the message in hand first, and hand later arrivals to ``refuse``.

        For an actor that will not come back; a message may still be on its way to it.
        """
        self._refuse = refuse
        left = [] if self.in_hand is None else [self.in_hand]
        left += self._both_lanes()
        self.in_hand = None
        self.control.clear()
        self.work.clear()
        self.taken = 0
        while self.rooms:
            self._give_place()
        self._set_bound()
        return left

    def give_room(self) -> None:
        """Give the places that are free to those who wait for them, in order."""
        while self.rooms and self._has_room:
            self._give_place()
        if not self.rooms:
            self.rooms = None
        self._set_bound()

    def _give_place(self) -> None:
        assert self.rooms, "only asked for when someone waits"
        place = self.rooms.popleft()
        if not place.done():
            self._granted += 1
            place.set_result(None)
