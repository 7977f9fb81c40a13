"""Pinning as it is answered to people, by the Checkpointer while it lives and by the command while none does."""

from __future__ import annotations

from actors.checkpointer.store import Store
from actors.checkpointer.verification import Damaged
from messages import PinRefused, PinSet
from runtime import OperatorError


def pin(store: Store, target: str, *, pinned: bool) -> PinSet | PinRefused:
    """Pin or unpin; whatever is in the way is told in words, and then nothing is changed.

    A refused sync alone may leave HEAD as it was wanted: asking again then makes it durable.
    """
    try:
        done = store.pin(target, pinned=pinned)
    except OperatorError as mistake:
        return PinRefused(target, mistake.code, mistake.what, mistake.hint)
    except Damaged as damage:
        why = f"{target} cannot be gone back to: {damage}"
        return PinRefused(target, "NF-STATE-003", why, "nightfold doctor HOME says what is sound; pin that")
    except OSError as error:
        return PinRefused(target, "NF-DISK-003", f"the disk refused: {error}", "mend the disk and ask again")
    return PinSet(target, done.kind, pinned, done.pinned)
