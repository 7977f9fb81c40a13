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
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from messages import ActorEnded, ActorStuck, Message, MessageDeadLettered, MessagesDropped, Question
from messages.message import subject_of
from messages.supervision import Ending
from runtime.actor import Handler, HandlerError
from runtime.cell import ActorDescription, Cell, Stop
from runtime.cloakroom import Cloakroom
from runtime.clock import Clock
from runtime.disk import DiskPort
from runtime.errors import AskFailed
from runtime.hot.desk import IDLE, Wait
from runtime.hot.envelope import Envelope
from runtime.hot.switchboard import Answerer, Switchboard, fail
from runtime.stacks import where_it_waits
from runtime.supervisor import BranchRunner
from runtime.supervisor import GaveUp as GaveUp
from runtime.topology import check_topology
from runtime.trace import Trace, raised
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


@types.coroutine
def _over_at_once() -> Generator[None, None, None]:
    return
    yield


_SENT = _over_at_once()
"""What a send gives that did not have to wait. A generator that has ended can be awaited for ever, and gives nothing at
once: nothing that can be awaited costs less, and nearly every message is sent so."""
for _ in _SENT:
    raise AssertionError("it has no steps")


class Delivery(Protocol):
    """How an envelope travels into a mailbox; the simulation adds seeded delays here."""

    def carry(self, cell: Cell, envelope: Envelope) -> None:
        """Have ``envelope`` arrive in the cell's mailbox (``Mailbox.arrive``), later, in order per sender and lane."""


class Probe(Protocol):
    """Sees every handling. What it raises is raised in the receiver's place, as if its handler had."""

    def __call__(self, actor: str, envelope: Envelope, moment: Literal["before", "after"]) -> None:
        """``before``: nothing of the message is done yet. ``after``: all is done, and not yet acknowledged."""


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
        delivery: how messages travel; ``None`` is at once.
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
        self.delivery = delivery
        self.now = clock.monotonic
        self.board = Switchboard(self, self.trace.ring, self.now, _SENT)
        self._seed = seed
        self._stuck_after = stuck_after_seconds
        self._root = BranchRunner(self, tree, None)
        self.cells: dict[str, Cell] = {cell.name: cell for cell in self._root.cells()}
        self._routes: dict[type[Message], list[tuple[Cell, Handler]]] = {}
        for cell in self.cells.values():
            for message_type, handler in cell.handlers.items():
                self._routes.setdefault(message_type, []).append((cell, handler))
        for kind, routes in self._routes.items():
            plain = not any(handler.control or issubclass(kind, cell.mailbox.spec.latest) for cell, handler in routes)
            if plain:
                self.board.receivers[kind] = tuple(cell.mailbox for cell, _ in routes)
            if len(routes) == 1:
                cell, handler = routes[0]
                self.board.answerers[kind] = Answerer(cell.desk, control=handler.control, plain=plain)
        check_topology(tree, strict=strict)
        self._storms: dict[tuple[str, str], tuple[int, float, int]] = {}
        self._stuck_told: dict[tuple[str, str], float] = {}
        self._look_handle: asyncio.TimerHandle | None = None
        self._wall_noted: tuple[float, datetime] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._failure: Exception | None = None

    # Running.

    async def run(self) -> None:
        """Start the tree, run until ``stop`` or until it gives up, stop it in order.

        Raises:
            OperatorError: an actor met something that only a person can mend.
            GaveUp: a failure escalated past the root.
        """
        self.board.open(asyncio.get_running_loop())
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._note_wall()
            self._look_again()
            try:
                await self._root.start()
                await self._stop.wait()
                self._tell_held(at_least_seconds=0.0)
                await self._root.stop()
            finally:
                self.board.close()
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

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a task of the runtime's own under the system's task group."""
        assert self._tasks is not None, "the system is not running"
        return self._tasks.create_task(coroutine, name=name)

    def disable(self, name: str, why: str) -> bool:
        """End a child of an isolated branch at once and for good, and tell it; ``False`` if it is no such child."""
        return self._root.disable(name, why)

    # Messages.

    async def deliver(self, sender: str, cause: int, message: Message) -> None:
        """Hand ``message`` to every actor that handles its type, waiting where a mailbox is full."""
        await self.deliver_to([cell.name for cell, _ in self._routes.get(type(message), ())], sender, cause, message)

    async def deliver_to(self, names: Sequence[str], sender: str, cause: int, message: Message) -> None:
        """Hand ``message`` to these, in order."""
        for name in names:
            cell = self.cells[name]
            handler = cell.handlers[type(message)]
            if self._refuses(cell, handler, message):
                if cell.mailbox.spec.overflow == "dead_letter":
                    self._overflowed(cell, sender, cause, message)
                    continue
                await self._wait_for_room(sender, cell, message)
            self.put(cell, sender, cause, message, control=handler.control)

    def heard(self, kind: type[Message]) -> bool:
        """Does anyone handle this type?"""
        return kind in self._routes

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
        asked: Wait | None = None,
        incarnation: int = 0,
    ) -> int:
        """One delivery into one mailbox, whatever its bound; ``incarnation``: the only one it is meant for.

        Returns its id.
        """
        board = self.board
        number = board.ring.next_id()
        if cell.state in ("stopped", "disabled"):
            cell.record("dropped", number, cause, sender, cell.name, type(message).__name__, body=message)
            if asked is not None:
                fail(asked, AskFailed(f"{cell.name} is {cell.state}"))
            return number
        if asked is not None:
            board.asked[number] = asked
        mailbox = cell.mailbox
        envelope = Envelope(
            number, cause, sender, cell.name, message, self.now(), mailbox.waiting,
            control=control, incarnation=incarnation, asks=asked is not None,
        )  # fmt: skip
        board.ring.entries.append(envelope)
        if self.delivery is None:
            mailbox.put(envelope)
        else:
            if not control:
                mailbox.travel()
            self.delivery.carry(cell, envelope)
        return number

    async def ask(self, question: Question[R], *, timeout: float) -> R:
        """Ask from outside the tree."""
        answer: R = await self.board.ask(None, question, timeout=timeout)
        return answer

    async def send(self, message: Message) -> None:
        """Send from outside the tree."""
        await self.deliver("outside", 0, message)

    # What the switchboard leaves to the system.

    def put_question(self, to: str, sender: str, cause: int, question: Message, control: bool, asked: Wait) -> int:
        """Put what is asked of ``to``; returns the delivery's id."""
        return self.put(self.cells[to], sender, cause, question, control=control, asked=asked)

    def why_unanswered(self, kind: type[Message]) -> str:
        """Why nobody can be asked this."""
        names = ", ".join(cell.name for cell, _ in self._routes.get(kind, ())) or "nobody"
        return f"{kind.__name__} is answered by {names}; an ask needs exactly one"

    def ask_failed(self, asker: str, cause: int, kind: str, error: Exception) -> None:
        """Put into the trace what an ask raised."""
        self.cells[asker].record("failed", 0, cause, asker, asker, kind, body=raised(error))

    async def _wait_for_room(self, sender: str, cell: Cell, message: Message) -> None:
        waiter = self.cells.get(sender)
        wait = Wait("waits to send {} into the full mailbox of {}", type(message).__name__, cell.desk)
        if waiter is not None:
            waiter.desk.begin_wait(wait)
        try:
            await cell.mailbox.room()
        finally:
            if waiter is not None:
                waiter.desk.end_wait(wait)

    # Who watches whom.

    def watch(self, watcher: Cell, name: str) -> None:
        """Tell the watcher's present incarnation of every end of ``name``; at once, if it is gone already.

        Raises:
            HandlerError: the watcher has no handler for ``ActorEnded``.
            LookupError: nobody is called so.
        """
        if ActorEnded not in watcher.handlers:
            raise HandlerError(f"{watcher.name} watches {name!r} and has no handler for ActorEnded")
        watched = self.cells.get(name)
        if watched is None:
            raise LookupError(f"nobody is called {name!r}; there are: {', '.join(self.cells)}")
        watched.watchers = {**(watched.watchers or {}), watcher.name: watcher.incarnation}
        if watched.state in ("stopped", "disabled"):
            self._tell_watcher(watched, watcher.name, ActorEnded(name, watched.incarnation, watched.state))

    def tell_watchers(self, cell: Cell, how: Ending, why: str) -> None:
        """An instance of ``cell`` has ended."""
        for name in cell.watchers or ():
            self._tell_watcher(cell, name, ActorEnded(cell.name, cell.incarnation, how, why))

    def _tell_watcher(self, watched: Cell, name: str, news: ActorEnded) -> None:
        watcher = self.cells[name]
        incarnation = (watched.watchers or {})[name]
        if (
            incarnation == watcher.incarnation and watcher.instance is not None
        ):  # it did not watch in a life that is over
            self.put(watcher, "supervisor", 0, news, control=True, incarnation=incarnation)

    # What is not handled.

    def dead_letter(self, cell: Cell, envelope: Envelope, why: str) -> None:
        """Set a message aside for good and tell the observers, once for each of the first few of a kind."""
        kind = type(envelope.message).__name__
        cell.dead_letters += 1
        cell.record_of("dead", envelope, attempt=envelope.attempt)
        last_line = why.strip().rsplit("\n", 1)[-1]
        if self.board.fail(envelope.id, AskFailed(f"{cell.name} crashed over {kind}: {last_line}")):
            cell.record("failed", envelope.id, envelope.id, cell.name, envelope.sender, kind)
            return
        note = DeadLetterNote(self.now(), cell.name, envelope.message, why, self.trace.cause_chain(envelope.id))
        self.dead_letters.append(note)
        del self.dead_letters[:-DEAD_LETTERS_KEPT]
        if isinstance(envelope.message, MessageDeadLettered | MessagesDropped):
            return  # telling of it would only make the next one
        self._tell_collapsed(cell, kind, why, subject_of(envelope.message))

    def _tell_collapsed(self, cell: Cell, kind: str, why: str, subject: str) -> None:
        now = self.now()
        told, last, held = self._storms.get((cell.name, kind), (0, now, 0))
        if told < STORM_AFTER or now - last > STORM_TOLD_EVERY_SECONDS:
            self._storms[(cell.name, kind)] = (told + 1, now, 0)
            about = "" if held else subject
            self.publish(MessageDeadLettered(cell.name, kind, why, count=held + 1, subject=about))
        else:
            self._storms[(cell.name, kind)] = (told, last, held + 1)

    def _tell_held(self, *, at_least_seconds: float) -> None:
        """Tell of those dead letters that were counted only, where the last word is old enough."""
        now = self.now()
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
            cell.record_of("dropped", envelope)
            self.board.fail(envelope.id, AskFailed(why))

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
        now = self.now()
        for cell in self.cells.values():
            desk = cell.desk
            if desk.begun_at != IDLE and now - desk.begun_at > self._stuck_after:
                seconds = now - desk.begun_at
                in_hand = cell.mailbox.in_hand
                what = type(in_hand.message).__name__ if in_hand is not None else ""
                if self._is_news((cell.name, what), now - seconds):
                    waits = f", waiting for {cell.waiting_on}" if cell.waiting_on else ""
                    at = f"\n{where_it_waits(desk.handling)}" if desk.handling is not None else ""
                    self.publish(ActorStuck(actor=cell.name, seconds=seconds, stack=f"in {what}{waits}{at}"))
            seconds = cell.device_busy_seconds
            if seconds > self._stuck_after and self._is_news((cell.name, "device job"), now - seconds):
                at = cell.device.stack()
                self.publish(ActorStuck(actor=cell.name, seconds=seconds, stack=f"in a device job\n{at}".rstrip()))

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
        at, now = self.now(), self.clock.now()
        shown = now.replace(tzinfo=None)
        if self._wall_noted is not None:
            noted_at, noted = self._wall_noted
            drift = (shown - noted).total_seconds() - (at - noted_at)
            if abs(drift) < WALL_DRIFT_SECONDS and at - noted_at < WALL_NOTED_EVERY_SECONDS:
                return
        self._wall_noted = (at, shown)
        self.trace.add(at, "clock", 0, 0, "clock", "clock", "datetime", body=now.isoformat())

    def _look(self) -> None:
        self._note_wall()
        self._look_for_stuck()
        self._tell_held(at_least_seconds=STORM_TOLD_EVERY_SECONDS)
        self._look_again()
