"""The recorded trace as the views see it: one run for each life of the daemon, its deliveries, and the wall clock.

Guarantees: numbers mean one thing within a run, for they begin anew with each process; what a restarted StatusReporter
wrote a second time is there once. A file torn by a kill, a power cut or a full disk gives what stands before the tear.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from runtime import trace_files
from runtime.disk import Disk
from runtime.errors import EXIT_FAILED, OperatorError
from runtime.home_lock import living_pid
from runtime.trace import Record

FOLDER = "status/trace"
STATUS = "status/training_status.json"
SAME_START_SECONDS = 30.0
"""The status tells when the daemon started: so far from a run's first record it is another's start."""
SAME_CLOCK_SECONDS = 1.0
"""Within a run the monotonic clock goes back by no more than the order of writing may differ from that of happening."""

End = Literal["stopped", "gave up", "killed", "still running"]


class Delivery(msgspec.Struct):
    """One message on its way to one actor. Times are monotonic seconds; ``None``: it did not come to that."""

    id: int
    cause: int
    sender: str
    recipient: str
    type: str
    body: trace_files.Body
    sent_at: float
    begun_at: float | None = None
    done_at: float | None = None
    handled_s: float = 0.0
    attempts: int = 0
    end: str = ""

    @property
    def queued_s(self) -> float | None:
        """How long it lay in the mailbox before it was first taken up."""
        return None if self.begun_at is None else self.begun_at - self.sent_at

    def field(self, name: str) -> Any:
        """A field of the message, ``None`` if it has none of that name."""
        return self.body.value.get(name) if isinstance(self.body.value, dict) else None


class Run:
    """What one process recorded, in order. ``number``: 1 is the oldest that is still recorded."""

    def __init__(self, records: list[Record], number: int = 1) -> None:
        self.records = records
        self.number = number
        self.lives = False

    @property
    def began(self) -> datetime | None:
        """The wall time of its first record."""
        return self.wall(self.records[0].at)

    @property
    def ended(self) -> datetime | None:
        """The wall time of its last record."""
        return self.wall(self.records[-1].at)

    @cached_property
    def end(self) -> End:
        """How it ended. An orderly stop is told to everyone, last to the one that started first."""
        stops = [r for r in self.records if r.kind == "sent" and r.type == "Stop" and r.sender == "supervisor"]
        first = next((r.recipient for r in self.records if r.kind == "started"), "")
        if self.whole and stops and stops[-1].recipient == first:
            return "gave up" if self._gave_up else "stopped"
        # Of a life whose first records are let go, who started first is not known; the one that writes is the last.
        if not self.whole and stops and stops[-1].number >= self.records[-1].number - 1:
            return "gave up" if self._gave_up else "stopped"
        return "still running" if self.lives else "killed"

    @property
    def _gave_up(self) -> bool:
        return any(
            r.kind == "sent" and r.type == "ActorGaveUp" and not r.body.value.get("disabled") for r in self.records
        )

    @property
    def whole(self) -> bool:
        """Is the beginning still there? The oldest files are let go."""
        return bool(self.records) and self.records[0].number == 1

    @cached_property
    def batches(self) -> dict[str, str]:
        """The batches that were claimed, or taken up again, and the names of their files."""
        claimed = (d for d in self.deliveries.values() if d.type == "BatchClaimed")
        return {str(delivery.field("batch")): str(delivery.field("name")) for delivery in claimed}

    @cached_property
    def deliveries(self) -> dict[int, Delivery]:
        """By id, in the order in which they were sent."""
        found: dict[int, Delivery] = {}
        for record in self.records:
            if record.kind == "sent":
                found[record.id] = Delivery(
                    record.id, record.cause, record.sender, record.recipient, record.type, record.body, record.at
                )
                continue
            delivery = found.get(record.id)
            if delivery is None:
                continue
            match record.kind:
                case "begun":
                    delivery.attempts += 1
                    delivery.begun_at = record.at if delivery.begun_at is None else delivery.begun_at
                    began = record.at
                    delivery.done_at, delivery.handled_s = None, delivery.handled_s - began
                case "done" | "crashed":
                    delivery.done_at = record.at
                    delivery.handled_s += record.at
                    delivery.end = "crashed" if record.kind == "crashed" else ""
                case "dead" | "dropped":
                    delivery.end = record.kind
        for delivery in found.values():
            if delivery.attempts and delivery.done_at is None:
                delivery.handled_s = 0.0  # it was in hand when the trace ended
        return found

    @cached_property
    def _walls(self) -> list[tuple[float, datetime]]:
        """What the wall clock showed, and when."""
        return [(r.at, datetime.fromisoformat(r.body.value)) for r in self.records if r.kind == "clock"]

    def wall(self, at: float) -> datetime | None:
        """What the wall clock showed then; ``None`` if no record of this run tells."""
        if not self._walls:
            return None
        place = max(0, bisect.bisect_right(self._walls, at, key=lambda known: known[0]) - 1)
        known_at, shown = self._walls[place]
        return shown + timedelta(seconds=at - known_at)


def runs(records: Iterable[Record]) -> list[Run]:
    """Records as runs, oldest first."""
    found: list[list[Record]] = []
    moments: dict[int, float] = {}
    last = 0
    for record in records:
        if record.number > last and found and record.at < found[-1][-1].at - SAME_CLOCK_SECONDS:
            last = 0  # the machine was started anew in between, and the beginning of this life is let go
        if record.number <= last:
            if moments.get(record.number) == record.at:
                continue  # written again by a StatusReporter that was restarted
            last = 0
        if last == 0:
            found.append([])
            moments = {}
        last = record.number
        moments[last] = record.at
        found[-1].append(record)
    return [Run(one, number) for number, one in enumerate(found, 1)]


def read_runs(home: Path) -> list[Run]:
    """Every run that is still recorded, oldest first; at least one.

    Raises:
        OperatorError: NF-CONF-011, nothing is recorded.
    """
    found = runs(_read(Disk(home)))
    if not found:
        raise OperatorError(
            "NF-CONF-011",
            f"{home / FOLDER} holds no trace",
            hint="the daemon writes it while it runs, unless [status_reporter] trace_on_disk is false",
            exit_code=EXIT_FAILED,
        )
    found[-1].lives = _is_living(home, found[-1])
    return found


def pick_run(found: list[Run], number: int | None) -> Run:
    """The run of that number, the newest without one.

    Raises:
        OperatorError: NF-CONF-011, there is none of that number.
    """
    if number is None:
        return found[-1]
    if not 1 <= number <= len(found):
        raise OperatorError(
            "NF-CONF-011",
            f"there is no run {number} in the trace",
            hint=f"there are 1 to {len(found)}, the newest last; nightfold trace HOME list tells what they are",
        )
    return found[number - 1]


def _is_living(home: Path, run: Run) -> bool:
    """Is it the living daemon that recorded this? It may be told not to record."""
    if living_pid(home) is None or run.began is None:
        return False
    try:
        started = datetime.fromisoformat(msgspec.json.decode((home / STATUS).read_bytes())["started"])
        return abs((started - run.began).total_seconds()) < SAME_START_SECONDS or not run.whole
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return False


def _read(disk: Disk) -> Iterator[Record]:
    for path in trace_files.files(disk, FOLDER):
        try:
            data = disk.read(path)
        except FileNotFoundError:
            continue  # rotated away between the listing and now
        # A power cut may leave zeros where the last second was, and a disk that was full half a frame with others
        # behind it: neither decodes.
        with contextlib.suppress(msgspec.DecodeError):
            yield from trace_files.decode(data)


_TELLING = ("batch", "name", "step", "steps", "generation", "night", "timer", "why", "purpose", "path", "actor")
_WORDS_MAX = 60


def brief(body: trace_files.Body, *, leave_out: Collection[str] = ()) -> str:
    """The few fields of a message that tell it from others of its type."""
    if not isinstance(body.value, dict):
        return ""
    names = [name for name in _TELLING if name not in leave_out and body.value.get(name) not in (None, "", 0)]
    return " ".join(f"{name}={_short(body.value[name])}" for name in names)


def _short(value: Any) -> str:
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return text if len(text) <= _WORDS_MAX else f"{text[:_WORDS_MAX]}…"


def seconds(value: float) -> str:
    """A stretch of time in at most three digits."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    if value < 1:
        return f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s" if value < 600 else f"{value / 60:.0f} min"


def is_observer(actor: str) -> bool:
    """Actors that only listen: leaving them out of a picture hides nothing of the work."""
    return actor in ("status_reporter", "last_one_out") or actor.startswith("plugins.")
