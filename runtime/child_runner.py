"""One child: the incarnations of an actor in its place, one after the other.

This is the one place where a crash is caught; what comes next its branch decides (``runtime.supervisor``). A crash ends
the incarnation, never mends it: the fresh instance starts from what is on disk and from the mailbox, which the cell
kept. Order is: the old instance is gone and its device is quiet, the back-off passes, the new instance's ``on_start``
returns, then messages flow again.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from messages import ActorCrashed, ActorGaveUp, ActorStarted
from messages.supervision import Ending
from runtime.actor import Actor, functions_of
from runtime.cell import Cell, Stop
from runtime.errors import OperatorError
from runtime.hot.envelope import Envelope
from runtime.hot.serving import BURST, serve
from runtime.stacks import where_it_broke
from runtime.tree import Child, Retry

if TYPE_CHECKING:
    from runtime.system import ActorSystem

INSIST_EVERY_SECONDS = 1.0
"""How often an actor that outlived its time to stop is cancelled again."""


class StartTimeoutError(RuntimeError):
    """``on_start``, or the device job of the instance before, took longer than ``start_within``."""


class StopTimeoutError(RuntimeError):
    """``on_stop`` of an actor that ended by itself took longer than ``stop_within``."""


@dataclass(frozen=True)
class Crash:
    """What is left of an exception: text, for a held traceback would keep the dead instance alive.

    ``for_a_person`` is the exception itself where restarting cannot help: an ``OperatorError``.
    """

    line: str
    why: str
    for_a_person: OperatorError | None = None

    @staticmethod
    def of(error: BaseException) -> Crash:
        line = "".join(traceback.format_exception_only(error)[:1]).strip()
        why = where_it_broke(error)
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return Crash(line, why, error if isinstance(error, OperatorError) else None)


@dataclass(frozen=True)
class Ended:
    """A child's end. ``asked``: it was the supervisor that stopped it."""

    runner: ChildRunner
    crash: Crash | None = None
    asked: bool = False


class Branch(Protocol):
    """Whom a child tells of its end."""

    def child_ended(self, ended: Ended) -> None:
        """Told by a child's last breath."""


class ChildRunner:
    """Runs one child's incarnations, one after the other."""

    __slots__ = (
        "_asked",
        "_cut",
        "_draining",
        "_over",
        "_serving",
        "_up_at",
        "branch",
        "cell",
        "crashes",
        "last_words",
        "streak",
        "system",
    )

    def __init__(self, system: ActorSystem, child: Child, branch: Branch) -> None:
        self.system = system
        self.cell = Cell(system, child)
        self.branch = branch
        self.crashes: tuple[float, ...] = ()
        self.streak = 0
        self.last_words = ""
        self._asked = False
        self._cut = False
        self._draining = False
        self._serving = False
        self._up_at: float | None = None
        self._over: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def settled(self) -> bool:
        """Is it done for good?"""
        return self.cell.state in ("stopped", "disabled")

    async def start(self) -> None:
        """Begin an incarnation; returns when it is up or has already ended. One that is under way is left alone."""
        if self.cell.task is not None:
            return
        self._asked = self._cut = self._draining = self._serving = False
        self._up_at = None
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cell.task = self.system.spawn(self._incarnation(up), f"actor {self.name}")
        await up

    async def stop(self, *, for_good: bool = True) -> None:
        """End the incarnation in order, or by force after ``stop_within`` seconds.

        ``for_good=False``: another incarnation follows, so mailbox and device are kept and nothing is drained.
        """
        if self.cell.task is not None:
            self._draining = for_good and self.cell.child.drain
            await self._end_incarnation(self.cell.child.stop_within)
        if for_good and not self.settled:
            if self.cell.device_is_made:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.cell.child.stop_within):
                        await self.cell.quiet_device()
            self.settle("stopped")

    async def disable(self, why: str) -> None:
        """End the incarnation at once and let no other follow."""
        if self.settled:
            return
        if self.cell.task is not None:
            await self._end_incarnation(0.0)
        self.system.publish(ActorGaveUp(actor=self.name, why=why, disabled=True))
        self.settle("disabled", why)

    async def _end_incarnation(self, within: float) -> None:
        self._asked = True
        self.cell.state = "stopping"
        self.system.put(self.cell, "supervisor", 0, Stop(), control=True, incarnation=self.cell.incarnation)
        loop = asyncio.get_running_loop()
        self._over = over = loop.create_future()
        end_by_force: asyncio.TimerHandle

        def insist() -> None:
            # Again and again: what it awaits may swallow a cancellation.
            nonlocal end_by_force
            self._cut = True
            if self.cell.task is not None:
                self.cell.task.cancel()
            end_by_force = loop.call_later(INSIST_EVERY_SECONDS, insist)

        end_by_force = loop.call_later(within, insist)
        try:
            await over
        finally:
            end_by_force.cancel()

    def settle(self, state: Literal["stopped", "disabled"], why: str = "") -> None:
        """No more incarnations: asks that wait here fail, the rest is dropped, senders who wait for room go on."""
        self.cell.state = state
        self.system.empty_out(self.cell, f"{self.name} is {state}")
        self.cell.close_device()
        if state == "disabled":
            self.system.tell_watchers(self.cell, "disabled", why)

    async def _incarnation(self, up: asyncio.Future[None]) -> None:
        crash: Crash | None = None
        task = self.cell.task
        try:
            actor = await self._begin()
            if not up.done():
                up.set_result(None)
            self._serving = True
            if self.cell.mailbox.in_hand is not None:  # its handling failed, and it is to be tried again
                await self.cell.handle(self.cell.mailbox.in_hand)
                self.cell.mailbox.acknowledge()
            await self._serve(actor)
            await self._say_goodbye(actor)
        except asyncio.CancelledError as caught:
            if not self._cut:
                if task is not None and task.cancelling():
                    raise  # the whole run is torn down from outside
                crash = Crash.of(caught)  # something the handler waited for was cancelled; the handler was not
        except (Exception, SystemExit) as caught:  # noqa: BLE001 - the supervisor is where crashes are caught
            crash = Crash.of(caught)
        finally:
            self.cell.task = None
            if not up.done():
                up.set_result(None)
            if self._over is not None and not self._over.done():
                self._over.set_result(None)
        if crash is not None:
            self._note_crash(crash)
        elif self._in_hand is not None:
            # Cut off with a message in hand: it was not dealt with.
            self.system.dead_letter(self.cell, self._in_hand, "cancelled")
            self.cell.mailbox.acknowledge()
        self.cell.ended()
        how: Ending = "crashed" if crash is not None else "stopped" if self._asked else "finished"
        self.system.tell_watchers(self.cell, how, crash.line if crash is not None else "")
        self.branch.child_ended(Ended(self, crash, self._asked))

    @property
    def _in_hand(self) -> Envelope | None:
        """The message that is being handled; one that waits to be handled again is not, while ``on_start`` runs."""
        return self.cell.mailbox.in_hand if self._serving else None

    async def _begin(self) -> Actor:
        cell, limit = self.cell, self.cell.child.start_within
        what = "the device job of the instance before did not end"
        try:
            async with asyncio.timeout(limit):
                if cell.device_is_made:
                    await cell.quiet_device()
                actor = cell.new_instance()
                what = "on_start did not return"
                await actor.on_start()
        except TimeoutError as late:
            raise StartTimeoutError(f"{self.name}: {what} within {limit:g} s") from late
        cell.running()
        self._up_at = self.system.now()
        if self.system.heard(ActorStarted):
            self.system.publish(ActorStarted(actor=self.name, incarnation=cell.incarnation))
        return actor

    async def _say_goodbye(self, actor: Actor) -> None:
        """``on_stop``, in bounded time also where nobody asked for the end."""
        limit = self.cell.child.stop_within
        try:
            async with asyncio.timeout(None if self._asked else limit):
                await actor.on_stop()
        except TimeoutError as late:
            raise StopTimeoutError(f"{self.name}: on_stop did not return within {limit:g} s") from late

    def _serve(self, actor: Actor) -> Coroutine[Any, Any, None]:
        """Handle message after message until told to stop; while someone probes, all of them with ``Cell.handle``."""
        system = self.system
        handlers = {} if system.probe is not None else functions_of(type(actor))
        return serve(self.cell.desk, system.board, actor, handlers, self)

    async def handle_control(self) -> bool:
        """Deal with what waits in the control lane; ``True`` if it was the order to stop.

        Of messages that beget each other at most so many are dealt with that others are let run in between.
        """
        mailbox = self.cell.mailbox
        for _ in range(BURST):
            if not mailbox.control:
                break
            mailbox.in_hand = envelope = mailbox.control.pop(0)
            if await self.handle_other(envelope):
                return True
        return False

    async def handle_other(self, envelope: Envelope) -> bool:
        """Deal with what is not plain; ``True`` if it was the order to stop, and what was to be drained is drained."""
        cell, mailbox = self.cell, self.cell.mailbox
        if envelope.incarnation not in (0, cell.incarnation):
            self._drop_for_another(envelope)
        elif isinstance(envelope.message, Stop):
            mailbox.acknowledge()
            # Only what waits now: a sender that is stopped later must not keep this one from ending.
            last = mailbox.newest_id if self._draining else 0
            while mailbox.holds(last):
                left = await mailbox.next()
                if left.incarnation not in (0, cell.incarnation):
                    self._drop_for_another(left)
                elif not isinstance(left.message, Stop):
                    await cell.handle(left)
                mailbox.acknowledge()
            return True
        else:
            await cell.handle(envelope)
        mailbox.acknowledge()
        return False

    def _drop_for_another(self, envelope: Envelope) -> None:
        cell = self.cell
        cell.record("dropped", envelope.id, envelope.cause, envelope.sender, cell.name, "for another")

    def _note_crash(self, crash: Crash) -> None:
        """Settle the message in hand by the child's policy, count the crash, tell the observers."""
        cell, backoff = self.cell, self.cell.child.backoff
        envelope = self._in_hand
        now = self.system.now()
        if self._up_at is not None and now - self._up_at > backoff.healthy:
            self.streak = 0
        self.streak += 1
        if envelope is None or envelope.attempt == 0:
            # A second crash over one redelivered message is the same trouble: it is not charged twice.
            self.crashes = (*self.crashes, now)
        chain: tuple[str, ...] = ()
        kind = ""
        if envelope is None:
            cell.record("crashed", 0, 0, cell.name, cell.name, "", body=crash.line)
        else:
            kind = type(envelope.message).__name__
            chain = self.system.trace.cause_chain(envelope.id)
            cell.record_of("crashed", envelope, attempt=envelope.attempt, body=crash.line)
            self._settle_message(crash)
        if crash.for_a_person is not None:
            return  # not the actor's fault: it is told once, as the mistake that it is, by whoever answers this end
        over = f"over {kind}" if kind else "in on_start or on_stop"
        self.last_words = f"{over} ({crash.line}); cause chain: {' <- '.join(chain) or 'its own start or stop'}"
        news = ActorCrashed(
            actor=cell.name,
            incarnation=cell.incarnation,
            message_type=kind,
            why=crash.why,
            cause_chain=chain,
            restart_in_s=round(self.delay(), 3),
        )
        # An observer that crashed over such news would otherwise be fed the next one by its own crash, for ever.
        self.system.publish(news, but_not=cell if kind == "ActorCrashed" else None)

    def _settle_message(self, crash: Crash) -> None:
        envelope, policy = self.cell.mailbox.in_hand, self.cell.child.on_crash
        assert envelope is not None, "only called for a message in hand"
        repeatable = not envelope.asks and envelope.incarnation == 0
        if repeatable and isinstance(policy, Retry) and envelope.attempt < policy.times:
            envelope.attempt += 1
        else:
            self.system.dead_letter(self.cell, envelope, crash.why)
            self.cell.mailbox.acknowledge()

    def delay(self) -> float:
        """The back-off before the next start, with this crash's seeded jitter."""
        backoff = self.cell.child.backoff
        delay = min(backoff.most, backoff.first * 2.0 ** min(64, max(1, self.streak) - 1))
        return delay * self.system.jitter(self.name, self.cell.incarnation)

    def exhausted(self) -> bool:
        """More crashes than the intensity allows within the period?"""
        now = self.system.now()
        self.crashes = tuple(at for at in self.crashes if now - at <= self.cell.child.period)
        return len(self.crashes) > self.cell.child.intensity
