"""What is kept is what was promised, and no more: generations, nights, snapshots, claims; and it is sound."""

from __future__ import annotations

import msgspec

from actors.checkpointer.head import SNAPSHOTS, Head
from actors.checkpointer.retention import Bounds
from actors.checkpointer.verification import Damaged, verify
from runtime import durable
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head
from tools.simulated_house.checkers.rot import is_rotten

BATCHES = "state/batches"
RETRIED_SECONDS = 3700.0
"""Twice as long as it takes until a delete that failed is tried again."""


class Limits(msgspec.Struct, frozen=True):
    """How much the house of a universe is configured to keep, and to claim ahead."""

    kept: Bounds
    claims: int


class WhatMayBeGoneBackToIsKept:
    """HEAD keeps the newest generations and those before and after the newest nights, and no others."""

    promise = "what may be gone back to is kept, and no more"
    when: tuple[Moment, ...] = ("commit", "end")

    def __init__(self, evidence: Evidence, limits: Limits) -> None:
        self._evidence = evidence
        self._kept = limits.kept

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        if head is None:
            return
        if head.generation not in {kept.generation for kept in head.kept}:
            raise Violation(f"generation {head.generation} is in force, and HEAD does not keep it")
        if not self._evidence.night_lost:
            self._check_nights(head)
        # Of a night that damage took the folded generation is left for a while, pinned or not.
        nights = self._kept.keep_nights + sum(night.pinned for night in head.nights) + self._evidence.night_lost
        most = self._kept.keep_generations + 2 * nights + sum(kept.pinned for kept in head.kept)
        # What was unpinned goes when retention comes next.
        if len(head.kept) > most and trial.now - self._evidence.let_go_at > RETRIED_SECONDS:
            raise Violation(f"HEAD keeps {len(head.kept)} generations, more than {most}")

    def _check_nights(self, head: Head) -> None:
        had = min(len(head.ledger), self._kept.keep_nights)
        if len(head.nights) < had and self._kept.nights_bytes_max is None:
            raise Violation(f"HEAD lists {len(head.nights)} nights to go back to, not {had}")
        kept = {one.generation for one in head.kept}
        for night in head.nights:
            for generation in (night.folded, night.generation):
                if generation not in kept:
                    raise Violation(f"HEAD lists night {night.night}, and generation {generation} is not kept")


class SnapshotsAreSound:
    """Each snapshot can be restored from, and there are no more than are kept."""

    promise = "snapshots are sound"
    when: tuple[Moment, ...] = ("quiet", "stop", "end")

    def __init__(self, evidence: Evidence, limits: Limits) -> None:
        self._evidence = evidence
        self._kept = limits.kept
        self._sound: set[tuple[str, int]] = set()

    def check(self, trial: Trial) -> None:
        disk = trial.disk
        if disk.stat(SNAPSHOTS) is None:
            return
        names = [name for name in disk.listdir(SNAPSHOTS) if not durable.is_leftover(name)]
        for name in names:
            found = disk.stat(f"{SNAPSHOTS}/{name}")
            if is_rotten(disk, self._evidence, f"{SNAPSHOTS}/{name}"):
                continue  # until it is found
            if found is None or (name, found.inode) in self._sound:
                continue
            try:
                verify(disk, f"{SNAPSHOTS}/{name}")
            except Damaged as error:
                raise Violation(f"snapshot {name} is not sound: {error}") from error
            self._sound.add((name, found.inode))
        head = read_head(disk)
        most = self._kept.keep_snapshots + (len(head.snapshots) if head else 0)
        let_go_lately = trial.now - self._evidence.let_go_at < RETRIED_SECONDS
        # One that the disk would not delete goes later.
        if len(names) > most and not let_go_lately and trial.undisturbed_for(RETRIED_SECONDS):
            raise Violation(f"there are {len(names)} snapshots, more than {most}")


class CurrentModelIsInForce:
    """Whoever follows the link loads what HEAD names. One that could not be set waits for the next commit or start."""

    promise = "current_model is in force"
    when: tuple[Moment, ...] = ("quiet", "stop", "end")

    def check(self, trial: Trial) -> None:
        disk, head = trial.disk, read_head(trial.disk)
        if head is None or not trial.went_well():
            return
        # A life that was stopped as it began has not come to setting the link.
        began = any(record.kind == "done" and record.recipient == "checkpointer" for record in trial.records)
        if trial.moment != "quiet" and not began:
            return
        found = disk.stat("current_model")
        leads_to = disk.readlink("current_model") if found is not None and found.kind == "link" else "nothing"
        if leads_to != head.generation_path:
            raise Violation(f"current_model leads to {leads_to}, and {head.generation_path} is in force")


class WhatHeadNamesIsLeftAlone:
    """What HEAD on the disk names, synced or not, is neither written, nor moved, nor deleted."""

    promise = "what HEAD names is left alone"
    when: tuple[Moment, ...] = ("commit", "reboot", "operation")

    def __init__(self) -> None:
        self._named: frozenset[str] = frozenset()

    def check(self, trial: Trial) -> None:
        if trial.moment == "operation":
            self._check_operation(*trial.writing)
            return
        head = read_head(trial.disk)
        folders = [*(kept.path for kept in head.kept), *(delta.path for delta in head.deltas)] if head else []
        folders += [f"{SNAPSHOTS}/{snapshot.day}" for snapshot in head.snapshots] if head else []
        self._named = frozenset(folders)

    def _check_operation(self, actor: str, operation: str, path: str) -> None:
        if operation in ("fsync", "fsync_dir") or not ("state/" in path or path.startswith(f"{SNAPSHOTS}/")):
            return
        for side in path.split(" -> "):
            if "/".join(side.split("/")[: 2 if side.startswith(f"{SNAPSHOTS}/") else 3]) in self._named:
                raise Violation(f"{actor} did {operation} {path}, which HEAD names")


class TheInboxIsTheQueue:
    """No more batches are claimed ahead than configured. After trouble more may lie there, for a while."""

    promise = "the inbox is the queue"
    when: tuple[Moment, ...] = ("operation",)

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def check(self, trial: Trial) -> None:
        _, operation, path = trial.writing
        if operation != "mkdir" or not path.startswith(f"{BATCHES}/"):
            return
        claimed = sum(name.isdigit() for name in trial.disk.listdir(BATCHES))
        if claimed >= self._limits.claims and trial.undisturbed_for(RETRIED_SECONDS):
            raise Violation(f"{path} is claimed, and {claimed} batches are already")
