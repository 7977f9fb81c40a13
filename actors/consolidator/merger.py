"""What the Consolidator asks of whatever merges: make the merged model, prove it, or say why not."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from messages.held_out import HeldOutLoss


class MergeRequest(msgspec.Struct, frozen=True):
    """Merge ``deltas`` (home-relative adapter folders, oldest first) into the pristine base.

    ``out`` is the home-relative folder to write; it does not exist yet and is complete only when ``merge`` returns.
    ``last_base`` is the merged model the newest delta was trained on (``""``: the pristine base): the new model must
    answer as that one with the newest delta on top. ``nights`` names the deltas for the model's manifest, which also
    bears ``base_fingerprint``. ``proof``: by answers too, by its tensors alone, or none, for a model that was proven
    before and whose digest says whether it is the same again.
    """

    deltas: tuple[str, ...]
    out: str
    last_base: str
    nights: tuple[str, ...] = ()
    base_fingerprint: str = ""
    proof: Literal["answers", "tensors", "none"] = "answers"


class MergeDone(msgspec.Struct, frozen=True):
    """The model is at ``out``, durable and verified. ``max_logit_difference`` against base + adapter.

    ``digest`` is that of its files, as ``runtime.manifest`` has it; ``""``: it was written without a manifest.
    ``held_out`` is the loss of both on what no file trained, and the Consolidator's to judge; ``None``: nothing was
    held out, so the answers alone speak for the model.
    """

    tensors: int
    size_bytes: int
    max_logit_difference: float
    seconds: float
    digest: str = ""
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
        """About how many bytes a merge will write. For the DiskGuard, which forecasts the whole night."""
