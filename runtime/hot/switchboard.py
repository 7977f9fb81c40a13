"""Who hears what, and who waits for an answer: the part of the actor system that every message touches."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from runtime.errors import AskFailed, AskTimeout
from runtime.hot.desk import Desk, Wait
from runtime.hot.envelope import Envelope, Reply
from runtime.hot.mailbox import Mailbox
from runtime.hot.ring import Ring

if TYPE_CHECKING:
    from messages import Message
    from runtime.system import ActorSystem


class Answerer:
    """Who answers a type of question; ``plain``: it goes to the end of the work lane, like most messages."""

    __slots__ = ("control", "desk", "plain")

    def __init__(self, desk: Desk, *, control: bool, plain: bool) -> None:
        self.desk = desk
        self.control = control
        self.plain = plain


class Switchboard:
    """One for each ``ActorSystem``, which does all that is not done here.

    Attributes:
        receivers: message type -> the mailboxes of who hears it, for the types that go to the end of every work lane.
        answerers: question type -> who answers it, for those that exactly one actor answers.
        asked: delivery id -> who waits for its answer.
        sent: what a send gives that did not have to wait; it may be awaited again and again.
    """

    __slots__ = (
        "_expiry",
        "_looks_for_late_at",
        "answerers",
        "asked",
        "loop",
        "now",
        "receivers",
        "ring",
        "sent",
        "system",
    )

    def __init__(self, system: ActorSystem, ring: Ring, now: Callable[[], float], sent: Awaitable[None]) -> None:
        self.system = system
        self.ring = ring
        self.now = now
        self.sent = sent
        self.receivers: dict[type[Message], tuple[Mailbox, ...]] = {}
        self.answerers: dict[type[Message], Answerer] = {}
        self.asked: dict[int, Wait] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._looks_for_late_at = math.inf

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """The system runs, in this loop."""
        self.loop = loop

    def close(self) -> None:
        """The system is over: no timer is left behind."""
        if self._expiry is not None:
            self._expiry.cancel()

    async def ask(self, asker: Desk | None, question: Message, *, timeout: float) -> Any:
        """Ask on behalf of whoever works at ``asker``, or of someone outside the tree.

        Raises:
            AskFailed, AskTimeout, WaitCycle: see ``Actor.ask``.
        """
        kind = type(question)
        number = 0
        wait: Wait | None = None
        try:
            answerer = self.answerers.get(kind) or self._nobody(kind)
            on = answerer.desk
            assert self.loop is not None, "the system is not running"
            reply = self.loop.create_future()
            at = self.now()
            wait = Wait("asks {} of {}", kind.__name__, on, reply, at + timeout, timeout)
            name, cause = "outside", 0
            if asker is not None:
                name, cause = asker.name, asker.current_id
                asker.begin_wait(wait)
            mailbox = on.mailbox
            if answerer.plain and mailbox.bound:
                number = self.ring.next_id()
                self.asked[number] = wait
                envelope = Envelope(number, cause, name, on.name, question, at, mailbox.waiting, False, 0, 0, True)
                self.ring.entries.append(envelope)
                mailbox.work.append(envelope)
                mailbox.wake()
            else:
                number = self.system.put_question(on.name, name, cause, question, answerer.control, wait)
            if wait.deadline < self._looks_for_late_at:
                self._expire_at(wait.deadline)
            return await reply
        except Exception as error:
            if asker is not None:
                self.system.ask_failed(asker.name, asker.current_id, kind.__name__, error)
            raise
        finally:
            self.asked.pop(number, None)
            if asker is not None and wait is not None:
                asker.end_wait(wait)

    def _nobody(self, kind: type[Message]) -> Answerer:
        raise AskFailed(self.system.why_unanswered(kind))

    def answer(self, at: float, asked: Envelope, answer: object) -> None:
        """Hand the answer to whoever still waits for it; late ones go nowhere."""
        wait = self.asked.get(asked.id)
        if wait is None or wait.reply is None or wait.reply.done():
            return
        self.ring.entries.append(Reply(at, asked, answer))
        wait.reply.set_result(answer)

    def fail(self, number: int, why: Exception) -> bool:
        """End this ask in failure, if there is one and it has not ended yet; was there?"""
        wait = self.asked.get(number)
        return wait is not None and fail(wait, why)

    def _expire_at(self, deadline: float) -> None:
        """One timer serves all asks, for nearly all are answered long before: it looks when the first may be late."""
        assert self.loop is not None, "the system is running"
        if self._expiry is not None:
            self._expiry.cancel()
        self._looks_for_late_at = deadline
        self._expiry = self.loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._expiry, self._looks_for_late_at = None, math.inf
        now = self.now()
        first_of_the_rest = math.inf
        for wait in list(self.asked.values()):
            # The loop may call a little early, by the resolution of its clock.
            if wait.deadline <= now + 0.001:
                fail(wait, AskTimeout(f"{wait.on.name} did not answer {wait.kind} within {wait.timeout:g} s"))
            elif wait.reply is not None and not wait.reply.done():
                first_of_the_rest = min(first_of_the_rest, wait.deadline)
        if first_of_the_rest != math.inf:
            self._expire_at(first_of_the_rest)


def fail(wait: Wait, why: Exception) -> bool:
    """End the ask in failure unless it has ended; had it not?"""
    if wait.reply is None or wait.reply.done():
        return False
    wait.reply.set_exception(why)
    return True
