"""What a durable protocol is to the sweep: how the disk is prepared, what is done once, and what must be seen after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from runtime.disk import DiskPort
from runtime.simulation import SimDisk

Shown = Literal["old", "new"]


class Broken(AssertionError):
    """What was promised does not hold; the text says how."""


def nothing_to_recover(_: DiskPort) -> Any:
    """A protocol that no start-up belongs to."""
    return None


@dataclass(frozen=True)
class Scenario:
    """One protocol.

    Attributes:
        name: for people and for the command that repeats a case.
        prepare: what lies on the disk before; all of it is durable when the protocol begins.
        act: the protocol, as the house calls it. Its return is the acknowledgement. It may be called again after it
            failed, on the same disk by the same process, and after a restart: that is the house's next try. What it is
            handed is what ``recover`` returned.
        shown: what whoever reads the disk sees, ``old`` or ``new``; raises ``Broken`` for anything else. It must hold
            at any moment, before start-up has tidied up too.
        recover: what start-up does. Afterwards nothing half-done may lie about.
        tidy: further things that must hold after an undisturbed start-up.
        believed: the house builds on what start-up found, so it must not be lost to a later power cut.
        after_retry: what must hold when a try failed and the next one on the same disk did not.
    """

    name: str
    prepare: Callable[[DiskPort], object]
    act: Callable[[DiskPort, Any], object]
    shown: Callable[[SimDisk], Shown]
    recover: Callable[[DiskPort], Any] = nothing_to_recover
    tidy: Callable[[SimDisk], object] = nothing_to_recover
    believed: bool = True
    after_retry: Callable[[SimDisk], object] = nothing_to_recover
