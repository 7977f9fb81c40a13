"""What a person writes: one class, one ``@on`` method for each message type it handles.

The annotation is the registration: the parameter's type says which messages arrive, the return annotation what a
question is answered with. Nothing is wired by address, so a plug-in needs no edit elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import date
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)
from weakref import WeakKeyDictionary

import msgspec

from messages import Message, Question
from messages.message import reply_types

if TYPE_CHECKING:
    from runtime.cell import Cell
    from runtime.cloakroom import Cloakroom
    from runtime.clock import Clock
    from runtime.disk import DiskPort
    from runtime.system import ActorSystem
    from runtime.worker import Device

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
T = TypeVar("T")


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For actors that have nothing to configure."""


class Tick(Message, frozen=True):
    """A timer came due. ``timer`` is the method's name, ``day`` the local date of a ``@daily`` one."""

    timer: str
    day: date | None = None


class HandlerError(TypeError):
    """A handler is declared in a way that cannot work; raised when the system is built."""


class Handler(msgspec.Struct, frozen=True):
    """One registered method. ``answers`` is empty for plain messages."""

    method: str
    control: bool
    answers: tuple[type, ...]


class Timer(msgspec.Struct, frozen=True):
    """``every``: seconds, or the name of a settings field holding them. ``daily``: the field holding a local time."""

    method: str
    every: float | str | None = None
    daily: str | None = None


@overload
def on(method: F) -> F: ...
@overload
def on(*, control: bool) -> Callable[[F], F]: ...
def on(method: F | None = None, *, control: bool = False) -> F | Callable[[F], F]:
    """Handle the message type that the method's parameter is annotated with (a union: each of them).

    ``control=True`` puts it in the lane that overtakes work, is never refused, and holds no two equal messages.
    """

    def mark(function: F) -> F:
        function.__nightfold_on__ = control  # type: ignore[attr-defined]
        return function

    return mark if method is None else mark(method)


def every(seconds: float | str) -> Callable[[F], F]:
    """Call the method every so many seconds while the actor lives; a string names the settings field that says.

    Ticks travel in the control lane; one that is still waiting is not doubled.
    """

    def mark(function: F) -> F:
        function.__nightfold_timer__ = Timer(method=function.__name__, every=seconds)  # type: ignore[attr-defined]
        return function

    return mark


def daily(at: str) -> Callable[[F], F]:
    """Call ``method(day)`` once per local date when the wall clock passes the time in settings field ``at``.

    Right through daylight saving and clock jumps: the wall clock is looked at again at least every minute, a date that
    has had its call gets no second one from the same process, and a restart at that moment does not swallow it.
    """

    def mark(function: F) -> F:
        function.__nightfold_timer__ = Timer(method=function.__name__, daily=at)  # type: ignore[attr-defined]
        return function

    return mark


class Actor:
    """A supervised object that handles one message at a time.

    Subclasses may annotate ``settings: TheirStruct``; the launcher fills it from the config section that bears the
    actor's name. After a crash a *fresh* instance takes over the same mailbox: whatever must outlive an instance is
    on disk or comes in a message. ``sends`` names message types that leave through a variable, where the source does
    not show which they are; the message-flow diagram and the checks read it.
    """

    settings: Any
    sends: ClassVar[tuple[type[Message], ...]] = ()
    _cell: Cell

    async def on_start(self) -> None:
        """Called once before the first message."""

    async def on_stop(self) -> None:
        """Called once after the last message of an orderly stop; not after a crash."""

    # What an actor may do. Everything goes through the cell it leases its mailbox from.

    @property
    def name(self) -> str:
        """The actor's place in the tree."""
        return self._cell.name

    @property
    def clock(self) -> Clock:
        """The one door to time."""
        return self._cell.system.clock

    @property
    def disk(self) -> DiskPort:
        """The one door to files; use it inside ``blocking`` jobs."""
        return self._cell.system.disk

    @property
    def cloakroom(self) -> Cloakroom:
        """Where large buffers wait for their ticket."""
        return self._cell.system.cloakroom

    @property
    def device(self) -> Device:
        """This actor's own thread; made at first use."""
        return self._cell.device

    @property
    def system(self) -> ActorSystem:
        """For those who watch the house: ``describe`` and ``trace``."""
        return self._cell.system

    def send(self, message: Message) -> Awaitable[None]:
        """Give the message to every actor that handles its type; awaiting it waits where a mailbox is full."""
        return self._cell.send(message)

    def watch(self, name: str) -> None:
        """Have this instance told, by ``ActorEnded``, of every end of the actor ``name``; at once if it is gone.

        Raises:
            HandlerError: this actor has no handler for ``ActorEnded``.
            LookupError: nobody is called so.
        """
        self._cell.watch(name)

    def post(self, message: Message) -> None:
        """Put a message into this actor's own mailbox, now."""
        self._cell.post(message)

    def ask(self, question: Question[R], *, timeout: float) -> Coroutine[Any, Any, R]:
        """Ask the single actor that answers this type.

        Raises:
            AskFailed: it crashed over the question, or stopped.
            AskTimeout: no answer within ``timeout`` seconds.
            WaitCycle: it is, over others, waiting for this actor.
        """
        return self._cell.ask(question, timeout)

    async def blocking(self, job: Callable[[], T]) -> T:
        """Run one whole blocking job (a durable protocol, a hash) off the loop."""
        return await self._cell.blocking(job)

    def finish(self) -> None:
        """End this incarnation after the message in hand; whether another follows is the supervisor's to say."""
        self._cell.finish()

    def post_later(self, seconds: float, message: Message) -> None:
        """Put a message into this actor's own mailbox after a while, unless this incarnation ends before."""
        self._cell.post_later(seconds, message)

    def snooze(self, timer: str, seconds: float) -> None:
        """The ``@every`` method ``timer`` has nothing to do for so long: its next tick comes then.

        One that is waiting already still comes; the pace after that is the timer's own. It lasts for this incarnation,
        and before the timers run (in ``on_start``) it does nothing.

        Raises:
            LookupError: no ``@every`` method is called so.
        """
        self._cell.snooze(timer, seconds)

    async def device_call(self, job: Callable[[], T]) -> T:
        """Run ``job`` in this actor's thread and wait for what it returns, or raise what it raised."""
        return await self._cell.device_call(job)

    def on_device(self, job: Callable[[], Message]) -> None:
        """Start ``job`` in this actor's thread; the message it returns arrives in this actor's mailbox.

        An exception it raises crashes the actor, as if a handler had raised it.
        """
        self._cell.on_device(job)


def settings_type(actor: type[Actor]) -> type[msgspec.Struct]:
    """The Struct the actor's ``settings`` are annotated with."""
    for owner in actor.__mro__:
        annotation = inspect.get_annotations(owner).get("settings")
        if annotation is None or owner is Actor:
            continue
        # Only this one annotation is resolved: the others may name types that are imported for the checker alone.
        alone = type("Settings", (), {"__module__": owner.__module__, "__annotations__": {"settings": annotation}})
        hint = get_type_hints(alone)["settings"]
        return hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else NoSettings
    return NoSettings


def timers_of(actor: type[Actor]) -> tuple[Timer, ...]:
    """Every ``@every`` and ``@daily`` method, in the order of their names."""
    if actor not in _TIMERS:
        found = (getattr(member, "__nightfold_timer__", None) for _, member in inspect.getmembers(actor))
        _TIMERS[actor] = tuple(timer for timer in found if timer is not None)
    return _TIMERS[actor]


def handlers_of(actor: type[Actor]) -> Mapping[type[Message], Handler]:
    """Message type -> handler.

    Raises:
        HandlerError: not ``async``, no or a wrong annotation, two handlers of one type, or a question whose declared
            answer is not what the handler returns.
    """
    if actor not in _HANDLERS:
        _HANDLERS[actor] = _read_handlers(actor)
    return _HANDLERS[actor]


def functions_of(actor: type[Actor]) -> dict[type[Message], Callable[[Any, Any], Coroutine[Any, Any, Any]]]:
    """Message type -> the function that handles it, called with the instance and the message."""
    if actor not in _FUNCTIONS:
        _FUNCTIONS[actor] = {kind: getattr(actor, handler.method) for kind, handler in handlers_of(actor).items()}
    return _FUNCTIONS[actor]


_FUNCTIONS: WeakKeyDictionary[type[Actor], dict[type[Message], Callable[..., Any]]] = WeakKeyDictionary()
_TIMERS: WeakKeyDictionary[type[Actor], tuple[Timer, ...]] = WeakKeyDictionary()
_HANDLERS: WeakKeyDictionary[type[Actor], Mapping[type[Message], Handler]] = WeakKeyDictionary()
"""What was read: a class does not change, and a simulation builds the same system many times."""


def _read_handlers(actor: type[Actor]) -> Mapping[type[Message], Handler]:
    found: dict[type[Message], Handler] = {}
    for name, member in inspect.getmembers(actor, inspect.isfunction):
        control = getattr(member, "__nightfold_on__", None)
        timer = getattr(member, "__nightfold_timer__", None)
        where = f"{actor.__name__}.{name}"
        if control is None and timer is None:
            continue
        if not inspect.iscoroutinefunction(member):
            raise HandlerError(f"{where} must be 'async def'")
        parameters = list(inspect.signature(member).parameters)
        if timer is not None and len(parameters) != (1 if timer.daily is None else 2):
            raise HandlerError(f"{where} must take {'nothing' if timer.daily is None else 'the day, and nothing else'}")
        if control is None:
            continue
        hints = get_type_hints(member)
        if len(parameters) != 2 or parameters[1] not in hints:
            raise HandlerError(f"{where} must take exactly one annotated parameter, the message")
        answers = _without_none(_flatten(hints.get("return")))
        for message_type in _flatten(hints[parameters[1]]):
            if not (isinstance(message_type, type) and issubclass(message_type, Message)):
                raise HandlerError(f"{where} handles {message_type!r}, which is no message type")
            if message_type in found:
                raise HandlerError(f"{where}: {message_type.__name__} is handled by {found[message_type].method} too")
            expected = _without_none(reply_types(message_type)) if issubclass(message_type, Question) else ()
            if set(expected) != set(answers):
                named = " | ".join(t.__name__ for t in expected) or "None"
                raise HandlerError(f"{where} must return {named}, for that is what {message_type.__name__} asks for")
            found[message_type] = Handler(method=name, control=control, answers=answers)
    return found


def _flatten(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return get_args(annotation)
    return (annotation,)


def _without_none(types: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(t for t in types if t is not None and t is not type(None))
