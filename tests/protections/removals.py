"""All protections, in the order of the edge cases' table."""

from __future__ import annotations

from tests.protections import actors, between_batches, contents, disk, files, nights, restarts, training
from tests.protections.campaign import Removal

REMOVALS: tuple[Removal, ...] = (
    *between_batches.REMOVALS,
    *nights.REMOVALS,
    *training.REMOVALS,
    *restarts.REMOVALS,
    *disk.REMOVALS,
    *contents.REMOVALS,
    *files.REMOVALS,
    *actors.REMOVALS,
)
