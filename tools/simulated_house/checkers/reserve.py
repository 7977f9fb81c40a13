"""No batch begins on a low disk; the reserve is given back on a full one, made again in good times, whole at last."""

from __future__ import annotations

import msgspec

from runtime import durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.trial import Moment, Trial, Violation
from runtime.simulation.weather import HANGS_SECONDS
from tools.simulated_house.checkers.evidence import Evidence

RESERVE = "state/RESERVE"
STAGED = durable.hidden(RESERVE, "tmp")
IN_HAND_SECONDS = 600.0
"""What was granted before the disk filled may be made a little later: as long as a slow disk takes."""
RELEASED_WITHIN_SECONDS = 3.5 * 3600
"""The alarm is measured and repeated every hour; once it may be lost by a crash, and once the disk may refuse."""
RENEWED_WITHIN_SECONDS = 2 * 3600.0
"""An hour's pause after a release, and the interval by which it is thought of."""


class Space(msgspec.Struct, frozen=True):
    """The marks of a universe's config, and how large its reserve is to be."""

    reserve_bytes: int
    minimum: int
    recovered: int

    def usable(self, disk: SimDisk) -> int:
        """What is free, less what a spent reserve is owed."""
        lies = disk.bytes_of(RESERVE) + disk.bytes_of(STAGED)
        return disk.free_bytes() - max(0, self.reserve_bytes - lies)


class TheReserveIsForAFullDisk:
    """Asked whenever something is written under ``state/`` or ``status/``, and in the end."""

    promise = "the reserve is for a full disk"
    when: tuple[Moment, ...] = ("operation", "end")

    def __init__(self, space: Space) -> None:
        self._space = space
        self._low_since: float | None = None

    def check(self, trial: Trial) -> None:
        disk = trial.disk
        if trial.moment == "end":
            if trial.undisturbed_for(RENEWED_WITHIN_SECONDS) and disk.stat(RESERVE) is None:
                raise Violation("nothing has been wrong for two hours, and there is no reserve")
            return
        _, operation, path = trial.writing
        if not path.startswith(("state/.", "state/RESERVE", "status/")):
            return
        usable = self._space.usable(disk)
        if usable >= self._space.minimum:
            self._low_since = None
            return
        if self._low_since is None:
            self._low_since = trial.now
        low_for = trial.now - self._low_since
        if operation == "rename" and path.endswith(f"-> {RESERVE}") and low_for > IN_HAND_SECONDS:
            raise Violation(f"the reserve is made, and the disk is low since {low_for:.0f} s")
        if disk.stat(RESERVE) is not None and low_for > RELEASED_WITHIN_SECONDS:
            raise Violation(
                f"the disk is low since {low_for:.0f} s, {usable} bytes free, and the reserve is not released"
            )


class NoBatchBeginsOnALowDisk:
    """Whoever asked for room heard that there is none. Seen with what is done next on the disk."""

    promise = "no batch begins on a low disk"
    when: tuple[Moment, ...] = ("operation",)

    def __init__(self, evidence: Evidence, space: Space) -> None:
        self._evidence = evidence
        self._space = space
        self._begun = ""

    def check(self, trial: Trial) -> None:
        begun, before = self._evidence.in_training, self._begun
        self._begun = begun
        if begun in ("", before):
            return
        opening = IN_HAND_SECONDS
        if trial.struck_lately(IN_HAND_SECONDS + max(HANGS_SECONDS), "device_hangs"):
            opening += max(HANGS_SECONDS)  # a device that hung while it was opened, for so long at most
        if trial.struck_lately(opening, "disk_full"):
            return  # room was granted before the disk filled
        usable = self._space.usable(trial.disk)
        if usable < self._space.minimum:
            raise Violation(f"batch {begun} begins with {usable} bytes to spare, less than {self._space.minimum}")
