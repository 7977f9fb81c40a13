"""A plug-in for tests: it kills its daemon at one operation of the commit that ends a file.

``[plugins.assassin]`` names it as ``tests.real.assassin:Assassin``; ``operation`` counts from 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.checkpointer.head import Kept
from actors.checkpointer.store import Store
from messages import LearningState, TrainerReady
from runtime import Actor, on
from tests.real.disturbed_disk import DisturbedDisk, dies_at

LAST_CHECKPOINT = "batch end"


class AssassinSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``operation``: of the last checkpoint of a file, at which the process dies."""

    operation: int


class Assassin(Actor):
    """See the module."""

    settings: AssassinSettings

    async def on_start(self) -> None:
        really, operation = Store.commit, self.settings.operation

        def commit(store: Store, files: Mapping[str, bytes], state: LearningState, why: str, now: str) -> Kept:
            if why == LAST_CHECKPOINT:
                store._disk = DisturbedDisk(store._disk.real_path("."), dies_at(operation))
            return really(store, files, state, why, now)

        setattr(Store, "commit", commit)  # noqa: B010 - mypy would have it bound

    @on
    async def ready(self, _: TrainerReady) -> None:
        """A plug-in hears something; this one has heard enough."""
