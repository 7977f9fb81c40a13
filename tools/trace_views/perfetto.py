"""Runs as Chrome trace JSON, which opens in https://ui.perfetto.dev: what each actor did when, and who set it off.

One process for each run. In it, tracks for each actor: its handlings; its mailbox, where each message that had to wait
is a slice; its blocking jobs; its device. Arrows lead from the sender's handling, over the mailbox, to the receiver's.
Crashes, restarts, messages that were given up and the end of a run are moments.

The format: ``X`` is a slice with a duration, ``s``, ``t`` and ``f`` begin, lead on and end an arrow and bind to the
slice around them, ``i`` is a moment, ``M`` names a process or a track. Times are microseconds from the first record of
the first run shown. Slices of one track never overlap: a mailbox has as many lanes as messages wait in it at once, up
to ``LANES_MAX``.

When a job began is not recorded, only its end: its slice begins with the last thing its actor did before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.trace import Record
from tools.trace_views.recorded import Delivery, Run, brief

LANES_MAX = 16
"""More messages waiting at once than this are in no lane; the receiving slice still tells how long each waited."""

# An actor's tracks, as offsets from its own number.
HANDLING, DEVICE, BLOCKING, MAILBOX = 0, 1, 2, 3
TRACKS_EACH = MAILBOX + LANES_MAX

_HOUSE = "the daemon"
_RANK = {"X": 0, "t": 1, "s": 2, "f": 3, "i": 4}


def perfetto(runs: Sequence[Run]) -> bytes:
    """The whole file."""
    first = runs[0]
    zero = first.records[0].at
    wall = first.wall(zero)
    events: list[dict[str, Any]] = []
    for run in runs:
        # Two runs have only the wall clock in common.
        shift = 0.0 if run is first else zero - run.records[0].at
        if run is not first and wall is not None and run.began is not None:
            shift += max(0.0, (run.began - wall).total_seconds())
        events += _Process(run, shift - zero).events()
    about = {"began": wall.isoformat()} if wall else {}
    return msgspec.json.encode({"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}) + b"\n"


class _Process:
    """One run on its way to events. ``shift`` brings its monotonic seconds onto the file's."""

    def __init__(self, run: Run, shift: float) -> None:
        self._run = run
        self._shift = shift
        self._events: list[dict[str, Any]] = []
        self._tracks: dict[str, int] = {}
        self._named: dict[int, str] = {}
        self._in_hand: dict[str, Record] = {}
        self._last_deed: dict[str, float] = {}
        self._last_start = run.records[0].at
        self._starts: dict[tuple[str, int], float] = {}
        self._job_end: dict[int, float] = {}
        self._lanes: dict[str, list[float]] = {}
        self._taken: set[int] = set()

    def events(self) -> list[dict[str, Any]]:
        """Every event of the run, the names of its tracks first."""
        for record in self._run.records:
            self._note(record)
        last = self._run.records[-1]
        for actor, begun in self._in_hand.items():
            self._handled(begun, last, actor)
        self._moment(_HOUSE, last.at, self._run.end, "run", scope="p")
        began = self._run.began
        when = f" of {began:%F %T}" if began else ""
        name = f"run {self._run.number}{when}, {self._run.end}"
        meta = [self._meta("process_name", 0, name=name), self._meta("process_sort_index", 0, sort_index=self._pid)]
        for track, words in sorted(self._named.items()):
            meta += [self._meta("thread_name", track, name=words)]
            meta += [self._meta("thread_sort_index", track, sort_index=track)]
        # An arrow binds to a slice that is open at its moment: of one moment, slices come first.
        self._events.sort(key=lambda event: (event["ts"], _RANK[event["ph"]]))
        return [*meta, *self._events]

    @property
    def _pid(self) -> int:
        return self._run.number

    def _meta(self, kind: str, track: int, **arguments: object) -> dict[str, Any]:
        return {"ph": "M", "name": kind, "pid": self._pid, "tid": track, "ts": 0, "args": arguments}

    def _track(self, actor: str, kind: int = HANDLING) -> int:
        """The number of a track; 0 is the process itself."""
        track = self._tracks.setdefault(actor, 1 + len(self._tracks) * TRACKS_EACH) + kind
        if track not in self._named:
            lane = f" {kind - MAILBOX + 1}" if kind > MAILBOX else ""
            self._named[track] = (
                actor + {HANDLING: "", DEVICE: ": device", BLOCKING: ": blocking"}.get(kind, f": mailbox{lane}")
            )  # fmt: skip
        return track

    def _stamp(self, at: float) -> float:
        return max(0.0, round((at + self._shift) * 1e6, 3))

    def _event(self, phase: str, name: str, track: int, at: float, **more: Any) -> None:
        self._events.append({"ph": phase, "name": name, "pid": self._pid, "tid": track, "ts": self._stamp(at), **more})

    def _slice(self, name: str, track: int, began: float, ended: float, cat: str, **arguments: Any) -> None:
        dur = max(0.0, round(self._stamp(ended) - self._stamp(began), 3))
        self._event("X", name, track, began, dur=dur, cat=cat, args=arguments)

    def _moment(self, actor: str, at: float, words: str, cat: str, scope: str = "t") -> None:
        self._event("i", words, self._track(actor), at, s=scope, cat=cat)

    def _note(self, record: Record) -> None:
        match record.kind:
            case "sent":
                self._last_deed[record.sender] = record.at
            case "replied":
                self._last_deed[record.recipient] = record.at
            case "begun":
                self._in_hand[record.recipient] = record
                self._last_deed[record.recipient] = record.at
                self._arrive(record)
            case "done" | "crashed":
                # A job that the handler gave to the thread was given by now.
                self._starts[record.recipient, record.id] = self._last_deed.get(record.recipient, record.at)
                self._end_slice(record)
                if record.kind == "crashed":
                    self._moment(record.recipient, record.at, f"crashed: {record.body.value or ''}", "crash")
            case "job":
                # Actors start one after the other, so one that was never up began when the one before was.
                self._job(record, BLOCKING, self._last_deed.get(record.sender, self._last_start))
            case "device":
                self._job(record, DEVICE, self._given(record))
            case "dead" | "dropped":
                self._end_slice(record)
                self._moment(record.recipient, record.at, f"{record.kind}: {record.type}", record.kind)
            case "started" | "stopped":
                words = f"{record.kind}, incarnation {record.attempt}"
                self._moment(record.recipient, record.at, words, "incarnation")
                self._last_deed[record.recipient] = record.at
                self._last_start = record.at if record.kind == "started" else self._last_start

    def _end_slice(self, record: Record) -> None:
        begun = self._in_hand.get(record.recipient)
        if begun is not None and begun.id == record.id:
            del self._in_hand[record.recipient]
            self._handled(begun, record, record.recipient)

    def _given(self, record: Record) -> float:
        """When a device job was given to the thread, at the earliest."""
        last_deed = self._last_deed.get(record.sender, record.at)
        return self._starts.get((record.sender, record.id), last_deed) if record.attempt else last_deed

    def _job(self, record: Record, kind: int, given: float) -> None:
        track = self._track(record.sender, kind)
        # One after the other: what was given while another ran began when that one ended.
        began = min(record.at, max(given, self._job_end.get(track, given)))
        self._job_end[track] = record.at
        self._last_deed[record.sender] = max(record.at, self._last_deed.get(record.sender, record.at))
        delivery = self._run.deliveries.get(record.id)
        words = f"for {delivery.type}" if delivery is not None else "while it starts or stops"
        cat = "blocking" if kind == BLOCKING else "device"
        self._slice(words, track, began, record.at, cat, result=record.type, delivery=record.id)

    def _handled(self, begun: Record, ended: Record, actor: str) -> None:
        delivery = self._run.deliveries.get(begun.id)
        arguments = _arguments(begun.id, delivery, begun.attempt)
        if ended.kind != "done":
            arguments["end"] = ended.kind if ended.id == begun.id else "in hand when the trace ends"
        self._slice(begun.type, self._track(actor), begun.at, ended.at, "handler", **arguments)

    def _arrive(self, begun: Record) -> None:
        """A message is taken up: the time it waited as a slice, and the arrow that leads here."""
        delivery = self._run.deliveries.get(begun.id)
        if delivery is None or begun.id in self._taken:
            return
        self._taken.add(begun.id)
        lane = self._lane(delivery, begun.at)
        if lane is not None:
            self._slice(delivery.type, lane, delivery.sent_at, begun.at, "queue", id=begun.id, sender=delivery.sender)
        # An arrow needs a slice to start from: what a timer or the outside sends has none, nor an actor that starts.
        source = self._source(delivery)
        if source is None:
            return
        arrow = {"cat": "message", "id": self._pid * 10**9 + begun.id}
        self._event("s", delivery.type, source, delivery.sent_at, **arrow)
        if lane is not None:
            self._event("t", delivery.type, lane, delivery.sent_at, **arrow)
        self._event("f", delivery.type, self._track(begun.recipient), begun.at, bp="e", **arrow)

    def _source(self, delivery: Delivery) -> int | None:
        """The track whose slice the message left from."""
        cause = self._run.deliveries.get(delivery.cause)
        if cause is None or cause.begun_at is None or cause.recipient != delivery.sender:
            return None
        until = cause.done_at if cause.done_at is not None else delivery.sent_at
        return self._track(delivery.sender) if cause.begun_at <= delivery.sent_at <= until else None

    def _lane(self, delivery: Delivery, until: float) -> int | None:
        """A lane of the mailbox that is free for so long; ``None`` if it did not wait, or there are too many."""
        if self._stamp(until) <= self._stamp(delivery.sent_at):
            return None
        lanes = self._lanes.setdefault(delivery.recipient, [])
        place = next((n for n, busy_until in enumerate(lanes) if busy_until <= delivery.sent_at), len(lanes))
        if place == LANES_MAX:
            return None
        lanes[place:] = [until, *lanes[place + 1 :]]
        return self._track(delivery.recipient, MAILBOX + place)


def _arguments(number: int, delivery: Delivery | None, attempt: int) -> dict[str, Any]:
    if delivery is None:
        return {"id": number}
    return {
        "id": number,
        "cause": delivery.cause,
        "sender": delivery.sender,
        "attempt": attempt,
        "queued_ms": round((delivery.queued_s or 0.0) * 1e3, 3),
        "message": brief(delivery.body),
    }
