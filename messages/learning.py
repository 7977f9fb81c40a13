"""The state of learning, and what the Trainer says while it changes it."""

from __future__ import annotations

import msgspec

from messages.batches import BatchFailed, BatchTrained
from messages.message import Message, Question

SCHEMA = 1
"""Version of everything written under ``state/``. Older is migrated on the next commit, newer is refused."""


class Cursor(msgspec.Struct, frozen=True):
    """Where training stands inside one batch: ``step`` of its ``steps`` are already in the weights.

    The order of examples is a pure function of (seed, digest, epoch), so ``step`` alone says what comes next.
    The other fields accumulate what the receipt will say; tokens as in ``Receipt``, ``seconds`` of training,
    ``checkpoint_seconds`` for which it stood still for checkpoints. With ``epochs``, ``held_out`` belongs to the order:
    so many examples are in no step of this batch, from its first to its last.
    """

    batch: str
    name: str
    path: str
    digest: str
    examples: int
    step: int
    steps: int
    epochs: int
    first_global_step: int
    loss_before: float | None = None
    tokens_trained: int = 0
    tokens_masked: int = 0
    tokens_cut: int = 0
    seconds: float = 0.0
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    steps_skipped: int = 0
    resumed: int = 0
    warnings: tuple[str, ...] = ()
    held_out: int = 0
    loss_held_out_before: float | None = None


class LearningState(msgspec.Struct, frozen=True):
    """``trainer_state.json``: every counter of one generation.

    Attributes:
        global_step: optimizer steps since the home began.
        adapter_id: changes when a fresh adapter starts (``a0001``, ``a0002`` …).
        adapter_step: optimizer steps since this adapter began; drives the learning rate.
        base: ``""`` while the adapter stands on the pristine base, else the night whose merged model it stands on.
        base_fingerprint: of the pristine base, see ``Engine.fingerprint``.
        seed: the home's seed, from which every random choice in training is derived.
        threads: CPU threads the home trains with; another count changes the last bits, so it is kept.
        learning_since: local time (ISO 8601) of this adapter's first step, ``None`` while it has none.
        cursor: the batch in training, ``None`` between batches.
        unfiled: outcomes that are committed here and whose files are not yet known to be filed.
    """

    schema: int = SCHEMA
    global_step: int = 0
    adapter_id: str = "a0001"
    adapter_step: int = 0
    base: str = ""
    base_fingerprint: str = ""
    seed: int = 0
    threads: int = 0
    learning_since: str | None = None
    cursor: Cursor | None = None
    unfiled: tuple[BatchTrained | BatchFailed, ...] = ()


class TrainingProgress(Message, frozen=True):
    """How the batch in training is getting on. Loss in nats per trained token, mean over the last slice."""

    batch: str
    name: str
    step: int
    steps: int
    global_step: int
    adapter_step: int
    loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens_per_second: float
    eta_s: float


class StepSkipped(Message, frozen=True):
    """Loss or gradient was not finite: the step changed nothing."""

    batch: str
    global_step: int
    why: str


class MicroBatchHalved(Message, frozen=True):
    """Out of memory: the same step goes on in smaller pieces."""

    batch: str
    micro_batch: int


class TrainerReady(Message, frozen=True):
    """The model is loaded and training may begin."""

    device: str
    dtype: str
    model: str
    parameters: int
    trainable: int
    generation: int
    global_step: int
    adapter_id: str
    adapter_step: int
    base: str


class PauseTraining(Message, frozen=True):
    """Finish the step in hand, commit, and hold."""


class ResumeTraining(Message, frozen=True):
    """Go on after ``PauseTraining``."""


class TrainingPaused(Message, frozen=True):
    """Training holds; everything learnt so far is committed."""

    global_step: int


class TrainingResumed(Message, frozen=True):
    """Training may go on."""


class TrainingWaits(Message, frozen=True):
    """The batch ``name`` may not go on yet: ``why``, and if it is for want of space, how many bytes are missing."""

    name: str
    why: str
    missing_bytes: int = 0


class TrainingIdle(Message, frozen=True):
    """Nothing to train: no batch in hand, none queued."""

    global_step: int


# What the engine's thread reports: each arrives in the Trainer's mailbox as an ordinary message.


class EngineLoaded(Message, frozen=True):
    """The engine holds the weights of ``state``, which is that of ``generation`` (0: nothing was ever committed)."""

    state: LearningState
    generation: int
    device: str
    dtype: str
    model: str
    parameters: int
    trainable: int


class BatchOpened(Message, frozen=True):
    """The batch is tokenised and planned; ``cursor.step`` of ``cursor.steps`` are done."""

    cursor: Cursor
    tokens: int


class StepsTaken(Message, frozen=True):
    """A slice of ``taken`` steps is done. ``ticket`` names the snapshot left in the cloakroom, if one was due."""

    state: LearningState
    taken: int
    loss: float | None
    learning_rate: float
    grad_norm: float | None
    seconds: float
    tokens: int
    micro_batch: int = 0
    skipped: int = 0
    ticket: str = ""


class BatchExhausted(Message, frozen=True):
    """The last step of the batch is done and measured; ``ticket`` names its snapshot."""

    state: LearningState
    trained: BatchTrained
    ticket: str


class EngineStumbled(Message, frozen=True):
    """The engine could not do its job. ``transient`` errors are retried; the engine's state is not to be trusted."""

    code: str
    why: str
    transient: bool
    traceback: str = ""


class TryAgain(Message, frozen=True):
    """The Trainer's own reminder: the wait after a transient error is over."""


class TrainerYielded(Message, frozen=True):
    """The Trainer is idle, everything is committed, and it stays so until ``NightClosed``."""

    state: LearningState


class TrainerBusy(Message, frozen=True):
    """Training is going on or due; ask again when it is idle."""

    why: str


class YieldTrainer(Question[TrainerYielded | TrainerBusy], frozen=True):
    """May a night begin? If so, train nothing until it is closed."""

    night: str


class AdapterBegun(Message, frozen=True):
    """A fresh adapter stands on the merged model; ``ticket`` names its first snapshot."""

    state: LearningState
    ticket: str


class AdapterNotBegun(Message, frozen=True):
    """The engine could not load the merged model or make a fresh adapter."""

    why: str


class BeginAdapter(Question[AdapterBegun | AdapterNotBegun], frozen=True):
    """Load the merged model of ``night`` and put a fresh adapter on it."""

    night: str
    model_path: str
    model_digest: str = ""
