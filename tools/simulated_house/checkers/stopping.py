"""A stop in order loses nothing: what the engine had learnt when the daemon left is in force."""

from __future__ import annotations

from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head, read_weights

STOP_SECONDS = 300.0


class WhatWasLearntIsCommittedAtAStop:
    """Asked where nothing was wrong: a disk that refuses the last commit costs the steps since the one before."""

    promise = "a stop loses nothing"
    when: tuple[Moment, ...] = ("stop",)

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        learnt = self._evidence.weights
        if learnt is None or learnt.steps == 0 or not trial.undisturbed_for(STOP_SECONDS):
            return  # a fresh adapter that no night has committed is none
        head = read_head(trial.disk)
        if head is None:
            raise Violation(f"the daemon has stopped after {learnt.steps} steps, and nothing was ever committed")
        kept = read_weights(trial.disk, head.generation_path)
        if kept != learnt and kept.base == learnt.base:
            raise Violation(f"the daemon has stopped after step {learnt.steps}, and step {kept.steps} is in force")
