"""Status never lies: what ``training_status.json`` says is so."""

from __future__ import annotations

import msgspec

from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence

STATUS = "status/training_status.json"
STOP_SECONDS = 600.0


class StatusIsTrue:
    """At quiet moments and after a stop: who trains, how many files lie where, and that it has stopped."""

    promise = "status is true"
    when: tuple[Moment, ...] = ("quiet", "stop", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        if trial.moment == "stop" and not trial.undisturbed_for(STOP_SECONDS):
            return  # the write that would have said so may have been the one that failed
        page = trial.disk.understood(STATUS, msgspec.json.decode)
        if trial.moment == "quiet":
            self._check_training(page["state"], page["batch"]["batch"] if page["batch"] else "")
        elif page["state"] != "stopped" or page["batch"] is not None:
            raise Violation(f"the daemon has stopped and status says {page['state']}")
        for folder in ("trained", "rejected", "failed"):
            # A life that was stopped as it began may not have come to making it.
            names = trial.disk.listdir(folder) if trial.disk.stat(folder) is not None else []
            there = sum(name.endswith(".jsonl") for name in names)
            if page["counts"][folder] != there:
                raise Violation(f"status counts {page['counts'][folder]} in {folder}/, there are {there}")

    def _check_training(self, state: str, batch: str) -> None:
        training = self._evidence.in_training
        if state == "training" and (batch != training or not batch):
            raise Violation(f"status says that {batch or 'nothing'} is in training, and it is {training or 'nothing'}")
