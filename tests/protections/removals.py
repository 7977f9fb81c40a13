"""All protections, in the order of the edge cases' table, those of one part of the house together."""

from __future__ import annotations

from tests.protections import (
    actors,
    between_batches,
    contents,
    disk,
    files,
    held_out,
    merged_models,
    nights,
    restarts,
    retention,
    room,
    scrub,
    training,
)
from tests.protections.campaign import Removal

REMOVALS: tuple[Removal, ...] = (
    *between_batches.REMOVALS,
    *scrub.REMOVALS,
    *merged_models.REMOVALS,
    *nights.REMOVALS,
    *held_out.REMOVALS,
    *training.REMOVALS,
    *restarts.REMOVALS,
    *room.REMOVALS,
    *retention.REMOVALS,
    *disk.REMOVALS,
    *contents.REMOVALS,
    *files.REMOVALS,
    *actors.REMOVALS,
)
