"""What must hold, one module for each promise; ``house_checkers`` has them in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.simulation.trial import Checker, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head
from tools.simulated_house.checkers.files import EachFileIsInOnePlace, EverythingHasItsOutcome
from tools.simulated_house.checkers.head import HeadAlwaysLoads
from tools.simulated_house.checkers.learning import EachCommitGoesOn, LearningIsExact
from tools.simulated_house.checkers.ledger import AnnouncedIsDurable, LedgerOnlyGrows, OneNightADate
from tools.simulated_house.checkers.leftovers import NoLeftovers
from tools.simulated_house.checkers.status import StatusIsTrue
from tools.simulated_house.checkers.writers import OneWriterPerFile

__all__ = ["Evidence", "Violation", "house_checkers", "read_head"]


def house_checkers(evidence: Evidence) -> Sequence[Checker]:
    """Fresh checkers for one universe."""
    return (
        HeadAlwaysLoads(),
        LedgerOnlyGrows(),
        OneNightADate(),
        AnnouncedIsDurable(evidence),
        EachFileIsInOnePlace(evidence),
        EachCommitGoesOn(evidence),
        EverythingHasItsOutcome(evidence),
        LearningIsExact(),
        OneWriterPerFile(),
        StatusIsTrue(evidence),
        NoLeftovers(),
    )
