"""The actor system: it routes messages by type, answers asks, keeps the wait-for graph and runs the tree.

Guarantees:
    * Between one sender and one receiver messages of a lane keep their order.
    * A message is handled to its end before the next of the same actor begins.
    * Nobody waits in a circle: the send or ask that would close one raises ``WaitCycle``, in a sentence, at once.
    * What a crash left unhandled is a dead letter with its cause chain; a storm of one kind is counted, not repeated.
Knows nothing of training.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

import anyio
import anyio.abc
import msgspec

from messages import ActorStuck, Message, MessageDeadLettered, MessagesDropped, Question
from runtime.actor import Handler
from runtime.cell import ActorDescription, Cell, Stop
from runtime.cloakroom import Cloakroom
from runtime.clock import Clock
from runtime.disk import DiskPort
from runtime.mailbox import Envelope
from runtime.supervisor import BranchRunner
from runtime.supervisor import GaveUp as GaveUp
from runtime.topology import check_topology
from runtime.trace import Trace
from runtime.tree import Branch
from runtime.worker import Device, Workers

R = TypeVar("R")

STORM_AFTER = 5
"""Dead letters of one kind at one actor told one by one; after that they are counted and told once a minute."""
DEAD_LETTERS_KEPT = 1000
STORM_TOLD_EVERY_SECONDS = 60.0
STUCK_LOOK_SECONDS = 60.0
WALL_NOTED_EVERY_SECONDS = 600.0
"""How often the trace is told the wall time although nothing set it: so that each of its files knows it."""
WALL_DRIFT_SECONDS = 0.5


class AskFailed(Exception):
    """The asked actor crashed over the question, or is stopped."""


class AskTimeout(AskFailed):
    """No answer came in time."""


class WaitCycle(RuntimeError):
    """Two or more actors would wait for each other for ever; the text names them in order."""


class Delivery(Protocol):
    """How an envelope travels into a mailbox; the simulation adds seeded delays here."""

    def carry(self, cell: Cell, envelope: Envelope) -> None:
        """Put ``envelope`` into the cell's mailbox, now or later, in order per sender."""


class Probe(Protocol):
    """Sees every handling. What it raises is raised in the receiver's place, as if its handler had."""

    def __call__(self, actor: str, envelope: Envelope, moment: Literal["before", "after"]) -> None:
        """``before``: nothing of the message is done yet. ``after``: all is done, and not yet acknowledged."""


class DirectDelivery:
    """At once."""

    def carry(self, cell: Cell, envelope: Envelope) -> None:
        cell.mailbox.put(envelope)


class DeadLetterNote(msgspec.Struct, frozen=True):
    """A message nobody will handle, kept in memory for whoever asks."""

    at: float
    actor: str
    message: Message
    why: str
    cause_chain: tuple[str, ...]


class ActorSystem:
    """Build it with a tree, then ``await run()``; ``stop()`` ends it in order.

    Args:
        tree: who lives here, in start order.
        strict: refuse a tree in which something sent is heard by nobody. Parts of a tree, in tests, are not strict.
        seed: for the jitter of restarts; the same seed restarts at the same moments.
        probe: asked before and after each handling; the simulation's door for crashes at any message.

    Raises:
        HandlerError, TopologyError: the tree cannot work; see ``runtime.topology``.
    """

    def __init__(
        self,
        tree: Branch,
        *,
        clock: Clock,
        disk: DiskPort,
        workers: Workers,
        make_device: Callable[[str], Device],
        delivery: Delivery | None = None,
        seed: int = 0,
        strict: bool = True,
        stuck_after_seconds: float = 900.0,
        probe: Probe | None = None,
    ) -> None:
        self.clock = clock
        self.probe = probe
        self.disk = disk
        self.workers = workers
        self.make_device = make_device
        self.cloakroom = Cloakroom()
        self.trace = Trace()
        self.dead_letters: list[DeadLetterNote] = []
        self.stop_reason = ""
        self._delivery = delivery or DirectDelivery()
        self._seed = seed
        self._stuck_after = stuck_after_seconds
        self._root = BranchRunner(self, tree, None)
        self.cells: dict[str, Cell] = {cell.name: cell for cell in self._root.cells()}
        self._routes: dict[type[Message], list[tuple[Cell, Handler]]] = {}
        for cell in self.cells.values():
            for message_type, handler in cell.handlers.items():
                self._routes.setdefault(message_type, []).append((cell, handler))
        check_topology(tree, strict=strict)
        self._count = 0
        self._waits: dict[str, list[tuple[str, str]]] = {}
        self._storms: dict[tuple[str, str], tuple[int, float, int]] = {}
        self._stuck_told: dict[tuple[str, str], float] = {}
        self._look_handle: asyncio.TimerHandle | None = None
        self._wall_noted: tuple[float, datetime] | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._failure: Exception | None = None

    # Running.

    async def run(self) -> None:
        """Start the tree, run until ``stop`` or until it gives up, stop it in order.

        Raises:
            OperatorError: an actor met something that only a person can mend.
            GaveUp: a failure escalated past the root.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._note_wall()
            self._look_again()
            try:
                await self._root.start()
                await self._stop.wait()
                self._tell_held(at_least_seconds=0.0)
                await self._root.stop()
            finally:
                if self._look_handle is not None:
                    self._look_handle.cancel()
                for cell in self.cells.values():
                    cell.abandon()
        if self._failure is not None:
            raise self._failure

    @property
    def stopping(self) -> bool:
        """Has ``stop`` been called?"""
        return self._stop.is_set()

    def stop(self, why: str) -> None:
        """Begin an orderly stop. Calling it again changes nothing."""
        if not self._stop.is_set():
            self.stop_reason = why
            self._stop.set()

    def give_up(self, failure: Exception) -> None:
        """The root branch failed: ``run`` raises this once everything has stopped."""
        self._failure = failure
        self.stop("gave up")

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a task of the runtime's own under the system's task group."""
        assert self._tasks is not None, "the system is not running"

        async def run() -> None:
            await coroutine

        self._tasks.start_soon(run)

    # Messages.

    async def deliver(self, sender: str, cause: int, message: Message) -> None:
        """Hand ``message`` to every actor that handles its type, waiting where a mailbox is full."""
        for cell, handler in self._routes.get(type(message), ()):
            if self._refuses(cell, handler, message):
                if cell.mailbox.spec.overflow == "dead_letter":
                    self._overflowed(cell, sender, cause, message)
                    continue
                await self._wait_for_room(sender, cell, message)
            self.put(cell, sender, cause, message, control=handler.control)

    def publish(self, message: Message, *, but_not: Cell | None = None) -> None:
        """The runtime's own news, to whoever listens; never waits."""
        for cell, handler in self._routes.get(type(message), ()):
            if cell is but_not:
                continue
            if self._refuses(cell, handler, message) and cell.mailbox.spec.overflow == "dead_letter":
                self._overflowed(cell, "supervisor", 0, message)
            else:
                self.put(cell, "supervisor", 0, message, control=handler.control)

    @staticmethod
    def _refuses(cell: Cell, handler: Handler, message: Message) -> bool:
        mailbox = cell.mailbox
        return (
            mailbox.full
            and not handler.control
            and not isinstance(message, mailbox.spec.latest)
            and cell.state not in ("stopped", "disabled")
        )

    def put(
        self,
        cell: Cell,
        sender: str,
        cause: int,
        message: Message,
        *,
        control: bool = False,
        reply: asyncio.Future[Any] | None = None,
        incarnation: int = 0,
    ) -> None:
        """One delivery into one mailbox, whatever its bound; ``incarnation``: the only one it is meant for."""
        self._count += 1
        number = self._count
        now = self.clock.monotonic()
        if cell.state in ("stopped", "disabled"):
            cell.record("dropped", number, cause, sender, cell.name, type(message).__name__, body=message)
            if reply is not None:
                reply.set_exception(AskFailed(f"{cell.name} is {cell.state}"))
            return
        cell.record("sent", number, cause, sender, cell.name, type(message).__name__, body=message)
        envelope = Envelope(
            number, cause, sender, message, now, control=control, incarnation=incarnation, reply=reply
        )  # fmt: skip
        self._delivery.carry(cell, envelope)

    async def ask(self, question: Question[R], *, timeout: float) -> R:
        """Ask from outside the tree."""
        return await self.ask_from("outside", 0, question, timeout)

    async def send(self, message: Message) -> None:
        """Send from outside the tree."""
        await self.deliver("outside", 0, message)

    async def ask_from(self, sender: str, cause: int, question: Question[R], timeout: float) -> R:
        routes = self._routes.get(type(question), ())
        if len(routes) != 1:
            names = ", ".join(cell.name for cell, _ in routes) or "nobody"
            raise AskFailed(f"{type(question).__name__} is answered by {names}; an ask needs exactly one")
        cell, handler = routes[0]
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[R] = loop.create_future()

        def expire() -> None:
            if not reply.done():
                reply.set_exception(
                    AskTimeout(f"{cell.name} did not answer {type(question).__name__} within {timeout:g} s")
                )

        wait = self._begin_wait(sender, cell.name, f"asks {type(question).__name__} of")
        timer = loop.call_later(timeout, expire)
        try:
            self.put(cell, sender, cause, question, control=handler.control, reply=reply)
            return await reply
        finally:
            timer.cancel()
            self._end_wait(sender, wait)

    async def _wait_for_room(self, sender: str, cell: Cell, message: Message) -> None:
        wait = self._begin_wait(sender, cell.name, f"waits to send {type(message).__name__} into the full mailbox of")
        try:
            await cell.mailbox.room()
        finally:
            self._end_wait(sender, wait)

    def _begin_wait(self, sender: str, recipient: str, words: str) -> tuple[str, str]:
        """Add the edge sender -> recipient, or raise if it closes a circle. Only actors can be part of one.

        An actor may wait for several at once (a handler may open a task group), so each has a list of edges.
        """
        wait = (words, recipient)
        if sender in self.cells:
            back = self._way(recipient, sender)
            if back is not None:
                raise WaitCycle("; ".join([f"{sender} {words} {recipient}", *back]))
            self._waits.setdefault(sender, []).append(wait)
            self.cells[sender].waiting_on = recipient
        return wait

    def _way(self, waiter: str, goal: str) -> list[str] | None:
        """How ``waiter`` waits, perhaps over others, for ``goal``; ``None`` if it does not."""
        if waiter == goal:
            return []
        for words, recipient in self._waits.get(waiter, ()):
            rest = self._way(recipient, goal)
            if rest is not None:
                return [f"{waiter} {words} {recipient}", *rest]
        return None

    def _end_wait(self, sender: str, wait: tuple[str, str]) -> None:
        if sender not in self.cells:
            return
        left = self._waits[sender]
        left.remove(wait)
        if not left:
            del self._waits[sender]
        self.cells[sender].waiting_on = left[-1][1] if left else ""

    # What is not handled.

    def dead_letter(self, cell: Cell, envelope: Envelope, why: str) -> None:
        """Set a message aside for good and tell the observers, once for each of the first few of a kind."""
        kind = type(envelope.message).__name__
        cell.dead_letters += 1
        cell.record("dead", envelope.id, envelope.cause, envelope.sender, cell.name, kind, envelope.attempt)
        if envelope.reply is not None and not envelope.reply.done():
            cell.record("failed", envelope.id, envelope.id, cell.name, envelope.sender, kind)
            last_line = why.strip().rsplit("\n", 1)[-1]
            envelope.reply.set_exception(AskFailed(f"{cell.name} crashed over {kind}: {last_line}"))
            return
        note = DeadLetterNote(
            self.clock.monotonic(), cell.name, envelope.message, why, self.trace.cause_chain(envelope.id)
        )
        self.dead_letters.append(note)
        del self.dead_letters[:-DEAD_LETTERS_KEPT]
        if isinstance(envelope.message, MessageDeadLettered | MessagesDropped):
            return  # telling of it would only make the next one
        self._tell_collapsed(cell, kind, why)

    def _tell_collapsed(self, cell: Cell, kind: str, why: str) -> None:
        now = self.clock.monotonic()
        told, last, held = self._storms.get((cell.name, kind), (0, now, 0))
        if told < STORM_AFTER or now - last > STORM_TOLD_EVERY_SECONDS:
            self._storms[(cell.name, kind)] = (told + 1, now, 0)
            self.publish(MessageDeadLettered(actor=cell.name, message_type=kind, why=why, count=held + 1))
        else:
            self._storms[(cell.name, kind)] = (told, last, held + 1)

    def _tell_held(self, *, at_least_seconds: float) -> None:
        """Tell of those dead letters that were counted only, where the last word is old enough."""
        now = self.clock.monotonic()
        for (actor, kind), (told, last, held) in list(self._storms.items()):
            if held and now - last >= at_least_seconds:
                self._storms[(actor, kind)] = (told, now, 0)
                self.publish(MessageDeadLettered(actor=actor, message_type=kind, why="more of the same", count=held))

    def _overflowed(self, cell: Cell, sender: str, cause: int, message: Message) -> None:
        cell.dropped += 1
        cell.record("dropped", 0, cause, sender, cell.name, type(message).__name__, body=message)
        power_of_two = cell.dropped & (cell.dropped - 1) == 0
        if power_of_two and not isinstance(message, MessagesDropped):
            self.publish(MessagesDropped(actor=cell.name, count=cell.dropped))

    def empty_out(self, cell: Cell, why: str) -> None:
        """The cell is done: fail the asks that wait in it or are on their way, note the rest as dropped."""

        def refuse(envelope: Envelope) -> None:
            if isinstance(envelope.message, Stop):
                return
            kind = type(envelope.message).__name__
            cell.record("dropped", envelope.id, envelope.cause, envelope.sender, cell.name, kind)
            if envelope.reply is not None and not envelope.reply.done():
                envelope.reply.set_exception(AskFailed(why))

        for envelope in cell.mailbox.close(refuse):
            refuse(envelope)

    # Looking in.

    def describe(self) -> Sequence[ActorDescription]:
        """Every actor's state, in start order."""
        return [cell.describe() for cell in self.cells.values()]

    def jitter(self, name: str, incarnation: int) -> float:
        """A factor of 0.5 to 1, the same for the same seed, place and incarnation."""
        digest = hashlib.blake2b(f"{self._seed}/{name}/{incarnation}".encode(), digest_size=4).digest()
        return 0.5 + int.from_bytes(digest) / 2**33

    def _look_for_stuck(self) -> None:
        """A handler or device job that takes very long is told once; the loop itself is watched from its own thread."""
        now = self.clock.monotonic()
        for cell in self.cells.values():
            in_hand = cell.mailbox.in_hand
            for what, seconds in (
                (
                    type(in_hand.message).__name__ if in_hand else "",
                    now - cell.begun_at if cell.begun_at is not None else 0.0,
                ),
                ("device job", cell.device_busy_seconds),
            ):
                if seconds > self._stuck_after and self._is_news((cell.name, what), now - seconds):
                    waits = f", waiting on {cell.waiting_on}" if cell.waiting_on else ""
                    self.publish(ActorStuck(actor=cell.name, seconds=seconds, stack=f"in {what}{waits}"))

    def _is_news(self, what: tuple[str, str], began: float) -> bool:
        """Once for each handling and each job, which is known by when it began (the device has a clock of its own)."""
        if abs(self._stuck_told.get(what, -1e9) - began) < 1.0:
            return False
        self._stuck_told[what] = began
        return True

    def _look_again(self) -> None:
        self._look_handle = asyncio.get_running_loop().call_later(STUCK_LOOK_SECONDS, self._look)

    def _note_wall(self) -> None:
        """Put the wall time on the trace, unless a reader can reckon it from the last time it was put there."""
        at, now = self.clock.monotonic(), self.clock.now()
        if self._wall_noted is not None:
            noted_at, noted = self._wall_noted
            drift = (now.replace(tzinfo=None) - noted.replace(tzinfo=None)).total_seconds() - (at - noted_at)
            if abs(drift) < WALL_DRIFT_SECONDS and at - noted_at < WALL_NOTED_EVERY_SECONDS:
                return
        self._wall_noted = (at, now)
        self.trace.add(at, "clock", 0, 0, "clock", "clock", "datetime", body=now.isoformat())

    def _look(self) -> None:
        self._note_wall()
        self._look_for_stuck()
        self._tell_held(at_least_seconds=STORM_TOLD_EVERY_SECONDS)
        self._look_again()
