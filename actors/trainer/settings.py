"""The ``[trainer]`` section of the config: what is trained, how fast, and in how large pieces.

Guarantees that a value which came through ``msgspec.convert`` is within bounds. Knows nothing of torch, so the
launcher can check a config without loading it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class TrainerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person may set under ``[trainer]``.

    Attributes:
        model: the pristine base: a folder inside the home, an absolute folder, or a hub id.
        rank: of the LoRA matrices.
        alpha: LoRA scale numerator; ``None`` means twice the rank.
        rslora: scale by alpha / sqrt(rank) instead of alpha / rank; worth it from rank 64 on.
        dropout: on the adapter's input.
        targets: ``all-linear`` (all but embeddings and head), a pattern, or module names.
        learning_rate: of the plateau, reached after ``warmup_steps`` steps of each adapter.
        weight_decay: decoupled, as AdamW has it.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment; 0.99 suits short horizons.
        grad_clip: upper bound of the global gradient norm.
        batch_tokens: tokens of one optimizer step, without padding; a longer example is a step of its own.
        batch_examples: examples of one optimizer step, at most.
        micro_batch_tokens: tokens sent through the model at once, with padding; bounds the memory needed.
        max_length: tokens of one window, at most; ``None`` means the model's own context.
        epochs: how often each file is read.
        held_out_share: of a file's examples, never trained and measured before and after it, and at night; 0 for none.
        held_out_examples_min: a file of fewer examples is learnt whole.
        over_long: an example longer than ``max_length`` is split into windows, or left out; counted either way.
        device: ``auto`` takes cuda, then mps, then cpu.
        dtype: ``auto`` is bfloat16 on a GPU that computes in it, float32 elsewhere. The adapter is always float32.
        threads: of the CPU; 0 means as recorded in the home, else the cores available.
        seed: recorded in a new home; every random choice in training is derived from it.
        gradient_checkpointing: compute activations twice to save memory (about 30 % slower).
        checkpoint_every_seconds: longest stretch of learning a crash may cost while a batch trains; 0 turns it off.
        checkpoint_every_steps: also after so many steps; ``None`` leaves it to the seconds.
        slice_seconds: how long the engine trains before the Trainer looks at its mailbox.
        slice_steps: at most so many steps in one slice; ``None`` leaves it to the seconds.
        look_again_seconds: how often a refused commit or missing space is asked for again.
        max_attempts: tries of a batch that stumbles over something transient.
        retry_seconds: wait before the second try; doubles with each.
    """

    model: Annotated[str, Meta(min_length=1)] = "model"
    rank: Annotated[int, Meta(ge=1, le=1024)] = 16
    alpha: Annotated[int, Meta(ge=1, le=8192)] | None = None
    rslora: bool = False
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    targets: str | list[str] = "all-linear"
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 2e-4
    warmup_steps: Annotated[int, Meta(ge=0)] = 50
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    adam_beta1: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    grad_clip: Annotated[float, Meta(gt=0)] = 1.0
    batch_tokens: Count = 4096
    batch_examples: Count = 16
    micro_batch_tokens: Count = 2048
    max_length: Annotated[int, Meta(ge=8)] | None = None
    epochs: Annotated[int, Meta(ge=1, le=1000)] = 2
    held_out_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    held_out_examples_min: Annotated[int, Meta(ge=2)] = 20
    over_long: Literal["split", "reject"] = "split"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    gradient_checkpointing: bool = False
    checkpoint_every_seconds: Seconds = 120.0
    checkpoint_every_steps: Count | None = None
    slice_seconds: Annotated[float, Meta(gt=0)] = 1.0
    slice_steps: Count | None = None
    look_again_seconds: Annotated[float, Meta(ge=1, le=3600)] = 15.0
    max_attempts: Count = 3
    retry_seconds: Seconds = 2.0

    @property
    def lora_alpha(self) -> int:
        return self.alpha or 2 * self.rank
