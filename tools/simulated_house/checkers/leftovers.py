"""After an orderly stop nothing half-done lies about, and only what HEAD reaches lies under ``state/``."""

from __future__ import annotations

from collections.abc import Iterator

from actors.checkpointer.head import DELTAS, GENERATIONS, SNAPSHOTS
from runtime import durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import read_head

RETRIED_SECONDS = 3700.0
"""Twice as long as it takes until a delete that failed is tried again."""
MODELS = "consolidated_models"
BATCHES = "state/batches"


class NoLeftovers:
    """Asked at the end, for what a life could not clean up the next start does; and long after the last trouble."""

    promise = "no leftovers"
    when: tuple[Moment, ...] = ("quiet", "end")

    def check(self, trial: Trial) -> None:
        if trial.moment == "quiet" and not trial.undisturbed_for(RETRIED_SECONDS):
            return
        head = read_head(trial.disk)
        reached = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas} if head else set()
        models = set(head.models_needed()) if head else set()
        for path in _kept(trial.disk) if trial.moment == "quiet" else trial.disk.tree():
            folder, _, name = path.rpartition("/")
            if durable.is_leftover(name):
                raise Violation(f"{path} was left behind")
            # The delta of a night whose commit was refused is set aside by the next start, and not before.
            swept = (GENERATIONS,) if trial.moment == "quiet" else (GENERATIONS, DELTAS)
            if folder in swept and path not in reached:
                raise Violation(f"{path} is reached by nothing")
            if folder == MODELS and path not in models:
                raise Violation(f"{path} is needed by nothing")
            if folder == BATCHES and name != "LAST":
                raise Violation(f"{path} waits for an outcome that has come")


def _kept(disk: SimDisk) -> Iterator[str]:
    """What lies in the folders of which something is deleted every day."""
    for folder in (SNAPSHOTS, DELTAS, GENERATIONS):
        if disk.stat(folder) is not None:
            yield from (f"{folder}/{name}" for name in disk.listdir(folder))
