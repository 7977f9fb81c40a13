"""The protections, one by one, and how each is taken out. Kept in the order of the edge cases' table."""

from __future__ import annotations

from tests.protections import between_batches, nights
from tests.protections.campaign import Removal

REMOVALS: tuple[Removal, ...] = (*between_batches.REMOVALS, *nights.REMOVALS)
