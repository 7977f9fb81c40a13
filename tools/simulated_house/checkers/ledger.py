"""The ledger only grows, nights that were due are due on different dates, and what was announced stays."""

from __future__ import annotations

from collections import Counter

from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head


class LedgerOnlyGrows:
    """No commit takes a night out of the ledger, or changes the order of those in it."""

    promise = "the ledger only grows"
    when: tuple[Moment, ...] = ("commit", "reboot", "end")

    def __init__(self) -> None:
        self._ledger: tuple[str, ...] = ()

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        ledger = head.ledger if head else ()
        # A power cut may take back a night whose rename showed and was not synced: then it was not announced either.
        if trial.moment != "reboot" and ledger[: len(self._ledger)] != self._ledger:
            raise Violation(f"the ledger was {self._ledger} and is {ledger}")
        self._ledger = ledger


class OneNightADate:
    """Nights that were due are due on different dates."""

    promise = "one night a date"
    when: tuple[Moment, ...] = ("commit", "end")

    def check(self, trial: Trial) -> None:
        head = read_head(trial.disk)
        dates = Counter(delta.due_date for delta in head.deltas if delta.due_date) if head else Counter[str]()
        if any(count > 1 for count in dates.values()):
            raise Violation(f"a date had more than one night: {dict(dates)}")


class AnnouncedIsDurable:
    """What was announced as committed survives whatever comes."""

    promise = "what is announced is durable"
    when: tuple[Moment, ...] = ("reboot", "end")

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        evidence, head = self._evidence, read_head(trial.disk)
        stands = head.generation if head else 0
        if stands < evidence.generation:
            raise Violation(f"generation {evidence.generation} was announced, and {stands} is in force")
        nights = head.ledger if head else ()
        # A night whose announcement was lost with the power may stand before one that was announced.
        if tuple(night for night in nights if night in evidence.ledger) != evidence.ledger:
            raise Violation(f"the nights {evidence.ledger} were announced, and the ledger is {nights}")
        if trial.ending != "kill":
            # A commit may have come through whose announcement did not; from now on it must stay. What a killed life
            # had shown may still be taken back, until the next one speaks of it.
            evidence.generation = max(evidence.generation, stands)
            evidence.ledger = nights
