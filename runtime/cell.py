"""A place in the tree: it outlives every instance of the actor that works in it.

The cell owns the mailbox, the counters, the device thread and the wiring; an actor instance only leases them. Names
and routes lead to the cell, so a message sent across a restart reaches the instance that comes after.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from messages import Message, Question
from runtime.actor import Actor, HandlerError, Tick, handlers_of, timers_of
from runtime.hot.desk import IDLE, Desk
from runtime.hot.envelope import Envelope, Turn
from runtime.hot.mailbox import Mailbox
from runtime.hot.serving import sender
from runtime.timers import Timers
from runtime.trace import Kind, kept, raised
from runtime.tree import Child

if TYPE_CHECKING:
    from runtime.system import ActorSystem
    from runtime.worker import Device

R = TypeVar("R")
T = TypeVar("T")

State = Literal["new", "starting", "running", "stopping", "backing_off", "stopped", "disabled"]


class Stop(Message, frozen=True):
    """Finish the message in hand and end; sent by the supervisor alone."""


class DeviceRaised(Message, frozen=True):
    """The actor's device job raised; handling this raises it again in the actor's place."""

    why: str


class DeviceJobError(RuntimeError):
    """A device job raised; the text holds its traceback."""


class ActorDescription(msgspec.Struct, frozen=True):
    """One line of ``nightfold ps``. ``busy_share`` since the start; ``waiting_on`` names who it is blocked by."""

    name: str
    state: State
    incarnation: int
    restarts: int
    depth: int
    capacity: int
    handled: int
    dead_letters: int
    dropped: int
    busy_share: float
    oldest_waiting_s: float
    in_hand: str
    in_hand_s: float
    last_message: str
    waiting_on: str


class Cell:
    """See the module. Everything an ``Actor`` method does ends here."""

    __slots__ = (
        "_device",
        "_timers",
        "child",
        "dead_letters",
        "desk",
        "dropped",
        "first_started_at",
        "handlers",
        "incarnation",
        "instance",
        "mailbox",
        "name",
        "restarts",
        "state",
        "system",
        "task",
        "timers",
        "watchers",
    )

    def __init__(self, system: ActorSystem, child: Child) -> None:
        self.system = system
        self.child = child
        self.name = child.name
        self.mailbox = Mailbox(child.mailbox, child.name, direct=system.delivery is None)
        self.desk = Desk(self.mailbox)
        self.handlers = handlers_of(child.actor)
        self.timers = timers_of(child.actor)
        for field in (timer.every if timer.daily is None else timer.daily for timer in self.timers):
            if isinstance(field, str) and child.settings is not None and not hasattr(child.settings, field):
                raise HandlerError(f"{child.actor.__name__}: the settings have no {field!r}, which a timer names")
        self.state: State = "new"
        self.instance: Actor | None = None
        self.task: asyncio.Task[None] | None = None
        self.incarnation = 0
        self.restarts = 0
        self.dead_letters = 0
        self.dropped = 0
        self.first_started_at: float | None = None
        # What most actors never need is made when it is needed first: there may be tens of thousands of them.
        self.watchers: dict[str, int] | None = None
        self._device: Device | None = None
        self._timers = Timers(self) if self.timers else None

    # An incarnation's life, driven by the supervisor.

    def new_instance(self) -> Actor:
        """A fresh instance, wired to this cell."""
        self.incarnation += 1
        instance = self.child.build()
        instance._cell = self
        if self.child.settings is not None:
            instance.settings = self.child.settings
        self.instance = instance
        self.state = "starting"
        if self.first_started_at is None:
            self.first_started_at = self.system.now()
        return instance

    def running(self) -> None:
        """``on_start`` has returned: timers begin to run."""
        self.state = "running"
        self.record("started", 0, 0, self.name, self.name, type(self.instance).__name__, attempt=self.incarnation)
        if self._timers is not None:
            self._timers.start(self.timers)

    def ended(self) -> None:
        """The incarnation is over, however: no timer of it fires again."""
        if self._timers is not None:
            self._timers.stop()
        if self.state != "stopping":
            self.state = "backing_off"
        self.instance = None
        self.desk.rest(self.system.now())
        self.desk.waits = ()
        self.record("stopped", 0, 0, self.name, self.name, self.child.actor.__name__, attempt=self.incarnation)

    def abandon(self) -> None:
        """The system is gone, perhaps torn down from outside: leave no timer and no thread behind."""
        if self._timers is not None:
            self._timers.stop()
        self.instance = None
        if self.state not in ("stopped", "disabled"):
            self.close_device()

    async def quiet_device(self) -> None:
        """Wait until no job of an earlier incarnation is on the device."""
        if self._device is not None:
            self._device.interrupt()
            await self._device.join()

    async def handle(self, envelope: Envelope) -> None:
        """Run the handler for one leased message, whatever it is, and answer if it was asked."""
        instance = self.instance
        assert instance is not None, "a cell without an instance leases nothing"
        system, desk, message = self.system, self.desk, envelope.message
        desk.last_message = type(message).__name__
        desk.begun_at = began = system.now()
        if envelope.attempt:
            self.record_of("begun", envelope, attempt=envelope.attempt)
        else:
            system.trace.ring.entries.append(Turn(began, None, envelope))
        try:
            if system.probe is not None:
                system.probe(self.name, envelope, "before")
            match message:
                case Tick(timer=timer, day=None):
                    handling = getattr(instance, timer)()
                case Tick(timer=timer, day=day):
                    handling = getattr(instance, timer)(day)
                case DeviceRaised(why=why):
                    raise DeviceJobError(why)
                case _:
                    handler = self.handlers.get(type(message))
                    if handler is None:
                        raise HandlerError(f"{self.name} has no handler for {type(message).__name__}")
                    handling = getattr(instance, handler.method)(message)
            desk.handling = handling
            answer = await handling
            if system.probe is not None:
                system.probe(self.name, envelope, "after")
        finally:
            desk.begun_at, desk.handling = IDLE, None
        desk.handled += 1
        ended = system.now()
        system.trace.ring.entries.append(Turn(ended, envelope, None))
        if envelope.asks:
            system.board.answer(ended, envelope, answer)

    # What an actor may do.

    @property
    def current_id(self) -> int:
        """The id of the delivery in hand: the cause of whatever is sent now."""
        return self.desk.current_id

    def send(self, message: Message) -> Awaitable[None]:
        if self.instance is not None and type(self.instance).send is Actor.send:
            # From the second message on the instance has a sender of its own, with what this one looks up bound to it.
            self.instance.send = sender(self.system.board, self.mailbox)  # type: ignore[assignment,method-assign]
        return self.system.deliver(self.name, self.current_id, message)

    def post(self, message: Message) -> None:
        self._put_own(message, self.current_id)

    def ask(self, question: Question[R], timeout: float) -> Coroutine[Any, Any, R]:
        if self.instance is not None and type(self.instance).ask is Actor.ask:
            self.instance.ask = functools.partial(self.system.board.ask, self.desk)  # type: ignore[method-assign]
        return self.system.board.ask(self.desk, question, timeout=timeout)

    def watch(self, name: str) -> None:
        self.system.watch(self, name)

    async def blocking(self, job: Callable[[], T]) -> T:
        return await self._recorded("job", self.system.workers.call(job))

    async def _recorded(self, kind: Literal["job", "device"], outcome: Awaitable[T]) -> T:
        """Wait for a job's outcome and put it into the trace, be it a result or what it raised."""
        cause = self.current_id
        try:
            result = await outcome
        except Exception as error:
            self.record(kind, cause, cause, self.name, self.name, type(error).__name__, body=raised(error))
            raise
        self.record(kind, cause, cause, self.name, self.name, type(result).__name__, body=kept(result))
        return result

    @property
    def device_is_made(self) -> bool:
        """Was the device ever asked for?"""
        return self._device is not None

    @property
    def device(self) -> Device:
        if self._device is None:
            self._device = self.system.make_device(self.name)
        return self._device

    @property
    def device_busy_seconds(self) -> float:
        """How long this cell's device has been at one job."""
        return 0.0 if self._device is None else self._device.busy_seconds

    def post_later(self, seconds: float, message: Message) -> None:
        cause = self.current_id
        if self._timers is None:
            self._timers = Timers(self)
        self._timers.post_later(seconds, message, lambda due: self._put_own(due, cause))

    def snooze(self, method: str, seconds: float) -> None:
        if not any(timer.method == method and timer.every is not None for timer in self.timers):
            raise LookupError(f"{self.name} has no @every timer called {method}")
        assert self._timers is not None, "a cell whose actor has timers keeps them"
        self._timers.snooze(method, seconds)

    async def device_call(self, job: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: Any) -> None:
            if answer.done():
                return  # whoever waited was cancelled
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        self.device.start(job, done)
        return await self._recorded("device", answer)

    def on_device(self, job: Callable[[], Message]) -> None:
        cause, incarnation = self.current_id, self.incarnation

        def done(result: Any) -> None:
            self.record("device", cause, cause, self.name, self.name, type(result).__name__, attempt=incarnation)
            if incarnation != self.incarnation or self.instance is None:
                return  # the instance that asked is gone, and its successor starts from what is on disk
            if isinstance(result, BaseException):
                notes = "\n".join(getattr(result, "__notes__", ()))
                why = f"{type(result).__name__}: {result}\n{notes}"
                self.system.put(
                    self, self.name, cause, DeviceRaised(why=why), control=True, incarnation=incarnation
                )  # fmt: skip
            else:
                self._put_own(result, cause, incarnation=incarnation)

        self.device.start(job, done)

    def finish(self) -> None:
        self.system.put(self, self.name, self.current_id, Stop(), control=True, incarnation=self.incarnation)

    def _put_own(self, message: Message, cause: int, *, incarnation: int = 0) -> None:
        handler = self.handlers.get(type(message))
        control = handler is not None and handler.control
        self.system.put(self, self.name, cause, message, control=control, incarnation=incarnation)

    def close_device(self) -> None:
        """The cell is done for good."""
        if self._device is not None:
            self._device.interrupt()
            self._device.close()

    # Bookkeeping.

    @property
    def waiting_on(self) -> str:
        """Whom the handler in hand waits for; ``""`` if for nobody."""
        waits = self.desk.waits
        return waits[-1].on.name if waits else ""

    def describe(self) -> ActorDescription:
        now, desk = self.system.now(), self.desk
        alive = now - self.first_started_at if self.first_started_at is not None else 0.0
        oldest = self.mailbox.oldest_sent_at
        in_hand = self.mailbox.in_hand
        busy = desk.busy_seconds + (now - desk.busy_from if desk.busy_from != IDLE else 0.0)
        return ActorDescription(
            name=self.name,
            state=self.state,
            incarnation=self.incarnation,
            restarts=self.restarts,
            depth=self.mailbox.depth,
            capacity=self.mailbox.spec.capacity,
            handled=desk.handled,
            dead_letters=self.dead_letters,
            dropped=self.dropped,
            busy_share=round(busy / alive, 4) if alive > 0 else 0.0,
            oldest_waiting_s=round(now - oldest, 3) if oldest is not None else 0.0,
            in_hand=type(in_hand.message).__name__ if in_hand is not None else "",
            in_hand_s=round(now - desk.begun_at, 3) if desk.begun_at != IDLE else 0.0,
            last_message=type(in_hand.message).__name__ if in_hand is not None else desk.last_message,
            waiting_on=self.waiting_on,
        )

    def record(
        self,
        kind: Kind,
        id: int,  # noqa: A002 - the field's name everywhere else
        cause: int,
        sender: str,
        recipient: str,
        type_name: str,
        attempt: int = 0,
        body: Any = None,
    ) -> None:
        """One edge into the trace, stamped with the system's clock."""
        system = self.system
        system.trace.add(system.now(), kind, id, cause, sender, recipient, type_name, attempt, 0, body)

    def record_of(self, kind: Kind, envelope: Envelope, *, attempt: int = 0, body: Any = None) -> None:
        """One more edge of a delivery to this cell."""
        kind_of_message = type(envelope.message).__name__
        self.record(kind, envelope.id, envelope.cause, envelope.sender, self.name, kind_of_message, attempt, body)
