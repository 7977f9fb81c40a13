"""What turns on the disk is found within a round of the scrub, told, and out of the way at the end."""

from __future__ import annotations

from collections.abc import Sequence

from actors.checkpointer.head import SET_ASIDE
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import Evidence, read_head


def is_rotten(disk: SimDisk, evidence: Evidence, folder: str) -> bool:
    """Is this the very folder in which a bit has turned?"""
    known = evidence.rotten.get(folder)
    if known is None:
        return False
    found = disk.stat(folder)
    return found is not None and found.inode == known.inode


def named_and_rotten(disk: SimDisk, evidence: Evidence) -> Sequence[str]:
    """What the house still takes for sound."""
    head = read_head(disk)
    named = [*(one.path for one in head.kept), *(one.path for one in head.deltas)] if head is not None else []
    named += [folder for folder in evidence.rotten if folder.startswith("snapshots/")]
    return [folder for folder in named if is_rotten(disk, evidence, folder)]


def disturbances(trial: Trial) -> int:
    """How much else has gone wrong so far."""
    return sum(strike.kind != "bit_rot" for strike in trial.strikes)


class DamageIsToldAndHealed:
    """Nothing rotten is left in use at the end, and what was found in an undisturbed life was told."""

    promise = "damage is found, told and healed"
    when: tuple[Moment, ...] = ("end",)

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def check(self, trial: Trial) -> None:
        disk, evidence = trial.disk, self._evidence
        left = named_and_rotten(disk, evidence)
        if left:
            raise Violation(f"a bit has turned in {left[0]}, and it is still in use")
        for folder, rotten in evidence.rotten.items():
            kind, _, name = folder.rpartition("/")
            aside = disk.stat(f"{SET_ASIDE}/{kind.rpartition('/')[2]}-{name}")
            if aside is None or aside.inode != rotten.inode or rotten.told:
                continue  # retention took it, or it was told
            if disturbances(trial) == rotten.strikes:  # whoever would have told it was not disturbed
                raise Violation(f"{folder} was damaged and set aside, and nobody was told")
