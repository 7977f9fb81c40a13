"""``nightfold trace HOME replay ACTOR``: give an actor what it was given, and see whether it says what it said.

An incarnation that is recorded from its start is built anew from the home's config and fed its messages in order, with
the recorded clock, results of jobs and answers. An actor that agrees is a function of its record: a bug report that
replays, replays on any machine. One that does not is told by the first message that differs.

From the record come the messages, answers to ``ask``, results of ``blocking``, ``device_call`` and ``on_device``,
timers, and the clock. Nothing outside is touched: what an actor reads past these doors it reads again, which is noted,
and what it would do there ends the replay (``tools.replay_outside``). So does a result that was too large to keep: that
is a note and no difference, for it says nothing about the actor.

What is not replayed: ``on_stop``, and a message still in hand when the record ends. A wall clock that was set is noted
within the minute; what an actor decided by it in between shows as a difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.trainer.engine import Engine
from messages import HeldOutLoss
from runtime import Child, MailboxSpec
from runtime.errors import EXIT_FAILED, OperatorError
from runtime.tree import Branch, children_of
from tools.house import house, read_config, silent_parts
from tools.replay_cell import ReplayCell
from tools.replay_life import Outcome, replay
from tools.replay_record import Incarnation, Missing, incarnations
from tools.replay_window import Said
from tools.trace_views.recorded import Run, pick_run, read_runs

Chosen = int | Literal["all"] | None


class _RecordedMerger:
    """Answers as the merger did, read off what the Consolidator said next: what merges is outside of any actor."""

    def __init__(self, cell: Callable[[], ReplayCell]) -> None:
        self._cell = cell

    def _next(self, kind: str) -> Said | None:
        return next((said for said in self._cell().expected if said.type == kind), None)

    def forecast_bytes(self) -> int:
        return 0  # only ever asked within a job, whose result is in the record

    async def merge(self, _request: MergeRequest) -> MergeDone | MergeRefused:
        if (proven := self._next("NightVerified")) is not None:
            told = proven.value
            asked = self._next("CommitNight")
            digest = str(asked.value.get("model_digest", "")) if asked is not None else ""
            losses = _losses(told)
            return MergeDone(told["tensors"], 0, told["max_logit_difference"], told["seconds"], digest, losses)
        if (refused := self._next("NightRefused")) is not None:
            if (losses := _losses(refused.value)) is not None:
                # The merge was done, and the Consolidator refused it for these figures: let it do so again.
                return MergeDone(0, 0, 0.0, 0.0, held_out=losses)
            return MergeRefused(refused.value["code"], refused.value["why"])
        raise self._cell().missed("how the merge ended")


def _losses(told: Mapping[str, Any]) -> HeldOutLoss | None:
    """The figures in a message; one recorded before there were any has none."""
    found = told.get("held_out")
    return msgspec.convert(found, HeldOutLoss) if found is not None else None


def replay_command(home: Path, actor: str, *, run: Chosen = None, incarnation: Chosen = None) -> tuple[bool, list[str]]:
    """Replay ``actor`` (a plug-in by its own name, too); returns whether all agreed, and what to print.

    Without ``run`` and ``incarnation`` it is the newest incarnation that is recorded whole.

    Raises:
        OperatorError: NF-CONF-011, no such actor, or what was named is not recorded whole.
    """
    cells: list[ReplayCell] = []
    # No engine is ever asked: it works in the Trainer's thread, and no job runs.
    parts = silent_parts(lambda: cast("Engine", object()), lambda: _RecordedMerger(lambda: cells[-1]))
    tree = house(read_config(home), parts, extra=(_last_one_out(),))
    child = _child(tree, actor)
    chosen, lines = choose(read_runs(home), child.name, run, incarnation)
    if child.name.startswith("plugins."):
        lines.append(
            "note: of a plug-in's own doings, self.blocking, device_call, on_device, ask and self.clock come from the "
            "record; chance, the environment and other clocks are asked again"
        )
    agrees = True
    for one in chosen:
        outcome = asyncio.run(replay(child, one, tree, cells))
        agrees = agrees and not outcome.why
        lines += _told(one, outcome)
    return agrees, lines


def _last_one_out() -> Child:
    from tools.daemon import LastOneOut

    # Whether it was asked to end the house when all is trained does not change what it says: it says nothing.
    return Child("last_one_out", LastOneOut, make=lambda: LastOneOut(False), mailbox=MailboxSpec())


def _child(tree: Branch, name: str) -> Child:
    children = {child.name: child for child in children_of(tree)}
    found = children.get(name) or children.get(f"plugins.{name}")
    if found is None:
        raise OperatorError("NF-CONF-011", f"no actor is called {name!r}", hint=f"there are: {', '.join(children)}")
    return found


def choose(runs: list[Run], actor: str, run: Chosen, incarnation: Chosen) -> tuple[list[Incarnation], list[str]]:
    """The incarnations to replay, oldest first, and a note on each that was meant and cannot be.

    Raises:
        OperatorError: NF-CONF-011, there is none.
    """
    if isinstance(run, int):
        among = [pick_run(runs, run)]
    elif isinstance(incarnation, int):
        # Its number means something within a run only: the newest in which this actor lived.
        among = [one for one in runs if run == "all" or any(r.recipient == actor for r in one.records)]
        among = among if run == "all" else among[-1:]
    else:
        among = runs
    known = [found for one in among for found in incarnations(one, actor)]
    if isinstance(incarnation, int):
        known = [one for one in known if one.number == incarnation]
    whole = [one for one in known if isinstance(one, Incarnation)]
    if not whole:
        why = known[-1].why if known and isinstance(known[-1], Missing) else "it was never up"
        raise OperatorError(
            "NF-CONF-011",
            f"the start of {actor} is not in the trace: {why}",
            hint="nightfold trace HOME list tells what is recorded; the oldest records are let go, "
            "[status_reporter] trace_files says how many are kept",
            exit_code=EXIT_FAILED,
        )
    if "all" not in (run, incarnation):
        return whole[-1:], []
    notes = [
        f"note: incarnation {one.number or '?'} of run {one.run.number} is not replayed: {one.why}"
        for one in known
        if isinstance(one, Missing)
    ]
    return whole, notes


def _told(one: Incarnation, outcome: Outcome) -> Iterator[str]:
    wall, ended = one.run.wall(one.began), one.run.wall(one.ended)
    since = f", from {wall:%F %T}" if wall else ""
    until = f" to {ended:%T}" if ended else ""
    ends = {"stopped": "its stop", "crashed": "its crash", "gap": "a gap in the record"}
    end = ends.get(one.end, "where the record ends")
    yield f"{one.actor}, incarnation {one.number} of run {one.run.number}{since}{until}, {end}"
    yield from (f"note: {note}" for note in outcome.notes)
    counts = f"{outcome.messages_in} messages in, {outcome.messages_out} out"
    if outcome.why:
        yield f"replay differs after {counts}: {outcome.why}"
        yield from (f"  {line}" for line in outcome.details)
    elif outcome.missing:
        yield f"note: {outcome.missing}"
        yield f"replay agrees: {counts}; the record goes on to {outcome.of_in} in, {outcome.of_out} out"
    else:
        yield f"replay agrees: {counts}"
