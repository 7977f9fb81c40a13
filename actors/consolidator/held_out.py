"""Measures models on held-out text: the same tokens for each, so that their losses may be compared.

Guarantees that what is measured is a function of the record and the model's size alone, and bounded, so that a night on
a large model ends. Uses nothing of the Trainer's: the record holds tokens, and the models are plain transformers and
peft.

Letters: T tokens of the window, K of them that count, V vocabulary.
"""

from __future__ import annotations

import math
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import torch

from actors.consolidator.merge_problem import HELD_OUT_WORSE, MergeProblem
from messages.held_out import HELD_OUT, HeldOut, HeldOutLoss, HeldOutWindow, read_held_out

NOTHING_HELD_OUT = HeldOut()

PARAMETER_TOKENS_MAX = 4_000_000_000_000
TOKENS_MIN = 256
"""Tokens times parameters of one pass, so that three passes take minutes on two cores: all that is kept for a model of
half a billion parameters, some hundred tokens for one of eight billion; and never fewer than ``TOKENS_MIN``."""

IN_FLOAT32_MAX = 2_000_000_000
"""Parameters. It takes four bytes for each, and twice a large model's memory is too much to ask for at night."""


def kept_in_generation(generation: Path) -> HeldOut:
    """What lies beside the adapter of a generation; nothing in one that was written before there was this file.

    Raises:
        MergeProblem: the file is damaged.
        OSError: it cannot be read.
    """
    path = generation / HELD_OUT
    if not path.exists():
        return NOTHING_HELD_OUT
    try:
        return read_held_out(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise MergeProblem("NF-MERGE-022", f"{path} cannot be read: {error}") from None


class Measure:
    """One choice of windows, for models of ``parameters`` parameters.

    Up to ``IN_FLOAT32_MAX`` of them the sums are done in float32: what 16 bits of a weight have lost is seen then,
    where sums in 16 bits would lose as much of base + adapter too. A larger model is measured in its own numbers.
    """

    def __init__(self, held_out: HeldOut, parameters: int) -> None:
        self._in_float32 = parameters <= IN_FLOAT32_MAX
        self._windows = chosen(held_out, max(TOKENS_MIN, PARAMETER_TOKENS_MAX // max(1, parameters)))
        self._tokens = sum(len(window.targets) for window in self._windows)

    def loss(self, model: Any) -> float:
        """Mean nats per token; 0.0 where there is nothing to measure. The model may be in float32 afterwards."""
        if not self._tokens:
            return 0.0
        if self._in_float32:
            model.float()
        return math.fsum(_summed_loss(model, window) for window in self._windows) / self._tokens

    def told(self, *, merged: float, adapter: float, yesterday: float) -> HeldOutLoss | None:
        """The three losses together; ``None`` where there was nothing to measure.

        Raises:
            MergeProblem: one is not finite, so that nothing can be held against it (``NF-MERGE-032``).
        """
        if not self._tokens:
            return None
        if not all(map(math.isfinite, (merged, adapter, yesterday))):
            raise MergeProblem(
                HELD_OUT_WORSE,
                f"on held-out text the merged model's loss is {merged}, that of base and adapter {adapter}",
            )
        return HeldOutLoss(len(self._windows), self._tokens, merged, adapter, yesterday)


def chosen(held_out: HeldOut, tokens_max: int) -> list[HeldOutWindow]:
    """Windows of at most ``tokens_max`` tokens together, from as many files as can be: of each the first, the newest
    file before the others; then of each the second, and so on. At least one, if there is one at all."""
    windows: list[HeldOutWindow] = []
    tokens = 0
    for of_each_file in zip_longest(*(one.windows for one in reversed(held_out.slices))):
        for window in of_each_file:
            if window is not None and window.targets and (not windows or tokens + len(window.ids) <= tokens_max):
                windows.append(window)
                tokens += len(window.ids)
    return windows


def _summed_loss(model: Any, window: HeldOutWindow) -> float:
    targets = torch.tensor(window.targets)  # (K)
    ids = torch.tensor([window.ids])  # (1, T)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, targets - 1].float()  # (K, V)
        return float(torch.nn.functional.cross_entropy(logits, ids[0, targets], reduction="sum"))
