"""Bits that turn on a disk at rest, where the house can heal it: never in the only copy of anything.

One at a time: the next bit turns only when the damage before it is out of the way. And none turns while HEAD may not be
durable yet: what stands in for the damaged folder might be taken back by a power cut. Nor where the copy may go before
the scrub comes by: in a delta only as long as the newest night holds what it folded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from actors.checkpointer.head import SNAPSHOTS, Head
from actors.checkpointer.retention import Bounds
from actors.checkpointer.store import ADAPTER_FILES
from messages import Delta
from runtime import durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Trial
from tools.simulated_house.checkers.evidence import Evidence, Rotten, read_head
from tools.simulated_house.checkers.rot import disturbances, named_and_rotten

UNSYNCED_SECONDS = 3700.0
"""After an error of the disk HEAD may show what is not durable, until the next retention at the latest."""


def turn_a_bit(trial: Trial, evidence: Evidence, bounds: Bounds, how: str, seed: int) -> str:
    """Turns one; returns where, or ``""`` if there is no place for it now.

    ``how`` is one of ``generation``, ``delta``, ``snapshot``, or any of them if it is empty; or ``in_force``, which the
    house heals only as long as nothing else goes wrong.
    """
    disk, head = trial.disk, read_head(trial.disk)
    kinds = ("no_space", "short_write", "io_error", "disk_full")
    unsynced = any(trial.struck_lately(UNSYNCED_SECONDS, kind) for kind in kinds)
    if head is None or unsynced or named_and_rotten(disk, evidence):
        return ""
    chance = random.Random(f"rot/{seed}")  # noqa: S311 - chance, not secrets
    folders = _folders(disk, head, bounds, how)
    if not folders:
        return ""
    folder = chance.choice(folders)
    path = f"{folder}/{chance.choice([name for name in disk.listdir(folder) if disk.read(f'{folder}/{name}')])}"
    disk.corrupt(path, chance)
    found = disk.stat(folder)
    assert found is not None, "it was listed"
    evidence.rotten[folder] = Rotten(found.inode, disturbances(trial))
    nights = {generation for night in head.nights for generation in (night.generation, night.folded)}
    evidence.night_lost |= any(kept.path == folder and kept.generation in nights for kept in head.kept)
    evidence.counts["rot"] += 1
    return path


def _folders(disk: SimDisk, head: Head, bounds: Bounds, how: str) -> Sequence[str]:
    found = {
        "in_force": [head.generation_path],
        # Those that a power cut may put in force again are among the newest.
        "generation": [kept.path for kept in head.kept[:-2] if kept.generation != head.generation],
        "delta": [delta.path for delta in head.deltas if _has_copy(disk, head, bounds, delta)],
        "snapshot": [
            f"{SNAPSHOTS}/{name}"
            for name in (disk.listdir(SNAPSHOTS) if disk.stat(SNAPSHOTS) else [])
            if not durable.is_leftover(name)
        ],
    }
    return found[how] if how else [*found["generation"], *found["delta"], *found["delta"], *found["snapshot"]]


def _has_copy(disk: SimDisk, head: Head, bounds: Bounds, delta: Delta) -> bool:
    """The generation that was folded has the very bytes, can vouch for them, and will be kept for a while."""
    held = {night.folded for night in head.nights[-1:]} if bounds.nights_bytes_max is None else set()
    return any(
        all(
            disk.stat(f"{kept.path}/{name}") is not None
            and disk.read(f"{kept.path}/{name}") == disk.read(f"{delta.path}/{name}")
            for name in ADAPTER_FILES
        )
        for kept in head.kept
        if kept.generation == delta.generation and kept.generation in held
    )
