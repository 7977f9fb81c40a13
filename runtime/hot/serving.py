"""The two hottest paths of all: sending a plain message, and handling what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import anyio.lowlevel

from runtime.hot.desk import Desk
from runtime.hot.envelope import Envelope, Turn
from runtime.hot.mailbox import Mailbox
from runtime.hot.switchboard import Switchboard

if TYPE_CHECKING:
    from messages import Message
    from runtime.child_runner import ChildRunner

BURST: Final = 256
"""Messages that are handled before others are let run, although no handler suspended."""

Handler = Callable[[Any, Any], Coroutine[Any, Any, Any]]


def sender(board: Switchboard, mailbox: Mailbox) -> Callable[[Message], Awaitable[None]]:
    """``Actor.send`` at its quickest, for the owner of ``mailbox`` and messages of the plain kind.

    The others are left to the system.
    """
    ring, entries, now, routes, name = board.ring, board.ring.entries, board.now, board.receivers, mailbox.name
    sent = board.sent
    kind: type[Message] | None = None
    receivers: tuple[Mailbox, ...] | None = None

    def send(message: Message) -> Awaitable[None]:
        nonlocal kind, receivers
        if type(message) is not kind:  # mostly it is as the last time
            kind = type(message)
            receivers = routes.get(kind)
        in_hand = mailbox.in_hand
        cause = 0 if in_hand is None else in_hand.id
        if receivers is None:
            return board.system.deliver(name, cause, message)
        at = now()
        for to in receivers:
            work = to.work
            depth = len(work) - to.taken
            if depth >= to.bound:
                left = receivers[receivers.index(to) :]
                return board.system.deliver_to([each.name for each in left], name, cause, message)
            number = ring.newest_id + 1
            ring.newest_id = number
            envelope = Envelope(number, cause, name, to.name, message, at, depth)
            entries.append(envelope)
            work.append(envelope)
            waiter = to.waiter
            if waiter is not None:
                to.waiter = None
                if not waiter.done():
                    waiter.set_result(None)
        return sent

    return send


async def serve(  # noqa: C901 - one loop, for a call in it would cost as much as all the rest
    desk: Desk, board: Switchboard, instance: object, handlers: dict[type[Message], Handler], runner: ChildRunner
) -> None:
    """Handle message after message until told to stop.

    Args:
        handlers: message type -> the function that handles it, called with ``instance`` and the message.
        runner: deals with the control lane, with what has no such handler, and with what only one incarnation may
            handle; says whether to stop.
    """
    mailbox, ring, now = desk.mailbox, board.ring, board.now
    control, work, entries = mailbox.control, mailbox.work, ring.entries
    loop = asyncio.get_running_loop()
    kind: type[Message] | None = None
    handler: Handler | None = None
    others_ran_at = desk.handled
    while True:
        mailbox.in_hand = None
        if mailbox.taken:
            mailbox.clear_away()
        if not control and not work:
            mailbox.waiter = waiter = loop.create_future()
            await waiter
            others_ran_at = desk.handled
        elif desk.handled - others_ran_at >= BURST:
            await anyio.lowlevel.checkpoint()
            others_ran_at = desk.handled
        done: Envelope | None = None
        taken = 0
        desk.busy_from = now()
        if control and await runner.handle_control():
            return
        for envelope in work:  # and what is added to it meanwhile
            if control or taken == BURST:
                break
            taken += 1
            mailbox.taken = taken
            mailbox.in_hand = envelope
            if mailbox.rooms is not None:
                mailbox.give_room()
            if type(envelope.message) is not kind:  # mostly it is as the last time
                kind = type(envelope.message)
                handler = handlers.get(kind)
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
        at = now()
        desk.rest(at)
        if done is not None:
            entries.append(Turn(at, done, None))
            desk.last_message = type(done.message).__name__
        if len(entries) > ring.most:
            ring.trim()
