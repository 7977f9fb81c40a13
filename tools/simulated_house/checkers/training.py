"""At most one batch is in training, and only one engine learns."""

from __future__ import annotations

from collections.abc import Callable

from actors.checkpointer.head import GENERATIONS, SNAPSHOTS
from messages import (
    BatchFailed,
    BatchFiled,
    BatchStarted,
    BatchTrained,
    DamageFound,
    GenerationCommitted,
    NightCommitted,
    NightRefused,
    NightStarted,
    TrainerReady,
    TrainingPaused,
    TrainingProgress,
)
from runtime import Actor, on
from runtime.simulation.disk import SimDisk
from tools.simulated_house.checkers.evidence import Evidence, read_head
from tools.simulated_house.engine import Weights

PROMISE = "one batch in training"


class Witness(Actor):
    """Hears what the house announces, outside of any life, to hold it against the disk later.

    ``violate`` ends the universe: what a handler raises would only be its actor's crash.
    """

    def __init__(
        self, evidence: Evidence, disk: SimDisk, now: Callable[[], float], violate: Callable[[str, str], None]
    ) -> None:
        self._evidence = evidence
        self._disk = disk
        self._now = now
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
    async def damaged(self, found: DamageFound) -> None:
        """Whatever has turned on the disk."""
        if found.what in self._evidence.rotten:
            self._evidence.rotten[found.what].told = True
        if found.what.startswith((GENERATIONS, SNAPSHOTS)):
            self._evidence.let_go_at = self._now()

    @on
    async def night_began(self, night: NightStarted) -> None:
        """Where a clock was set back, a refused night's name may be given again."""
        if night.night in self._evidence.refused:
            self._evidence.refused.remove(night.night)

    @on
    async def refused(self, night: NightRefused) -> None:
        """Its model was made, and may not be in force."""
        if night.held_out is not None:
            self._evidence.refused.append(night.night)
            self._evidence.counts["nights refused"] += 1

    @on
    async def loaded(self, ready: TrainerReady) -> None:
        """The Trainer has begun anew from what is in force: whatever it had in hand, it has let go."""
        self._evidence.in_training = ""
        # What is built on must stay, whoever committed it.
        self._evidence.generation = max(self._evidence.generation, ready.generation)

    @on
    async def paused(self, told: TrainingPaused) -> None:
        """Whoever hears this may take the power away."""
        head = read_head(self._disk)
        stands = head.in_force.global_step if head is not None else 0
        if stands < told.global_step:
            self._violate("a pause holds", f"paused at step {told.global_step}, and step {stands} is in force")

    @on
    async def started(self, batch: BatchStarted) -> None:
        in_training = self._evidence.in_training
        if in_training not in ("", batch.batch):
            self._violate(PROMISE, f"batch {batch.batch} began while {in_training} was in training")
        self._evidence.in_training = batch.batch
        self._evidence.announced("BatchStarted")

    @on
    async def progressed(self, _: TrainingProgress) -> None:
        """A slice of steps was taken."""
        self._evidence.announced("TrainingProgress")

    @on
    async def filed(self, _: BatchFiled) -> None:
        """A file is in its last place."""
        self._evidence.announced("BatchFiled")

    @on
    async def ended(self, batch: BatchTrained | BatchFailed) -> None:
        if self._evidence.in_training == batch.batch:
            self._evidence.in_training = ""
            self._evidence.counts["batches"] += 1
        self._evidence.announced("BatchTrained")


class OneEngine:
    """Each engine of a life tells when it loads and when it learns; only the one that loaded last may learn."""

    def __init__(self, evidence: Evidence, now: Callable[[], float], violate: Callable[[str, str], None]) -> None:
        self._evidence = evidence
        self._now = now
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
        self._evidence.stepped_at = self._now()

    def holds(self, weights: Weights | None) -> None:
        """What is in the engine; ``None`` once it has stumbled and must be loaded anew."""
        self._evidence.weights = weights
