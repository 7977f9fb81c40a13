"""The protections, one by one, and how each is taken out. Kept in the order of the edge cases' table."""

from __future__ import annotations

from tests.protections.campaign import Removal, Without

STORE = "actors/checkpointer/store.py"

REMOVALS: tuple[Removal, ...] = (
    Removal(
        ("b3",),
        "a delete that failed is tried again by the clock",
        (
            Without(
                "actors/checkpointer/actor.py",
                '        """What would not be deleted may go now."""\n        await self._prune()',
                '        """What would not be deleted may go now."""',
            ),
        ),
    ),
)
