"""A cell without a system: it gives an actor what the record says it was given, and keeps what the actor says.

It has the surface of ``runtime.cell.Cell`` that an ``Actor`` method reaches. No job runs, no file is opened and no
message leaves: results of jobs and answers to asks come from the record, in the order in which they came then. What
the record could not keep is told apart from what the actor did not want then: the first ends a replay without a
verdict, the second is a difference. Both are remembered here, for an actor may catch any exception.
"""

from __future__ import annotations

import bisect
import typing
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import msgspec

from messages import Message, Question
from runtime import WaitCycle, trace_files
from runtime.disk import Buffer
from runtime.trace import KEPT_BYTES, Record
from tools.replay_window import Said, Window

PLAIN = ("NoneType", "bool", "int", "float", "str", "bytes", "list", "dict")
NOT_KEPT = ", not kept"


class NotRecorded(Exception):
    """The actor wants something that the record could not hold; the text says what."""


class NotThere(NotRecorded, AttributeError):
    """A part of the system that a replay does not have; ``getattr`` with a default gives the default."""


class NotWantedThen(Exception):
    """The actor wants something that it did not want when it was recorded; the text says what."""


class Later(msgspec.Struct):
    """What the actor says to itself for later, and when it is due."""

    message: Message
    due: float


class ReplayClock:
    """Stands at the recorded moment of the last thing that happened."""

    def __init__(self, wall: Callable[[float], datetime | None], miss: Callable[[str], NoReturn]) -> None:
        self._wall = wall
        self._miss = miss
        self.at = 0.0

    def monotonic(self) -> float:
        """The recorded seconds."""
        return self.at

    def now(self) -> datetime:
        """What the wall clock showed then, with the offset that it showed."""
        moment = self._wall(self.at)
        if moment is None:
            self._miss("what the wall clock showed")
        return moment


class _Untouchable:
    """Stands where the disk was. Handing one of its methods to a job is harmless; calling it is not recorded."""

    def __init__(self, miss: Callable[[str], NoReturn]) -> None:
        self._miss = miss

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def refuse(*_: Any, **__: Any) -> NoReturn:
            self._miss(f"what disk.{name} gave: outside of a blocking job it leaves no record")

        return refuse


class _Cloakroom:
    """What a ticket stands for only goes into jobs. So where the record has one more, the ticket was still good."""

    def __init__(self, used: Callable[[], bool], miss: Callable[[str], NoReturn]) -> None:
        self._used = used
        self._miss = miss

    def look(self, _ticket: str) -> Mapping[str, Buffer] | None:
        return {} if self._used() else None

    def leave(self, _files: Mapping[str, Buffer], _handed_back: Callable[[], None] | None = None) -> str:
        self._miss("the ticket: what is left in the cloakroom outside of a job leaves no record")

    def hand_back(self, _ticket: str) -> None:
        """Nothing is kept."""

    def clear(self) -> None:
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


class _TraceThen:
    """The trace as it stood at the recorded moment; its records are those that were written."""

    def __init__(self, records: Sequence[Record], clock: ReplayClock) -> None:
        self._records = records
        self._clock = clock

    @property
    def count(self) -> int:
        """So many records there were."""
        fresh = self.since(0)
        return fresh[-1].number if fresh else 0

    def since(self, number: int) -> list[Record]:
        """Those after ``number``."""
        begin = bisect.bisect_right(self._records, number, key=lambda record: record.number)
        end = bisect.bisect_right(self._records, self._clock.at, key=lambda record: record.at)
        return list(self._records[begin:end])


class ReplaySystem:
    """The part of ``ActorSystem`` that an actor can see."""

    stopping = False
    stop_reason = ""

    def __init__(
        self, clock: ReplayClock, records: Sequence[Record], used: Callable[[], bool], miss: Callable[[str], NoReturn]
    ) -> None:
        self.clock = clock
        self.disk = _Untouchable(miss)
        self.cloakroom = _Cloakroom(used, miss)
        self.trace = _TraceThen(records, clock)

    def __getattr__(self, name: str) -> NoReturn:
        raise NotThere(f"what system.{name} is")

    def describe(self) -> Sequence[Any]:
        """Nobody else lives here."""
        return []

    def stop(self, why: str) -> None:
        """An actor may end the house; here there is only itself."""

    def disable(self, _name: str, _why: str) -> bool:
        """Nobody to disable."""
        return False


class _Sent:
    """What a ``send`` gives: it was said at once, so awaiting it waits for nothing."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class ReplayCell:
    """See the module."""

    def __init__(
        self,
        name: str,
        wall: Callable[[float], datetime | None],
        records: Sequence[Record],
        hears: Callable[[Message], bool],
    ) -> None:
        self.name = name
        self.window = Window(name, 0.0, ())
        self.system = ReplaySystem(ReplayClock(wall, self.miss), records, self._goes_on_with_a_job, self.miss)
        self.device = _Device()
        self.waiting_on = ""
        self.later: list[Later] = []
        self.to_thread = 0
        self.said: list[Message] = []
        self.missing: NotRecorded | NotWantedThen | None = None
        self._hears = hears

    def open(self, window: Window) -> None:
        """The next handling begins."""
        self.window = window
        self.said = []
        self.missing = None
        self.system.clock.at = window.began

    def _goes_on_with_a_job(self) -> bool:
        return bool(self.window.jobs or self.window.device)

    def missed(self, what: str) -> Exception:
        """The record could not hold this."""
        self.missing = self.missing or NotRecorded(what)
        return self.missing

    def miss(self, what: str) -> NoReturn:
        """The same, raised."""
        raise self.missed(what)

    def _not_then(self, what: str) -> NoReturn:
        self.missing = self.missing or NotWantedThen(what)
        raise self.missing

    @property
    def expected(self) -> list[Said]:
        """What the record says comes next in this handling."""
        return self.window.said[len(self.said) :]

    def send(self, message: Message) -> Awaitable[None]:
        if self._hears(message):
            self._say(message)
        return _Sent()

    def post(self, message: Message) -> None:
        self._say(message)

    def post_later(self, seconds: float, message: Message) -> None:
        self.later.append(Later(message, self.system.clock.at + seconds))

    def snooze(self, _timer: str, _seconds: float) -> None:
        """The ticks that came are in the record."""

    def watch(self, _name: str) -> None:
        """The news of it is in the record."""

    def finish(self) -> None:
        """The end of the incarnation is in the record."""

    def on_device(self, _job: Callable[[], Message]) -> None:
        """Its result is a message in the record."""
        self.to_thread += 1

    async def ask(self, question: Question[Any], _timeout: float) -> Any:
        kind = type(question).__name__
        place = next((n for n, (asked, _) in enumerate(self.window.answers) if asked == kind), None)
        if place is None:
            self._say(question)
            self.miss(f"the answer to {kind}")
        _, record = self.window.answers.pop(place)
        answer = trace_files.revive(record.body)
        if not isinstance(answer, WaitCycle):  # that one is refused before anything is sent
            self._say(question)
        return self._result(record, answer)

    async def blocking(self, job: Callable[[], Any]) -> Any:
        return self._next(self.window.jobs, "a blocking job", job)

    async def device_call(self, job: Callable[[], Any]) -> Any:
        return self._next(self.window.device, "a device job", job)

    def _say(self, message: Message) -> None:
        if len(self.said) < len(self.window.said):
            self.system.clock.at = self.window.said[len(self.said)].at
        self.said.append(message)

    def _next(self, results: list[Record], what: str, job: Callable[[], Any]) -> Any:
        if not results:
            self._not_then(f"waits for {what}")
        record = results.pop(0)
        value = trace_files.revive(record.body)
        if record.type == "tuple" and isinstance(value, list):
            value = tuple(_as_annotated(value, job))
        elif isinstance(value, str) and value == f"{record.type}{NOT_KEPT}":
            why = f"larger than {KEPT_BYTES} bytes, or no plain data"
            self.miss(f"the result of {what}: a {record.type} that was not kept, being {why}")
        elif not record.body.type and record.type not in PLAIN:
            self.miss(f"the result of {what}: a {record.type}, which is no plain data")
        elif not record.body.type:
            value = _as_annotated(value, job)
        return self._result(record, value)

    def _result(self, record: Record, value: Any) -> Any:
        self.system.clock.at = max(self.system.clock.at, record.at)
        if isinstance(value, Exception):
            raise value
        return value


def _as_annotated(value: Any, job: Callable[[], Any]) -> Any:
    """A dict or list as what the job says that it returns: of structs within one, the record has no type."""
    if not isinstance(value, dict | list):
        return value
    try:
        return msgspec.convert(value, typing.get_type_hints(job).get("return", Any))
    except (NameError, TypeError, msgspec.ValidationError):
        return value
