"""At most one batch is in training, and only one engine learns."""

from __future__ import annotations

from collections.abc import Callable

from messages import BatchFailed, BatchStarted, BatchTrained, GenerationCommitted, NightCommitted, TrainerReady
from runtime import Actor, on
from tools.simulated_house.checkers.evidence import Evidence

PROMISE = "one batch in training"


class Witness(Actor):
    """Hears what the house announces, outside of any life, to hold it against the disk later.

    ``violate`` ends the universe: what a handler raises would only be its actor's crash.
    """

    def __init__(self, evidence: Evidence, violate: Callable[[str, str], None]) -> None:
        self._evidence = evidence
        self._violate = violate

    @on
    async def committed(self, done: GenerationCommitted) -> None:
        self._evidence.generation = max(self._evidence.generation, done.generation)

    @on
    async def night(self, done: NightCommitted) -> None:
        evidence = self._evidence
        evidence.generation = max(evidence.generation, done.generation)
        evidence.ledger = (*evidence.ledger, done.night)
        evidence.counts["nights"] += 1

    @on
    async def loaded(self, _: TrainerReady) -> None:
        """The Trainer has begun anew from what is in force: whatever it had in hand, it has let go."""
        self._evidence.in_training = ""

    @on
    async def started(self, batch: BatchStarted) -> None:
        in_training = self._evidence.in_training
        if in_training not in ("", batch.batch):
            self._violate(PROMISE, f"batch {batch.batch} began while {in_training} was in training")
        self._evidence.in_training = batch.batch

    @on
    async def ended(self, batch: BatchTrained | BatchFailed) -> None:
        if self._evidence.in_training == batch.batch:
            self._evidence.in_training = ""
            self._evidence.counts["batches"] += 1


class OneEngine:
    """Each engine of a life tells when it loads and when it learns; only the one that loaded last may learn."""

    def __init__(self, violate: Callable[[str, str], None]) -> None:
        self._violate = violate
        self._engines = 0
        self._loaded = 0

    def enter(self) -> int:
        """A new engine; returns its number."""
        self._engines += 1
        return self._engines

    def loads(self, engine: int) -> None:
        """It holds weights now."""
        if engine < self._loaded:
            self._violate(PROMISE, f"engine {engine} loads although engine {self._loaded} has taken its place")
        self._loaded = engine

    def learns(self, engine: int) -> None:
        """It takes a step."""
        if engine != self._loaded:
            self._violate(PROMISE, f"engine {engine} learns although engine {self._loaded} has taken its place")
