"""What the Trainer asks of whatever computes: one small synchronous protocol.

The torch engine, the simulation's hash-chain engine and later a cluster's stand behind it. Every method runs on the
Trainer's device thread, one at a time, and may take long; only ``interrupted`` (passed in) is read while it runs.
An engine knows weights, optimizer, tokens and nothing else: not files' fates, not commits, not messages' routes.

Contract:
    * Order is a pure function of (seed, batch digest, epoch). Two engines with the same state that take the same
      steps end with the same bytes (CPU).
    * The optimizer and its moments carry over from batch to batch and are fresh with a fresh adapter.
    * ``snapshot`` right after step k, then ``load`` elsewhere, then further steps equals never having stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from messages import Cursor, LearningState
from runtime.disk import Buffer


class EngineInfo(msgspec.Struct, frozen=True):
    """What was loaded. ``parameters`` and ``trainable`` count scalars; ``fingerprint`` names the pristine base."""

    device: str
    dtype: str
    model: str
    parameters: int
    trainable: int
    fingerprint: str
    threads: int


class BatchPlan(msgspec.Struct, frozen=True):
    """What a batch will take. Token counts are over all epochs; ``held_out`` of its examples are in no step."""

    steps: int
    epochs: int
    examples: int
    tokens_trained: int
    tokens_masked: int
    tokens_cut: int
    warnings: tuple[str, ...] = ()
    held_out: int = 0


class Step(msgspec.Struct, frozen=True):
    """One optimizer step. ``loss``: mean nats per trained token of the whole step.

    ``skipped`` is the reason why nothing was changed (loss or gradient not finite), empty if it counted.
    ``micro_batch`` is not 0 when memory ran out and the step was finished in pieces of that many examples.
    """

    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    skipped: str = ""
    micro_batch: int = 0


class EngineError(Exception):
    """The engine cannot go on, in words for a person.

    Args:
        code: from ``messages.codes`` (``NF-MODEL-…``, ``NF-TRAIN-…``).
        transient: worth another try from the last committed generation (I/O, a device hiccup).
    """

    def __init__(self, code: str, why: str, *, transient: bool = False) -> None:
        super().__init__(why)
        self.code = code
        self.why = why
        self.transient = transient


class Engine(Protocol):
    """See the module's contract. Raises ``EngineError``; anything else is a bug and crashes the Trainer."""

    def load(self, state: LearningState, generation_path: str, model_path: str) -> EngineInfo:
        """Load the base and, on it, the adapter, optimizer and RNG of a generation.

        Args:
            state: counters of the generation; ``seed``, ``threads`` and ``adapter_id`` decide a fresh start.
            generation_path: home-relative folder, already verified; ``""`` begins a fresh adapter.
            model_path: home-relative folder of the merged model the adapter stands on; ``""`` for the pristine base.

        A fresh adapter on a merged model is the same home's: what was held out so far goes on with it.
        Loading is all or refuse: a missing or unknown tensor raises, nothing is silently fresh.
        """

    def open_batch(self, path: str, cursor: Cursor, adapter_step: int) -> BatchPlan:
        """Read, tokenise and plan the batch at ``path``; the next ``step`` is number ``cursor.step``.

        A batch that was open before (``cursor.steps``) keeps the epochs and the held-out examples of its cursor,
        whatever the settings say by now.
        """

    def step(self, adapter_step: int) -> Step:
        """Take the next optimizer step of the open batch; ``adapter_step`` (before it) sets the learning rate."""

    def evaluate(self) -> float | None:
        """Mean loss over the open batch's fixed sample (nats per trained token), changing nothing."""

    def evaluate_held_out(self) -> float | None:
        """The same over its held-out examples; ``None`` if it has none."""

    def snapshot(self) -> Mapping[str, Buffer]:
        """File name -> content of all a generation needs but ``trainer_state.json``. Never a non-finite number.

        The content stands still until ``reuse``; steps may go on meanwhile. This is all the time that a checkpoint
        takes from training, so it only copies.
        """

    def reuse(self, snapshot: Mapping[str, Buffer]) -> None:
        """Nobody reads this snapshot any more: its memory may be filled again. The one method called on any thread."""

    def close_batch(self) -> None:
        """Forget the open batch."""

    def unload(self) -> None:
        """Let go of weights and device memory."""


Interrupted = Callable[[], bool]
"""Read between steps: true once the Trainer wants the thread back."""
