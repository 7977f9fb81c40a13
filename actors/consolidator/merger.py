"""What the Consolidator asks of whatever merges: make the merged model, prove it, or say why not."""

from __future__ import annotations

from typing import Protocol

import msgspec

from messages.held_out import HeldOutLoss


class MergeRequest(msgspec.Struct, frozen=True):
    """Merge ``deltas`` (home-relative adapter folders, oldest first) into the pristine base.

    ``out`` is the home-relative folder to write; it does not exist yet and is complete only when ``merge`` returns.
    ``last_base`` is the merged model the newest delta was trained on (``""``: the pristine base): the new model must
    answer as that one with the newest delta on top.
    """

    deltas: tuple[str, ...]
    out: str
    last_base: str


class MergeDone(msgspec.Struct, frozen=True):
    """The model is at ``out``, durable and verified. ``max_logit_difference`` against base + adapter.

    ``held_out`` is the loss of both on what no file trained, and the Consolidator's to judge; ``None``: nothing was
    held out, so the answers alone speak for the model.
    """

    tensors: int
    size_bytes: int
    max_logit_difference: float
    seconds: float
    held_out: HeldOutLoss | None = None


class MergeRefused(msgspec.Struct, frozen=True):
    """Nothing is left at ``out``. ``code`` from ``messages.codes`` (``NF-MERGE-…``)."""

    code: str
    why: str


class Merger(Protocol):
    """Runs outside the daemon's process where it is real; cancelling ``merge`` kills it and what it started."""

    async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
        """Merge and verify."""

    def forecast_bytes(self) -> int:
        """About how many bytes a merge will write."""
