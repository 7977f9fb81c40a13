"""Replays one incarnation: a fresh instance, fed what is recorded, each handling held against what was said in it then.

Stops at the first difference, or where the record could not keep what the actor wants. The two are never mixed.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any, cast

import msgspec

from runtime import Child, Tick, trace_files
from runtime.actor import handlers_of
from runtime.cell import Cell, DeviceJobError, DeviceRaised
from runtime.tree import Branch, children_of
from tools.replay_cell import NotRecorded, NotWantedThen, ReplayCell
from tools.replay_difference import Difference, compare, compare_later, first_field, plain, words
from tools.replay_outside import watched
from tools.replay_record import Handling, Incarnation, ended_from_outside
from tools.replay_window import Window
from tools.trace_views.recorded import brief

STUCK_SECONDS = 10.0
"""How long a handling may wait for something that no record gives it."""


class Outcome(msgspec.Struct):
    """How far the replay came.

    Attributes:
        messages_in, messages_out: that agreed; ``of_in`` and ``of_out`` are all that are recorded.
        why: the first difference in one line, ``""`` if it agreed; ``details`` say more.
        missing: why it could not go on to the end of the record, ``""`` if it could.
    """

    of_in: int
    of_out: int
    messages_in: int = 0
    messages_out: int = 0
    why: str = ""
    details: list[str] = []
    missing: str = ""
    notes: list[str] = []


class _Differs(Exception):
    """The replay does not say what the record says."""

    def __init__(self, difference: Difference) -> None:
        super().__init__(difference.what)
        self.difference = difference


async def replay(child: Child, one: Incarnation, tree: Branch, cells: list[ReplayCell]) -> Outcome:
    """Feed a fresh instance everything that is recorded. ``cells`` is given the cell, for whoever must look in."""
    run = one.run
    heard = {record.type for record in run.records if record.kind in ("sent", "dropped")}
    heard |= {message.__name__ for each in children_of(tree) for message in handlers_of(each.actor)}
    cell = ReplayCell(child.name, run.wall, run.records, lambda message: type(message).__name__ in heard)
    cells.append(cell)
    actor = child.build()
    actor._cell = cast("Cell", cell)
    if child.settings is not None:
        actor.settings = child.settings
    on_start = Window(child.name, one.began, one.on_start)
    windows = [Window(child.name, each.begun.at, each.records, each.begun.id) for each in one.handlings]
    outcome = Outcome(len(windows), sum(len(window.said) for window in (on_start, *windows)))
    replayed = _Replayed(cell, one, outcome)
    what = "on_start"
    try:
        await replayed.one(on_start, actor.on_start(), one.crash, None)
        for handling, window in zip(one.handlings, windows, strict=True):
            begun = handling.begun
            about = brief(handling.message) if handling.message is not None else ""
            place = f"message {outcome.messages_in + 1} of {outcome.of_in} in"
            what = f"{begun.type} #{begun.id} from {begun.sender}" + (f" ({about})" if about else "") + f", {place}"
            if not handling.end or ended_from_outside(handling):
                why = handling.crash or (
                    "it was still in hand when the record ends" if one.end in ("cut off", "gap") else "it was cancelled"
                )
                outcome.notes.append(f"{what}, is left out: {why}")
                break
            await replayed.one(window, _handle(cell, actor, child, handling), handling.crash, handling)
            outcome.messages_in += 1
    except (NotRecorded, NotWantedThen) as missing:
        outcome.missing = f"{what}, cannot be replayed: the record does not hold {missing}"
    except _Differs as differs:
        found = differs.difference
        outcome.why = f"{found.what}, at {what}"
        said = outcome.messages_out + found.place
        which = f"message {said + 1} of" if found.is_message else f"after {said} of"
        outcome.details = [f"which    {which} the {outcome.of_out} it said", f"in hand  {what}"]
        outcome.details += [f"field    {found.field}"] if found.field else []
        outcome.details += [f"recorded {found.recorded}", f"replayed {found.replayed}"]
    return outcome


async def _handle(cell: ReplayCell, actor: Any, child: Child, handling: Handling) -> Any:
    if handling.message is None:
        cell.miss("the message itself; it was sent before the trace begins")
    try:
        message = trace_files.revive(handling.message)
    except (ImportError, AttributeError, msgspec.ValidationError) as error:
        cell.miss(f"the message in a shape that this version knows: {error}")
    match message:
        case Tick(timer=timer, day=None):
            return await getattr(actor, timer)()
        case Tick(timer=timer, day=day):
            return await getattr(actor, timer)(day)
        case DeviceRaised(why=why):
            raise DeviceJobError(why)
    handler = handlers_of(child.actor).get(type(message))
    if handler is None:
        raise _Differs(Difference(0, "it no longer handles this type", "a handler", "none"))
    return await getattr(actor, handler.method)(message)


class _Replayed:
    """One handling after the other, each held against its window."""

    def __init__(self, cell: ReplayCell, incarnation: Incarnation, outcome: Outcome) -> None:
        self._cell = cell
        self._of = incarnation
        self._outcome = outcome
        self._looked: set[str] = set()

    async def one(
        self, window: Window, work: Coroutine[Any, Any, Any], crashed: str, handling: Handling | None
    ) -> None:
        """Do ``work`` and compare. ``crashed``: how it ended then, ``""`` if in order."""
        cell = self._cell
        cell.open(window)
        crash, answer = "", None
        try:
            with watched(self._note_look, cell.miss):
                async with asyncio.timeout(STUCK_SECONDS):
                    answer = await work
        except (NotRecorded, NotWantedThen, _Differs) as error:
            if isinstance(error, _Differs):
                raise
            cell.missing = cell.missing or error
        except TimeoutError as error:
            if not str(error):
                cell.missing = cell.missing or NotRecorded("what it waits for")
            crash = _line(error)
        except Exception as error:  # noqa: BLE001 - stands where the supervisor stood: a crash is an outcome to compare
            crash = _line(error)
        self._take_what_came_due(window)
        # If it had already said something else, that is the news, and what follows only comes of it.
        found = compare(window.said, cell.said, partly=True)
        if found is None and cell.missing is None:
            found = self._ending(window, crash, crashed, answer, handling)
        if isinstance(cell.missing, NotWantedThen) and found is None:
            then = f"crashed ({crashed})" if crashed else "went on without"
            what = f"it {cell.missing} now, and did not then or gave up waiting"
            found = Difference(len(cell.said), what, f"it {then}", f"it {cell.missing}")
        if found is not None:
            raise _Differs(found)
        if cell.missing is not None:
            raise cell.missing
        self._outcome.messages_out += len(window.said)

    def _note_look(self, what: str) -> None:
        if what not in self._looked:
            self._looked.add(what)
            self._outcome.notes.append(f"it {what} past self.blocking: not recorded, so it was done again")

    def _take_what_came_due(self, window: Window) -> None:
        """What it said to itself for later and was due at once stands among what it said then."""
        cell = self._cell
        got = [(type(message).__name__, plain(message)) for message in cell.said]
        for later in list(cell.later):
            name, value = type(later.message).__name__, plain(later.message)
            due = next(
                (s for s in window.said if s.type == name and s.recipients == [cell.name] and s.value == value), None
            )
            if due is not None and (name, value) not in got:
                window.said.remove(due)
                self._outcome.of_out -= 1
                cell.later.remove(later)

    def _ending(
        self, window: Window, crash: str, crashed: str, answer: Any, handling: Handling | None
    ) -> Difference | None:
        cell, place = self._cell, len(self._cell.said)
        if crash != crashed:
            was, now = crashed or "it did not crash", crash or "it does not crash"
            how = "it crashes now, and did not then" if not crashed else "it crashed then, and does not now"
            return Difference(place, how if not (crash and crashed) else "it crashes otherwise", was, now)
        if (found := compare(window.said, cell.said, partly=False)) is not None:
            return found
        if crash:
            return None
        delivery = handling.begun.id if handling is not None else None
        for results, what in ((window.jobs, "a blocking job"), (window.device, "a device job")):
            mine = [record for record in results if delivery is None or record.id == delivery]
            if mine:
                waited = f"waits for {what} that gives {mine[0].type} {words(mine[0].body.value)}"
                return Difference(place, f"it waited for {what} then, and does not now", waited, "it does not wait")
        cause = delivery or 0
        given = self._of.from_thread.get(cause, 0)
        if cell.to_thread < given:
            what = "it gave its thread a job then, and does not now"
            return Difference(place, what, f"{given} jobs of on_device", str(cell.to_thread))
        cell.to_thread -= given
        came = [(record.type, record.body.value) for record in self._of.later.get(cause, ())]
        # What on_start says for later may bear the number of a message that is to be handled again: seen to with that.
        over_at = self._of.ended if handling is not None else 0.0
        if (found := compare_later(came, cell.later, place, over_at)) is not None:
            return found
        if handling is not None and handling.answer is not None:
            differs = first_field(handling.answer.body.value, plain(answer), "")
            if differs is not None:
                field, was, now = differs
                return Difference(place, "it answers otherwise", words(was), words(now), f"answer{field}")
        return None


def _line(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)[:1]).strip()
