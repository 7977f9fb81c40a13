"""A cell without a system: it gives an actor what the record says it was given, and keeps what the actor says.

It has the surface of ``runtime.cell.Cell`` that an ``Actor`` method reaches. No job runs, no file is opened and no
message leaves: results of jobs and answers to asks come from the record, in the order in which they came then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from messages import Message, Question
from runtime import WaitCycle, trace_files
from runtime.trace import Raised, Record

PLAIN = ("NoneType", "bool", "int", "float", "str", "bytes", "list", "dict")
NOT_KEPT = ", not kept"


class NotRecorded(Exception):
    """The actor wants something that the record does not hold; the text says what."""


class Said(msgspec.Struct):
    """One message that left the actor, as the record has it."""

    type: str
    value: Any
    at: float
    recipients: list[str]


class Window:
    """What the record holds of one handling (or of ``on_start``): results, answers, and what the actor said."""

    def __init__(self, actor: str, began: float, records: Sequence[Record]) -> None:
        self.began = began
        self.said: list[Said] = []
        self.jobs: list[Record] = []
        self.device: list[Record] = []
        self.answers: list[tuple[str, Record]] = []
        asked: dict[int, str] = {}
        from_device = False
        for record in records:
            mine = record.sender == actor
            if mine and record.kind in ("sent", "dropped"):
                own = record.recipient == actor
                if not (own and (from_device or record.type in ("Tick", "Stop", "DeviceRaised"))):
                    self._note_said(record)
                asked[record.id] = record.type
            elif mine and record.kind == "job":
                self.jobs.append(record)
            elif mine and record.kind == "device" and not record.attempt:
                self.device.append(record)
            elif record.kind == "replied" and record.recipient == actor and record.id in asked:
                self.answers.append((asked[record.id], record))
            elif mine and record.kind == "failed" and _was_raised(record):
                self.answers.append((record.type, record))
            # What the actor's thread hands in at the end of a job is no word of the handler that happens to run.
            from_device = record.kind == "device" and bool(record.attempt)

    def _note_said(self, record: Record) -> None:
        if record.kind == "dropped" and record.body.value is None:
            return  # emptied out of a mailbox at a stop; its sending was noted before
        last = self.said[-1] if self.said else None
        if (
            last is not None
            and (last.type, last.value) == (record.type, record.body.value)
            and record.recipient not in last.recipients
        ):
            last.recipients.append(record.recipient)
        else:
            self.said.append(Said(record.type, record.body.value, record.at, [record.recipient]))


def _was_raised(record: Record) -> bool:
    return bool(record.body.type) and record.body.type == f"{Raised.__module__}:{Raised.__qualname__}"


class ReplayClock:
    """Stands at the recorded moment of the last thing that happened."""

    def __init__(self, wall: Callable[[float], datetime | None]) -> None:
        self._wall = wall
        self.at = 0.0

    def monotonic(self) -> float:
        """The recorded seconds."""
        return self.at

    def now(self) -> datetime:
        """What the wall clock showed then, with the offset that it showed."""
        moment = self._wall(self.at)
        if moment is None:
            raise NotRecorded("what the wall clock showed")
        return moment


class _Untouchable:
    """Stands where the disk was. Handing one of its methods to a job is harmless; calling it is not recorded."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            raise NotRecorded(f"disk.{name} outside of a blocking job leaves no record")

        return refuse


class _Cloakroom:
    """What a ticket stands for only goes into jobs. So where the record has one more, the ticket was still good."""

    def __init__(self, used: Callable[[], bool]) -> None:
        self._used = used

    def look(self, _ticket: str) -> Mapping[str, bytes] | None:
        return {} if self._used() else None

    def leave(self, _files: Mapping[str, bytes]) -> str:
        raise NotRecorded("what is left in the cloakroom outside of a job leaves no record")

    def hand_back(self, _ticket: str) -> None:
        """Nothing is kept."""


class _Device:
    """A thread that never has a job in hand."""

    busy_seconds = 0.0

    def interrupt(self) -> None:
        """Nobody to interrupt."""

    def interrupted(self) -> bool:
        return False

    async def join(self) -> None:
        """Nothing to wait for."""


class _NoTrace:
    """A trace that nothing is written to."""

    def since(self, _number: int) -> list[Record]:
        return []


class ReplaySystem:
    """The part of ``ActorSystem`` that an actor can see."""

    stopping = False
    stop_reason = ""

    def __init__(self, clock: ReplayClock, used: Callable[[], bool]) -> None:
        self.clock = clock
        self.disk = _Untouchable()
        self.cloakroom = _Cloakroom(used)
        self.trace = _NoTrace()

    def describe(self) -> Sequence[Any]:
        """Nobody else lives here."""
        return []

    def stop(self, why: str) -> None:
        """An actor may end the house; here there is only itself."""


class ReplayCell:
    """See the module."""

    def __init__(self, name: str, clock: ReplayClock, hears: Callable[[Message], bool]) -> None:
        self.name = name
        self.system = ReplaySystem(clock, lambda: bool(self.window.jobs or self.window.device))
        self.device = _Device()
        self.later: list[Message] = []
        self.said: list[Message] = []
        self.window = Window(name, 0.0, ())
        self._hears = hears

    def open(self, window: Window) -> None:
        """The next handling begins."""
        self.window = window
        self.said = []
        self.system.clock.at = window.began

    @property
    def expected(self) -> list[Said]:
        """What the record says comes next in this handling."""
        return self.window.said[len(self.said) :]

    async def send(self, message: Message) -> None:
        if self._hears(message):
            self._say(message)

    def post(self, message: Message) -> None:
        self._say(message)

    def post_later(self, _seconds: float, message: Message) -> None:
        self.later.append(message)

    def finish(self) -> None:
        """The end of the incarnation is in the record."""

    def on_device(self, _job: Callable[[], Message]) -> None:
        """Its result is a message in the record."""

    async def ask(self, question: Question[Any], _timeout: float) -> Any:
        kind = type(question).__name__
        place = next((n for n, (asked, _) in enumerate(self.window.answers) if asked == kind), None)
        if place is None:
            self._say(question)
            raise NotRecorded(f"the answer to {kind}")
        _, record = self.window.answers.pop(place)
        answer = trace_files.revive(record.body)
        if not isinstance(answer, WaitCycle):  # that one is refused before anything is sent
            self._say(question)
        return self._result(record, answer)

    async def blocking(self, _job: Callable[[], Any]) -> Any:
        return self._next(self.window.jobs, "a blocking job")

    async def device_call(self, _job: Callable[[], Any]) -> Any:
        return self._next(self.window.device, "a device job")

    def _say(self, message: Message) -> None:
        if len(self.said) < len(self.window.said):
            self.system.clock.at = self.window.said[len(self.said)].at
        self.said.append(message)

    def _next(self, results: list[Record], what: str) -> Any:
        if not results:
            raise NotRecorded(f"the result of {what}")
        record = results.pop(0)
        value = trace_files.revive(record.body)
        if record.type == "tuple" and isinstance(value, list):
            value = tuple(value)
        elif not record.body.type and record.type not in PLAIN:
            raise NotRecorded(f"the result of {what}, a {record.type} that was too large or no plain data")
        elif isinstance(value, str) and value == f"{record.type}{NOT_KEPT}":
            raise NotRecorded(f"the result of {what}, a {record.type} that was too large to keep")
        return self._result(record, value)

    def _result(self, record: Record, value: Any) -> Any:
        self.system.clock.at = max(self.system.clock.at, record.at)
        if isinstance(value, Exception):
            raise value
        return value
