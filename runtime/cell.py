"""A place in the tree: it outlives every instance of the actor that works in it.

The cell owns the mailbox, the counters, the device thread and the wiring; an actor instance only leases them. Names
and routes lead to the cell, so a message sent across a restart reaches the instance that comes after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from messages import Message, Question
from runtime.actor import Actor, HandlerError, Tick, Timer, handlers_of, timers_of
from runtime.mailbox import Envelope, Mailbox
from runtime.trace import kept, raised
from runtime.tree import Child

if TYPE_CHECKING:
    from runtime.system import ActorSystem
    from runtime.worker import Device

R = TypeVar("R")
T = TypeVar("T")

State = Literal["new", "starting", "running", "stopping", "backing_off", "stopped", "disabled"]

DAILY_LOOK_SECONDS = 60.0
"""How often a ``@daily`` timer looks at the wall clock: a jump or a daylight-saving change is seen this soon."""


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

    def __init__(self, system: ActorSystem, child: Child) -> None:
        self.system = system
        self.child = child
        self.name = child.name
        self.mailbox = Mailbox(child.mailbox)
        self.handlers = handlers_of(child.actor)
        self.timers = timers_of(child.actor)
        for field in (timer.every if timer.daily is None else timer.daily for timer in self.timers):
            if isinstance(field, str) and child.settings is not None and not hasattr(child.settings, field):
                raise HandlerError(f"{child.actor.__name__}: the settings have no {field!r}, which a timer names")
        self.state: State = "new"
        self.instance: Actor | None = None
        self.incarnation = 0
        self.restarts = 0
        self.handled = 0
        self.dead_letters = 0
        self.dropped = 0
        self.busy_seconds = 0.0
        self.first_started_at: float | None = None
        self.begun_at: float | None = None
        self.last_message = ""
        self.waiting_on = ""
        self._later = 0
        self._device: Device | None = None
        self._timer_handles: dict[str, asyncio.TimerHandle] = {}
        self._daily_done: dict[str, set[date]] = {}

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
            self.first_started_at = self.system.clock.monotonic()
        return instance

    def running(self) -> None:
        """``on_start`` has returned: timers begin to run."""
        self.state = "running"
        self.record("started", 0, 0, self.name, self.name, type(self.instance).__name__, attempt=self.incarnation)
        for timer in self.timers:
            self._arm(timer)

    def ended(self) -> None:
        """The incarnation is over, however: no timer of it fires again."""
        self._disarm()
        if self.state != "stopping":
            self.state = "backing_off"
        self.instance = None
        self.begun_at = None
        self.waiting_on = ""
        self.record("stopped", 0, 0, self.name, self.name, self.child.actor.__name__, attempt=self.incarnation)

    def abandon(self) -> None:
        """The system is gone, perhaps torn down from outside: leave no timer and no thread behind."""
        self._disarm()
        self.instance = None
        if self.state not in ("stopped", "disabled"):
            self.close_device()

    def _disarm(self) -> None:
        for handle in self._timer_handles.values():
            handle.cancel()
        self._timer_handles.clear()

    async def quiet_device(self) -> None:
        """Wait until no job of an earlier incarnation is on the device."""
        if self._device is not None:
            self._device.interrupt()
            await self._device.join()

    async def handle(self, envelope: Envelope) -> None:
        """Run the handler for one leased message and answer if it was asked."""
        instance = self.instance
        assert instance is not None, "a cell without an instance leases nothing"
        message = envelope.message
        self.last_message = type(message).__name__
        self.begun_at = began = self.system.clock.monotonic()
        self.record(
            "begun",
            envelope.id,
            envelope.cause,
            envelope.sender,
            self.name,
            self.last_message,
            envelope.attempt,
        )
        probe = self.system.probe
        try:
            if probe is not None:
                probe(self.name, envelope, "before")
            match message:
                case Tick(timer=timer, day=None):
                    answer = await getattr(instance, timer)()
                case Tick(timer=timer, day=day):
                    answer = await getattr(instance, timer)(day)
                case DeviceRaised(why=why):
                    raise DeviceJobError(why)
                case _:
                    handler = self.handlers.get(type(message))
                    if handler is None:
                        raise HandlerError(f"{self.name} has no handler for {type(message).__name__}")
                    answer = await getattr(instance, handler.method)(message)
            if probe is not None:
                probe(self.name, envelope, "after")
        finally:
            self.busy_seconds += self.system.clock.monotonic() - began
            self.begun_at = None
        self.handled += 1
        self.record("done", envelope.id, envelope.cause, envelope.sender, self.name, self.last_message)
        if envelope.reply is not None and not envelope.reply.done():
            self.record(
                "replied",
                envelope.id,
                envelope.id,
                self.name,
                envelope.sender,
                type(answer).__name__,
                body=answer,
            )
            envelope.reply.set_result(answer)

    # What an actor may do.

    @property
    def current_id(self) -> int:
        """The id of the delivery in hand: the cause of whatever is sent now."""
        return 0 if self.mailbox.in_hand is None else self.mailbox.in_hand.id

    async def send(self, message: Message) -> None:
        await self.system.deliver(self.name, self.current_id, message)

    def post(self, message: Message) -> None:
        self._put_own(message, self.current_id)

    async def ask(self, question: Question[R], timeout: float) -> R:
        try:
            return await self.system.ask_from(self.name, self.current_id, question, timeout)
        except Exception as error:
            cause = self.current_id
            kind = type(question).__name__
            self.record("failed", 0, cause, self.name, self.name, kind, body=raised(error))
            raise

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
    def device(self) -> Device:
        if self._device is None:
            self._device = self.system.make_device(self.name)
        return self._device

    @property
    def device_busy_seconds(self) -> float:
        """How long this cell's device has been at one job."""
        return 0.0 if self._device is None else self._device.busy_seconds

    def post_later(self, seconds: float, message: Message) -> None:
        self._later += 1
        key = f"later {self._later}"
        cause = self.current_id

        def fire() -> None:
            self._timer_handles.pop(key, None)
            self._put_own(message, cause)

        self._timer_handles[key] = asyncio.get_running_loop().call_later(seconds, fire)

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

    def describe(self) -> ActorDescription:
        now = self.system.clock.monotonic()
        alive = now - self.first_started_at if self.first_started_at is not None else 0.0
        oldest = self.mailbox.oldest_sent_at
        in_hand = self.mailbox.in_hand
        busy = self.busy_seconds + (now - self.begun_at if self.begun_at is not None else 0.0)
        return ActorDescription(
            name=self.name,
            state=self.state,
            incarnation=self.incarnation,
            restarts=self.restarts,
            depth=self.mailbox.depth,
            capacity=self.mailbox.spec.capacity,
            handled=self.handled,
            dead_letters=self.dead_letters,
            dropped=self.dropped,
            busy_share=round(busy / alive, 4) if alive > 0 else 0.0,
            oldest_waiting_s=round(now - oldest, 3) if oldest is not None else 0.0,
            in_hand=type(in_hand.message).__name__ if in_hand is not None else "",
            in_hand_s=round(now - self.begun_at, 3) if self.begun_at is not None else 0.0,
            last_message=self.last_message,
            waiting_on=self.waiting_on,
        )

    def record(
        self,
        kind: Any,
        id: int,  # noqa: A002 - the field's name everywhere else
        cause: int,
        sender: str,
        recipient: str,
        type_name: str,
        attempt: int = 0,
        body: Any = None,
    ) -> None:
        """One edge into the trace, stamped with this cell's clock and depth."""
        self.system.trace.add(
            self.system.clock.monotonic(),
            kind,
            id,
            cause,
            sender,
            recipient,
            type_name,
            attempt,
            self.mailbox.depth,
            body,
        )

    def _arm(self, timer: Timer) -> None:
        assert self.instance is not None, "timers belong to a running instance"
        if timer.every is not None:
            named = timer.every if not isinstance(timer.every, str) else getattr(self.instance.settings, timer.every)
            self._arm_every(timer.method, float(named))
        elif timer.daily is not None:
            self._arm_daily(timer.method, getattr(self.instance.settings, timer.daily))

    def _arm_every(self, method: str, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"{self.name}.{method}: a timer every {seconds:g} s would never let go of the loop")
        loop = asyncio.get_running_loop()
        incarnation = self.incarnation

        def fire() -> None:
            self.system.put(self, self.name, 0, Tick(timer=method), control=True, incarnation=incarnation)
            self._timer_handles[method] = loop.call_later(seconds, fire)

        self._timer_handles[method] = loop.call_later(seconds, fire)

    def _arm_daily(self, method: str, at: time) -> None:
        loop = asyncio.get_running_loop()
        if method not in self._daily_done:
            now = self.system.clock.now()
            self._daily_done[method] = {now.date()} if now.time() >= at else set()
        # The dates belong to the cell: a crash shortly before the moment must not cost the day its call.
        done = self._daily_done[method]

        def look() -> None:
            now = self.system.clock.now()
            if now.time() >= at and now.date() not in done:
                done.add(now.date())
                self.system.put(self, self.name, 0, Tick(timer=method, day=now.date()), control=True)
            until = (datetime.combine(now.date(), at) - now.replace(tzinfo=None)) % timedelta(days=1)
            delay = min(DAILY_LOOK_SECONDS, max(0.05, until.total_seconds()))
            self._timer_handles[method] = loop.call_later(delay, look)

        look()
