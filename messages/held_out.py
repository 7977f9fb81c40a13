"""What is held out of training: a file's slice as tokens, and the record in which a generation keeps the slices.

The Trainer chooses and keeps them, the Consolidator measures on them at night; this is all that the two share. Knows
nothing of models. The record is read whole or not at all.
"""

from __future__ import annotations

import msgspec

HELD_OUT = "held_out.json"
"""Its name in a generation. A generation written before there was one has none: nothing was held out."""


class HeldOutWindow(msgspec.Struct, frozen=True):
    """Tokens of one example. ``trained``: (begin, end) of each run of tokens that are the model's to write."""

    ids: tuple[int, ...]
    trained: tuple[tuple[int, int], ...]

    @property
    def targets(self) -> list[int]:
        """Places of the tokens that count. The first token has nothing before it to be predicted from."""
        return [place for begin, end in self.trained for place in range(max(1, begin), end)]


class HeldOutSlice(msgspec.Struct, frozen=True):
    """What one file gave, in the order in which it was chosen; ``digest`` is the file's."""

    digest: str
    windows: tuple[HeldOutWindow, ...]


class HeldOut(msgspec.Struct, frozen=True):
    """``held_out.json``: slices, the newest last."""

    schema: int = 1
    slices: tuple[HeldOutSlice, ...] = ()


class HeldOutLoss(msgspec.Struct, frozen=True):
    """Mean loss over the same ``tokens`` of ``examples`` that no file trained, in nats per token.

    Attributes:
        merged: the merged model, rounded, as it was loaded from disk.
        adapter: what it is to replace: the base of yesterday with the adapter on it.
        yesterday: that base alone, so what the adapter learnt is ``yesterday - adapter``.
    """

    examples: int
    tokens: int
    merged: float
    adapter: float
    yesterday: float


def read_held_out(content: bytes) -> HeldOut:
    """Decode the record.

    Raises:
        msgspec.MsgspecError: it is not one.
    """
    return msgspec.json.decode(content, type=HeldOut)
