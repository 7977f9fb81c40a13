"""After an orderly stop nothing half-done lies about, and only what HEAD reaches lies under ``state/``."""

from __future__ import annotations

from actors.checkpointer.head import DELTAS, GENERATIONS
from runtime import durable
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import read_head

MODELS = "consolidated_models"
BATCHES = "state/batches"


class NoLeftovers:
    """Asked once, at the end: what a life could not clean up, the next start does."""

    promise = "no leftovers"
    when: tuple[Moment, ...] = ("end",)

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        reached = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas} if head else set()
        models = set(head.models_needed()) if head else set()
        for path in trial.disk.tree():
            folder, _, name = path.rpartition("/")
            if durable.is_leftover(name):
                raise Violation(f"{path} was left behind")
            if folder in (GENERATIONS, DELTAS) and path not in reached:
                raise Violation(f"{path} is reached by nothing")
            if folder == MODELS and path not in models:
                raise Violation(f"{path} is needed by nothing")
            if folder == BATCHES and name != "LAST":
                raise Violation(f"{path} waits for an outcome that has come")
