"""A night that is owed happens, once it can, and none comes before its hour."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from actors.checkpointer.head import Head
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head, read_state
from tools.simulated_house.checkers.rot import is_rotten

HOUR = time(3)
OWED_SECONDS = 4 * 3600.0
"""So long a night may take from when nothing has been in its way: looking, merging, and tries that the merger loses."""


class NightsComeWhenTheyAreOwed:
    """Told by the wall clock of the place, against what is in force on the disk."""

    promise = "nights come when they are owed"
    when: tuple[Moment, ...] = ("commit", "quiet")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._nights = 0
        self._owed_since: float | None = None

    def check(self, trial: Trial) -> None:
        head, life = read_head(trial.disk), trial.life
        if head is None or life is None:
            return
        now = life.clock.now().replace(tzinfo=None)
        if trial.moment == "commit":
            self._owed_since = None
            if len(head.ledger) > self._nights and not self._evidence.jumped:
                self._check_hour(trial, head)
            self._nights = len(head.ledger)
            return
        if is_rotten(trial.disk, self._evidence, head.generation_path):
            return  # until it is committed anew
        state = read_state(trial.disk, head.generation_path)
        had = {delta.due_date for delta in head.deltas_in_force()}
        waits = self._evidence.paused or bool(self._evidence.uploading) or not _owed(now, state.learning_since, had)
        if waits or not trial.undisturbed_for(OWED_SECONDS) or life.seconds - life.began < OWED_SECONDS:
            self._owed_since = None
        elif self._owed_since is None:
            self._owed_since = trial.now
        elif trial.now - self._owed_since > OWED_SECONDS:
            raise Violation(f"since {trial.now - self._owed_since:.0f} s a night is owed that does not come")

    def _check_hour(self, trial: Trial, head: Head) -> None:
        """The hour of a date that is due has come since what is folded was begun."""
        delta = head.deltas_in_force()[-1]
        folded = next((kept for kept in head.kept if kept.generation == delta.generation), None)
        if not delta.due_date or folded is None:
            return
        since = read_state(trial.disk, folded.path).learning_since
        due = datetime.combine(datetime.fromisoformat(delta.due_date).date(), HOUR)
        if since is not None and datetime.fromisoformat(since).replace(tzinfo=None) >= due:
            raise Violation(f"the night due at {due} folded what was begun at {since}, before the next hour")


def _owed(now: datetime, learning_since: str | None, had: set[str]) -> bool:
    """Was something learnt before the last time the clock showed the hour, on a date that had no night?"""
    if learning_since is None:
        return False
    due = datetime.combine(now.date(), HOUR)
    if now < due:
        due -= timedelta(days=1)
    return datetime.fromisoformat(learning_since).replace(tzinfo=None) < due and due.date().isoformat() not in had
