"""``nightfold trace HOME replay ACTOR``: give an actor what it was given, and see whether it says what it said.

The newest incarnation that is recorded from its start is built anew from the home's config and fed its messages in
order, with the recorded clock, results of jobs and answers. Nothing outside is touched. An actor that agrees is a
function of its record: a bug report that replays, replays on any machine.

What is not replayed: ``on_stop``, and a message still in hand when the record ends. What counts as the same: equal
data, but for lengths of time within ``SPAN_TOLERANCE_SECONDS`` and times of day within ``MOMENT_TOLERANCE_SECONDS``,
for the clock is only known where something was recorded. A wall clock that was set is noted within the minute; what an
actor decided by it in between shows as a difference.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.trainer.engine import Engine
from runtime import Child, Tick, trace_files
from runtime.actor import handlers_of
from runtime.cell import Cell, DeviceJobError, DeviceRaised
from runtime.errors import EXIT_FAILED, OperatorError
from runtime.trace import Record
from runtime.tree import Branch, children_of
from tools.house import house, read_config, silent_parts
from tools.replay_cell import NotRecorded, ReplayCell, ReplayClock, Said, Window
from tools.trace_views.recorded import Run, read_runs

SPAN_TOLERANCE_SECONDS = 0.25
MOMENT_TOLERANCE_SECONDS = 2.0
STUCK_SECONDS = 10.0
SPAN_NAMES = ("seconds", "_s", "per_second")


class Handling(msgspec.Struct):
    """One message in hand, as recorded. ``end``: ``done``, or ``crashed`` with its ``crash`` line."""

    begun: Record
    message: trace_files.Body | None
    records: list[Record]
    end: str = ""
    crash: str = ""
    answer: Record | None = None


class Incarnation(msgspec.Struct):
    """What is recorded of one instance, from before its ``on_start``."""

    started: Record
    on_start: list[Record]
    handlings: list[Handling]


class Outcome(msgspec.Struct):
    """How far the replay came; ``why`` is empty if it agreed to the end."""

    messages_in: int = 0
    messages_out: int = 0
    why: str = ""
    notes: list[str] = []


class _RecordedMerger:
    """Answers as the merger did, read off what the Consolidator said next: what merges is outside of any actor."""

    def __init__(self, cell: Callable[[], ReplayCell]) -> None:
        self._cell = cell

    def _next(self, kind: str) -> Said | None:
        return next((said for said in self._cell().expected if said.type == kind), None)

    def forecast_bytes(self) -> int:
        asked = self._next("SpaceNeeded")
        return int(asked.value["need_bytes"]) if asked else 0

    async def merge(self, _request: MergeRequest) -> MergeDone | MergeRefused:
        if (proven := self._next("NightVerified")) is not None:
            told = proven.value
            return MergeDone(told["tensors"], 0, told["max_logit_difference"], told["seconds"])
        if (refused := self._next("NightRefused")) is not None:
            return MergeRefused(refused.value["code"], refused.value["why"])
        raise NotRecorded("how the merge ended")


class _Differs(Exception):
    """The replay does not say what the record says."""


def replay_command(home: Path, actor: str) -> tuple[bool, list[str]]:
    """Replay ``actor`` (a plug-in by its own name, too); returns whether it agreed, and what to print.

    Raises:
        OperatorError: NF-CONF-011, no such actor, or its start is not recorded.
    """
    cells: list[ReplayCell] = []
    # No engine is ever asked: it works in the Trainer's thread, and no job runs.
    parts = silent_parts(lambda: cast("Engine", object()), lambda: _RecordedMerger(lambda: cells[-1]))
    tree = house(read_config(home), parts)
    child = _child(tree, actor)
    run, incarnation = newest_incarnation(read_runs(home), child.name)
    outcome = asyncio.run(replay(child, run, incarnation, tree, cells))
    wall = run.wall(incarnation.started.at)
    lines = [f"{child.name}, incarnation {incarnation.started.attempt}" + (f", up since {wall:%F %T}" if wall else "")]
    counts = f"{outcome.messages_in} messages in, {outcome.messages_out} out"
    if child.name.startswith("plugins."):
        lines.append("note: what a plug-in does past self.blocking is not recorded, so it was done again")
    lines += [f"note: {note}" for note in outcome.notes]
    lines.append(f"replay differs after {counts}: {outcome.why}" if outcome.why else f"replay agrees: {counts}")
    return not outcome.why, lines


def _child(tree: Branch, name: str) -> Child:
    children = {child.name: child for child in children_of(tree)}
    found = children.get(name) or children.get(f"plugins.{name}")
    if found is None:
        raise OperatorError("NF-CONF-011", f"no actor is called {name!r}", hint=f"there are: {', '.join(children)}")
    return found


def newest_incarnation(runs: list[Run], actor: str) -> tuple[Run, Incarnation]:
    """The newest instance whose whole life is recorded.

    Raises:
        OperatorError: NF-CONF-011, there is none.
    """
    for run in reversed(runs):
        places = [n for n, r in enumerate(run.records) if r.kind == "started" and r.recipient == actor]
        if not places:
            continue
        at = places[-1]
        ends = [n for n, r in enumerate(run.records[:at]) if r.kind == "stopped" and r.recipient == actor]
        if not ends and not run.whole:
            continue
        begin = ends[-1] + 1 if ends else 0
        return run, Incarnation(
            run.records[at], _unbroken(run.records[begin:at]), _handlings(run, actor, _unbroken(run.records[at + 1 :]))
        )
    raise OperatorError(
        "NF-CONF-011",
        f"the start of {actor} is not in the trace, so what it knew is not known",
        hint="the oldest records are let go; raise [status_reporter] trace_files, or restart the daemon and try again",
        exit_code=EXIT_FAILED,
    )


def _unbroken(records: list[Record]) -> list[Record]:
    """Up to the first gap: the ring may have overflowed before it could be written."""
    for place in range(1, len(records)):
        if records[place].number != records[place - 1].number + 1:
            return records[:place]
    return records


def _handlings(run: Run, actor: str, records: list[Record]) -> list[Handling]:
    found: list[Handling] = []
    answers: dict[int, Record] = {}
    in_hand: Handling | None = None
    for record in records:
        if record.kind == "stopped" and record.recipient == actor:
            break
        if record.kind == "replied" and record.sender == actor:
            answers[record.id] = record
        if record.kind == "begun" and record.recipient == actor:
            delivery = run.deliveries.get(record.id)
            in_hand = Handling(record, delivery.body if delivery else None, [])
            found.append(in_hand)
        elif in_hand is not None:
            if record.kind in ("done", "crashed") and record.recipient == actor and record.id == in_hand.begun.id:
                in_hand.end, in_hand.crash = record.kind, str(record.body.value or "")
                in_hand = None
            else:
                in_hand.records.append(record)
    for handling in found:
        handling.answer = answers.get(handling.begun.id)
    return found


async def replay(child: Child, run: Run, incarnation: Incarnation, tree: Branch, cells: list[ReplayCell]) -> Outcome:
    """Feed a fresh instance everything that is recorded. ``cells`` is given the cell, for whoever must look in."""
    heard = {record.type for record in run.records if record.kind in ("sent", "dropped")}
    heard |= {message.__name__ for each in children_of(tree) for message in handlers_of(each.actor)}
    cell = ReplayCell(child.name, ReplayClock(run.wall), lambda message: type(message).__name__ in heard)
    cells.append(cell)
    actor = child.build()
    actor._cell = cast("Cell", cell)
    if child.settings is not None:
        actor.settings = child.settings
    outcome = Outcome()
    began = incarnation.on_start[0].at if incarnation.on_start else incarnation.started.at
    what = "on_start"
    try:
        await _one(cell, Window(child.name, began, incarnation.on_start), actor.on_start(), None)
        outcome.messages_out += len(cell.said)
        for handling in incarnation.handlings:
            what = f"{handling.begun.type} #{handling.begun.id} from {handling.begun.sender}"
            if not handling.end:
                outcome.notes.append(f"{what} was still in hand when the record ends; it is left out")
                break
            window = Window(child.name, handling.begun.at, handling.records)
            await _one(cell, window, _handle(actor, child, handling), handling)
            outcome.messages_in += 1
            outcome.messages_out += len(cell.said)
    except NotRecorded as missing:
        outcome.why = f"at {what}: the record does not hold {missing}"
    except _Differs as difference:
        outcome.why = f"at {what}: {difference}"
    return outcome


async def _handle(actor: Any, child: Child, handling: Handling) -> Any:
    if handling.message is None:
        raise NotRecorded("the message itself; it was sent before the trace begins")
    message = trace_files.revive(handling.message)
    match message:
        case Tick(timer=timer, day=None):
            return await getattr(actor, timer)()
        case Tick(timer=timer, day=day):
            return await getattr(actor, timer)(day)
        case DeviceRaised(why=why):
            raise DeviceJobError(why)
    return await getattr(actor, handlers_of(child.actor)[type(message)].method)(message)


async def _one(cell: ReplayCell, window: Window, work: Coroutine[Any, Any, Any], handling: Handling | None) -> None:
    cell.open(window)
    crash = ""
    answer: Any = None
    try:
        async with asyncio.timeout(STUCK_SECONDS):
            answer = await work
    except NotRecorded as missing:
        # If it had already said something else, that is the news, and what is missing only follows from it.
        _compare(window, cell, partly=True)
        raise missing from None
    except TimeoutError as error:
        raise NotRecorded("what it waits for") from error
    except Exception as error:  # noqa: BLE001 - stands where the supervisor stood: a crash is an outcome to compare
        crash = "".join(traceback.format_exception_only(error)[:1]).strip()
    _compare(window, cell, partly=bool(crash))
    recorded = handling.crash if handling is not None and handling.end == "crashed" else ""
    if crash != recorded:
        raise _Differs(f"{_crashed(recorded)} in the record, {_crashed(crash)} in the replay")
    if handling is not None and handling.answer is not None:
        path = difference(handling.answer.body.value, _plain(answer), "answer")
        if path:
            raise _Differs(path)


def _crashed(line: str) -> str:
    return f"it crashed ({line})" if line else "it did not crash"


def _compare(window: Window, cell: ReplayCell, *, partly: bool) -> None:
    """Hold what was said now against what was said then."""
    got = [(type(message).__name__, _plain(message)) for message in cell.said]
    expected = list(window.said)
    for message in list(cell.later):
        # A message to itself that came due while another was in hand.
        name, value = type(message).__name__, _plain(message)
        due = next((s for s in expected if s.type == name and s.recipients == [cell.name] and s.value == value), None)
        if due is not None and (name, value) not in got:
            expected.remove(due)
            cell.later.remove(message)
    for place, (name, value) in enumerate(got):
        if place >= len(expected):
            raise _Differs(f"it says {name} now, and did not then: {_words(value)}")
        then = expected[place]
        if name != then.type:
            raise _Differs(f"it said {then.type} then: {_words(then.value)}; and now {name}: {_words(value)}")
        path = difference(then.value, value, name)
        if path:
            raise _Differs(path)
    if len(got) < len(expected) and not partly:
        then = expected[len(got)]
        raise _Differs(f"it said {then.type} then, and does not now: {_words(then.value)}")


def difference(then: Any, now: Any, path: str) -> str:
    """Where two plain values differ, in words; ``""`` if they are the same within the tolerances."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            found = difference(then.get(key), now.get(key), f"{path}.{key}")
            if found:
                return found
        return ""
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return next((found for n, (a, b) in pairs if (found := difference(a, b, f"{path}[{n}]"))), "")
    if then == now or _same_time(then, now, path):
        return ""
    return f"{path} was {_words(then)} then, and is {_words(now)} now"


def _same_time(then: Any, now: Any, path: str) -> bool:
    if isinstance(then, float) and isinstance(now, float) and path.endswith(SPAN_NAMES):
        return abs(then - now) <= max(SPAN_TOLERANCE_SECONDS, 0.05 * abs(then))
    if isinstance(then, str) and isinstance(now, str):
        try:
            apart = datetime.fromisoformat(then) - datetime.fromisoformat(now)
        except (ValueError, TypeError):
            return False
        return "T" in then and abs(apart.total_seconds()) <= MOMENT_TOLERANCE_SECONDS
    return False


def _plain(value: Any) -> Any:
    """As it would stand in the record."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value, enc_hook=repr))


def _words(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
