"""What people pinned stays, the bounds of bytes hold, and nothing is deleted but what the dry run would have named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from actors.checkpointer.head import DELTAS, GENERATIONS, SET_ASIDE, SNAPSHOTS, Head, generation_path
from actors.checkpointer.retention import FALL_BACK, Bounds, judge, survey
from runtime import durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head

T = TypeVar("T", int, str)

MODELS = "consolidated_models"
RETRIED_SECONDS = 3700.0
"""Twice as long as it takes until a delete that failed is tried again."""


class WhatIsPinnedStays:
    """From when a pin was answered until somebody asks to unpin it: named by HEAD, on the disk, its model with it."""

    promise = "what is pinned stays"
    when: tuple[Moment, ...] = ("commit", "quiet", "reboot", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        if not self._evidence.pinned:
            return
        disk, head = trial.disk, read_head(trial.disk)
        for kind, name in self._evidence.pinned:
            if self._lost(kind, name):
                continue
            if head is None or not _is_pinned(head, kind, name):
                raise Violation(f"{kind} {name} was pinned, and HEAD does not say so")
            for path in _needed(head, kind, name):
                if disk.stat(path) is None:
                    raise Violation(f"{kind} {name} is pinned, and {path} is gone")

    def _lost(self, kind: str, name: str) -> bool:
        """Pinning keeps nothing from turning on the disk: what is damaged is set aside, whoever pinned it."""
        rotten = self._evidence.rotten
        match kind:
            case "generation":
                return generation_path(int(name)) in rotten
            case "night":
                return self._evidence.night_lost
        return f"{SNAPSHOTS}/{name}" in rotten


def _is_pinned(head: Head, kind: str, name: str) -> bool:
    match kind:
        case "generation":
            return any(kept.pinned for kept in head.kept if str(kept.generation) == name)
        case "night":
            return any(night.pinned for night in head.nights if night.night == name)
    return name in {snapshot.day for snapshot in head.snapshots}


def _needed(head: Head, kind: str, name: str) -> list[str]:
    if kind == "snapshot":
        snapshot = next(one for one in head.snapshots if one.day == name)
        return [f"{SNAPSHOTS}/{name}", *filter(None, (snapshot.model_path,))]
    night = next((one for one in head.nights if one.night == name), None)
    numbers = (int(name),) if night is None else (night.generation, night.folded)
    by_number = {kept.generation: kept for kept in head.kept}
    for number in numbers:
        if number not in by_number:
            raise Violation(f"{kind} {name} is pinned, and HEAD does not keep generation {number}")
    kept = [by_number[number] for number in numbers]
    return [*(one.path for one in kept), *(one.model_path for one in kept if one.model_path)]


class TheBoundsOfBytesHold:
    """What is kept takes no more bytes than allowed, unless nothing of it may go.

    Asked when retention has had its time, and worked out apart from it: whatever may not go may not, and if anything
    else is there, then all of it together fits.
    """

    promise = "the bounds of bytes hold"
    when: tuple[Moment, ...] = ("quiet", "end")

    def __init__(self, evidence: Evidence, bounds: Bounds) -> None:
        self._evidence = evidence
        self._bounds = bounds

    def check(self, trial: Trial) -> None:
        disk, head, bounds = trial.disk, read_head(trial.disk), self._bounds
        let_go_lately = trial.now - self._evidence.let_go_at < RETRIED_SECONDS
        if head is None or let_go_lately or not trial.undisturbed_for(RETRIED_SECONDS):
            return
        must = _must_stay(head)
        sizes = {kept.generation: disk.bytes_of(kept.path) for kept in head.kept}
        _check("generations", sizes, must, bounds.generations_bytes_max)
        models = {kept.model_path for kept in head.kept if kept.generation in must if kept.model_path}
        models |= {snapshot.model_path for snapshot in head.snapshots}
        weights = {path: disk.bytes_of(path) for path in head.models_needed()}
        _check("merged models", weights, models, bounds.nights_bytes_max)
        days = _names(disk, SNAPSHOTS)
        pinned = {snapshot.day for snapshot in head.snapshots}
        snapshots = {day: disk.bytes_of(f"{SNAPSHOTS}/{day}") for day in days}
        _check("snapshots", snapshots, {*pinned, *days[-1:]}, bounds.snapshots_bytes_max)


def _must_stay(head: Head) -> set[int]:
    numbers = [kept.generation for kept in head.kept]
    must = {head.generation, *sorted(numbers)[-FALL_BACK:], *(kept.generation for kept in head.kept if kept.pinned)}
    for night in head.nights:
        must |= {night.generation, night.folded}
    return must


def _check(what: str, sizes: Mapping[T, int], must: Iterable[T], most: int | None) -> None:
    whole = sum(sizes.values())
    may_go = sorted(str(one) for one in set(sizes) - set(must))
    if most is not None and whole > most and may_go:
        raise Violation(f"{what} take {whole} bytes, more than {most}, and {', '.join(may_go)} may go")


def _came_from(aside: str) -> str:
    """Where it lay before it was set aside."""
    kind, _, name = aside.removeprefix(f"{SET_ASIDE}/").partition("-")
    return f"{SNAPSHOTS if kind == 'snapshots' else f'state/{kind}'}/{name}"


def _names(disk: SimDisk, folder: str) -> list[str]:
    names = disk.listdir(folder) if disk.stat(folder) is not None else []
    return [name for name in names if not durable.is_leftover(name)]


class WhatGoesWasForetold:
    """Right before something is deleted, the dry run names it; and when all is quiet, nothing it names is left."""

    promise = "what goes was foretold"
    when: tuple[Moment, ...] = ("operation", "quiet")

    def __init__(self, evidence: Evidence, bounds: Bounds) -> None:
        self._evidence = evidence
        self._bounds = bounds
        self._seen: tuple[object, ...] = ()
        self._foretold: list[str] = []

    def check(self, trial: Trial) -> None:
        if trial.moment == "operation":
            self._check_operation(trial)
        elif trial.undisturbed_for(RETRIED_SECONDS) and trial.now - self._evidence.let_go_at > RETRIED_SECONDS:
            left = [path for path in self._going(trial.disk) if path.startswith((GENERATIONS, SNAPSHOTS))]
            if left:
                raise Violation(f"the dry run says that these go, and they stay: {', '.join(left)}")

    def _check_operation(self, trial: Trial) -> None:
        actor, operation, path = trial.writing
        source, _, target = path.partition(" -> ")
        if operation != "rename" or not target.endswith(".deleting"):
            return
        if durable.HIDDEN.fullmatch(source.rpartition("/")[2]):
            head = read_head(trial.disk)
            if head is not None and source in {durable.hidden(path, "whole") for path in head.models_needed()}:
                raise Violation(f"{actor} deletes {source}, which may be all that is left of a model that HEAD needs")
            return  # rubbish, or what was to take the place of a model that nothing stands on any more
        if trial.disk.stat(durable.hidden(source, "whole")) is not None:
            return  # a damaged folder makes way for the one that is made anew
        if source.startswith(f"{SET_ASIDE}/") and trial.disk.stat(_came_from(source)) is not None:
            return  # what is set aside now takes the place of what bears its name
        if source.startswith((f"{GENERATIONS}/", f"{SNAPSHOTS}/", f"{SET_ASIDE}/", f"{MODELS}/")):
            going = self._going(trial.disk)
            if source not in going:
                raise Violation(f"{actor} deletes {source}; the dry run would have named {going or 'nothing'}")

    def _going(self, disk: SimDisk) -> list[str]:
        head = read_head(disk)
        # What the dry run looks at; it is asked again only where something there is not as it was.
        seen = (head, *map(disk.state_of, (GENERATIONS, DELTAS, SET_ASIDE, SNAPSHOTS, MODELS)))
        if seen != self._seen:
            verdicts = judge(head, self._bounds, survey(disk, head, self._bounds))
            self._foretold = [verdict.path for verdict in verdicts if verdict.path and not verdict.stays]
            self._seen = seen
        return self._foretold
