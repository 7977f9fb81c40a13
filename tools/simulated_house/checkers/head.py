"""HEAD always loads: it decodes, all that it keeps verifies, and the models it needs are there."""

from __future__ import annotations

from actors.checkpointer.verification import Damaged, verify
from runtime import durable
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head
from tools.simulated_house.checkers.rot import is_rotten
from tools.simulated_house.engine import WEIGHTS


class HeadAlwaysLoads:
    """After a commit only what HEAD did not name before is read through: it must be whole, and the rest be there."""

    promise = "HEAD loads"
    when: tuple[Moment, ...] = ("commit", "reboot", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._verified: dict[tuple[str, str], object] = {}

    def check(self, trial: Trial) -> None:
        disk, head = trial.disk, read_head(trial.disk)
        if head is None:
            return
        if trial.moment != "commit":
            self._verified = {
                folder: state for folder, state in self._verified.items() if disk.state_of(folder[0]) is state
            }
        folders = [(kept.path, kept.manifest) for kept in head.kept]
        folders += [(delta.path, delta.digest) for delta in head.deltas]
        try:
            for folder in folders:
                if trial.moment != "end" and is_rotten(disk, self._evidence, folder[0]):
                    continue  # until it is found
                if folder not in self._verified:
                    verify(disk, *folder)
                    self._verified[folder] = disk.state_of(folder[0])
                elif disk.stat(folder[0]) is None:
                    raise Violation(f"HEAD keeps {folder[0]}, which is gone")
        except Damaged as error:
            raise Violation(f"HEAD keeps what is not sound: {error}") from error
        for kept in head.kept:
            # A model that was made anew lies whole beside the damaged one before that goes.
            places = (kept.model_path, durable.hidden(kept.model_path, "whole"))
            if kept.model_path and all(disk.stat(f"{place}/{WEIGHTS}") is None for place in places):
                raise Violation(f"generation {kept.generation} stands on {kept.model_path}, which is gone")
        head.deltas_in_force()
