"""The two hottest paths of all: sending a plain message, and handling what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import anyio.lowlevel

from runtime.hot.desk import Desk
from runtime.hot.envelope import Envelope, Turn
from runtime.hot.switchboard import Switchboard

if TYPE_CHECKING:
    from messages import Message
    from runtime.child_runner import ChildRunner

BURST: Final = 256
"""Messages that are handled before others are let run, should no handler ever suspend."""

Handlers = dict["type[Message]", Callable[[Any, Any], Coroutine[Any, Any, Any]]]


class Sender:
    """``Actor.send`` at its quickest, for messages of the plain kind; the others are left to the system."""

    __slots__ = ("_board", "_desk")

    def __init__(self, board: Switchboard, desk: Desk) -> None:
        self._board = board
        self._desk = desk

    def send(self, message: Message) -> Awaitable[None]:
        """See ``Actor.send``."""
        board, desk = self._board, self._desk
        receivers = board.receivers.get(type(message))
        in_hand = desk.mailbox.in_hand
        cause = 0 if in_hand is None else in_hand.id
        if receivers is None:
            return board.system.deliver(desk.name, cause, message)
        ring, at = board.ring, board.now()
        for to in receivers:
            mailbox = to.mailbox
            work = mailbox.work
            depth = len(work) - mailbox.taken
            if depth >= mailbox.bound:
                left = receivers[receivers.index(to) :]
                return board.system.deliver_to([each.name for each in left], desk.name, cause, message)
            ring.newest_id += 1
            envelope = Envelope(ring.newest_id, cause, desk.name, to.name, message, at, depth)
            ring.entries.append(envelope)
            work.append(envelope)
            waiter = mailbox.waiter
            if waiter is not None:
                mailbox.waiter = None
                if not waiter.done():
                    waiter.set_result(None)
        assert board.sent is not None, "the system is running"
        return board.sent


async def serve(  # noqa: C901 - one loop, for a call in it would cost as much as all the rest
    desk: Desk,
    board: Switchboard,
    instance: object,
    handlers: Handlers,
    runner: ChildRunner,
) -> None:
    """Lease message after message until told to stop.

    Args:
        handlers: message type -> the function that handles it, called with ``instance`` and the message.
        runner: deals with what has none, and with what only one incarnation may handle; says whether to stop.
    """
    mailbox, ring, now = desk.mailbox, board.ring, board.now
    control, work, entries = mailbox.control, mailbox.work, ring.entries
    mailbox.clear_away(mailbox.taken)
    loop = asyncio.get_running_loop()
    while True:
        if not control and not work:
            mailbox.waiter = waiter = loop.create_future()
            await waiter
        done: Envelope | None = None
        desk.busy_from = now()
        for _ in range(BURST):
            if control:
                envelope = control.pop(0)
            elif mailbox.taken < len(work):
                envelope = work[mailbox.taken]
                mailbox.taken += 1
                if mailbox.rooms is not None:
                    mailbox.give_room()
            else:
                break
            mailbox.in_hand = envelope
            handler = handlers.get(type(envelope.message))
            if handler is None or envelope.incarnation:
                if done is not None:
                    entries.append(Turn(now(), done, None))
                    done = None
                if await runner.handle_other(envelope):
                    return
                continue
            at = now()
            desk.begun_at = at
            entries.append(Turn(at, done, envelope))
            if done is not None:
                ring.doubles += 1
                done = None
            handling = handler(instance, envelope.message)
            desk.handling = handling
            answer = await handling
            desk.handled += 1
            done = envelope
            if envelope.asks:
                at = now()
                entries.append(Turn(at, done, None))
                done = None
                board.answer(at, envelope, answer)
        mailbox.in_hand = None
        if mailbox.taken:
            mailbox.clear_away(mailbox.taken)
        at = now()
        desk.rest(at)
        if done is not None:
            entries.append(Turn(at, done, None))
            desk.last_message = type(done.message).__name__
        if len(entries) > ring.most:
            ring.trim()
        if control or work:
            await anyio.lowlevel.checkpoint()  # let others run, should no handler ever suspend
