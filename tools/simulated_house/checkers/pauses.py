"""A pause holds: no step is taken from soon after a person has said to hold until a person says to go on."""

from __future__ import annotations

from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence

HEEDED_SECONDS = 90.0
"""A slice and the messages before it take less where nothing is wrong."""


class APauseHolds:
    """Asked where nothing went wrong since: a Trainer that crashed must be told again, which the daemon does."""

    promise = "a pause holds"
    when: tuple[Moment, ...] = ("quiet", "commit")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        since = self._evidence.paused_at
        if since is None or not trial.undisturbed_for(trial.now - since + HEEDED_SECONDS):
            return
        late = self._evidence.stepped_at - since
        if late > HEEDED_SECONDS:
            raise Violation(f"a step was taken {late:.0f} s after a person had said to hold")
