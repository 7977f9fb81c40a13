"""What must hold, one module for each promise; ``house_checkers`` has them in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.simulation.deliveries import DeliveriesKeepTheirOrder, NoMessageVanishes
from runtime.simulation.trial import Checker, Violation
from tools.simulated_house.checkers.arrival import FilesAreTakenInOrder
from tools.simulated_house.checkers.events import EachEventIsWrittenOnce
from tools.simulated_house.checkers.evidence import Evidence, read_head
from tools.simulated_house.checkers.files import EachFileIsInOnePlace, EverythingHasItsOutcome
from tools.simulated_house.checkers.head import HeadAlwaysLoads
from tools.simulated_house.checkers.held_out import ARefusedNightLeavesYesterday, WhatIsHeldOutIsKept
from tools.simulated_house.checkers.keeping import TheBoundsOfBytesHold, WhatGoesWasForetold, WhatIsPinnedStays
from tools.simulated_house.checkers.learning import EachCommitGoesOn, LearningIsExact
from tools.simulated_house.checkers.ledger import AnnouncedIsDurable, LedgerOnlyGrows, OneNightADate
from tools.simulated_house.checkers.leftovers import NoLeftovers
from tools.simulated_house.checkers.models import MergedModelsAreHealed
from tools.simulated_house.checkers.nights import NightsComeWhenTheyAreOwed
from tools.simulated_house.checkers.pauses import APauseHolds
from tools.simulated_house.checkers.reserve import NoBatchBeginsOnALowDisk, Space, TheReserveIsForAFullDisk
from tools.simulated_house.checkers.retention import (
    CurrentModelIsInForce,
    Limits,
    SnapshotsAreSound,
    TheInboxIsTheQueue,
    WhatHeadNamesIsLeftAlone,
    WhatMayBeGoneBackToIsKept,
)
from tools.simulated_house.checkers.rot import DamageIsToldAndHealed
from tools.simulated_house.checkers.status import StatusIsTrue
from tools.simulated_house.checkers.stopping import WhatWasLearntIsCommittedAtAStop
from tools.simulated_house.checkers.writers import OneWriterPerFile

__all__ = ["Evidence", "Violation", "house_checkers", "read_head"]


LATEST = ("TrainingProgress", "DiskMeasured", "InboxSurveyed")
"""Of these a newer one takes the place of one that waits."""


def house_checkers(evidence: Evidence, limits: Limits, space: Space) -> Sequence[Checker]:
    """Fresh checkers for one universe."""
    return (
        HeadAlwaysLoads(evidence),
        MergedModelsAreHealed(),
        LedgerOnlyGrows(),
        OneNightADate(),
        AnnouncedIsDurable(evidence),
        EachFileIsInOnePlace(evidence),
        EachCommitGoesOn(evidence),
        EverythingHasItsOutcome(evidence),
        LearningIsExact(evidence),
        OneWriterPerFile(),
        StatusIsTrue(evidence),
        NoLeftovers(),
        WhatMayBeGoneBackToIsKept(evidence, limits),
        WhatIsPinnedStays(evidence),
        TheBoundsOfBytesHold(evidence, limits.kept),
        WhatGoesWasForetold(evidence, limits.kept),
        SnapshotsAreSound(evidence, limits),
        CurrentModelIsInForce(),
        WhatHeadNamesIsLeftAlone(),
        TheInboxIsTheQueue(limits),
        FilesAreTakenInOrder(evidence),
        WhatWasLearntIsCommittedAtAStop(evidence),
        APauseHolds(evidence),
        NightsComeWhenTheyAreOwed(evidence),
        DamageIsToldAndHealed(evidence),
        TheReserveIsForAFullDisk(space),
        NoBatchBeginsOnALowDisk(evidence, space),
        WhatIsHeldOutIsKept(evidence),
        ARefusedNightLeavesYesterday(evidence),
        EachEventIsWrittenOnce(),
        DeliveriesKeepTheirOrder(latest=LATEST),
        NoMessageVanishes(latest=LATEST),
    )
