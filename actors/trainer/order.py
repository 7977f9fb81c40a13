"""The order of learning: which examples form which optimizer step, and which of them go through the model together.

Guarantees that everything here is a pure function of its arguments, the same on every machine, Python and process:
so a cursor needs only the number of the next step. Knows nothing of tokens but their count, nor of torch.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Container, Iterable, Sequence

EVALUATION_EXAMPLES = 32


def permutation(seed: int, digest: str, epoch: int, count: int) -> list[int]:
    """The numbers below ``count`` in the order of one epoch.

    Sorting by a keyed hash, rather than shuffling, leaves nothing to a library's random generator, whose stream may
    change with its version.
    """
    key = hashlib.blake2b(f"{seed}\0{digest}\0{epoch}".encode(), digest_size=32).digest()
    start = hashlib.blake2b(key=key, digest_size=8)

    def rank(index: int) -> tuple[bytes, int]:
        mark = start.copy()
        mark.update(index.to_bytes(8, "little"))
        return mark.digest(), index

    return sorted(range(count), key=rank)


def group(order: Iterable[int], lengths: Sequence[int], batch_tokens: int, batch_examples: int) -> list[array[int]]:
    """Cut ``order`` into steps of at most ``batch_tokens`` tokens and ``batch_examples`` examples.

    An example that alone is over the budget is a step of its own: the budget bounds, it never drops.
    """
    steps: list[array[int]] = []
    current = array("q")
    tokens = 0
    for index in order:
        if current and (tokens + lengths[index] > batch_tokens or len(current) >= batch_examples):
            steps.append(current)
            current, tokens = array("q"), 0
        current.append(index)
        tokens += lengths[index]
    if current:
        steps.append(current)
    return steps


def plan(
    seed: int,
    digest: str,
    epochs: int,
    lengths: Sequence[int],
    batch_tokens: int,
    batch_examples: int,
    held_out: Container[int] = (),
) -> list[array[int]]:
    """All steps of a batch, epoch after epoch. No step spans two epochs, and none has what is ``held_out``."""
    return [
        step
        for epoch in range(epochs)
        for step in group(
            (number for number in permutation(seed, digest, epoch, len(lengths)) if number not in held_out),
            lengths,
            batch_tokens,
            batch_examples,
        )
    ]


def micro_batches(
    step: Iterable[int], lengths: Sequence[int], micro_batch_tokens: int, examples_max: int | None = None
) -> list[list[int]]:
    """Cut one step into what goes through the model together, longest first.

    Sorting by length keeps padding small, and the longest first meets an out-of-memory before time was spent. Each
    piece has at most ``micro_batch_tokens`` tokens, padding counted, and ``examples_max`` examples.
    """
    pieces: list[list[int]] = []
    widest = 0
    for index in sorted(step, key=lambda index: (-lengths[index], index)):
        piece = pieces[-1] if pieces else None
        if (
            piece is None
            or widest * (len(piece) + 1) > micro_batch_tokens
            or (examples_max is not None and len(piece) >= examples_max)
        ):
            pieces.append([index])
            widest = lengths[index]
        else:
            piece.append(index)
    return pieces


def evaluation_sample(seed: int, digest: str, count: int, held_out: Container[int] = ()) -> list[int]:
    """The examples ``evaluate`` measures, of those that are learnt: always the same ones for one batch."""
    learnt = [number for number in permutation(seed, digest, 0, count) if number not in held_out]
    return learnt[:EVALUATION_EXAMPLES]
