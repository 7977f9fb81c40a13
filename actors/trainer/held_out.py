"""The held-out slice: examples of each file that are measured and never trained, and the sample of them that is kept.

Guarantees:
    * Which examples are held out is a pure function of (seed, batch digest, how many), so a file that is resumed,
      tried again or dropped again holds out the same ones.
    * An example is held out whole: of one that was split into windows, every window.
    * What is kept is bounded, and thinned where a file has most of it: old files stay in it as long as there is room.

Knows nothing of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from actors.trainer.engine import EngineError
from actors.trainer.order import permutation
from actors.trainer.settings import TrainerSettings
from actors.trainer.tokenised_batch import TokenisedBatch
from messages import Cursor
from messages.held_out import HELD_OUT, HeldOut, HeldOutSlice, HeldOutWindow, read_held_out
from runtime.disk import DiskPort

EXAMPLES_MAX = 32
TOKENS_MAX = 4096
"""Of one file: it is measured twice, and measuring must stay cheap beside learning it."""

KEPT_WINDOWS_MAX = 64
KEPT_TOKENS_MAX = 8192
"""Of all files together: so much lies in every generation and is measured at night."""
WINDOW_TOKENS_MAX = 1024
"""Of a longer window the end is kept, which is where the assistant speaks."""

NO_EPOCH = -1
"""Where the permutation that chooses stands among those that order the epochs."""


def wanted(examples: int, share: float, examples_min: int) -> int:
    """How many examples of a file should be held out; 0 in a file of fewer than ``examples_min``."""
    if not share or examples < examples_min:
        return 0
    return min(EXAMPLES_MAX, examples // 2, max(1, round(share * examples)))


def choose(seed: int, digest: str, sizes: Sequence[int], count: int) -> list[int]:
    """``count`` of the examples, fewer if they would hold too many tokens; ``sizes`` are the tokens of each."""
    chosen: list[int] = []
    tokens = 0
    if count:
        for number in permutation(seed, digest, NO_EPOCH, len(sizes)):
            if tokens + sizes[number] <= TOKENS_MAX:
                chosen.append(number)
                tokens += sizes[number]
            if len(chosen) == count:
                break
    return chosen


def hold_out(seed: int, cursor: Cursor, tokens: TokenisedBatch, settings: TrainerSettings) -> tuple[int, list[int]]:
    """How many examples of a batch are held out, and the numbers of their windows, in the order of choice.

    A batch that was open before holds out as many as then, so a changed setting is for the next file.
    """
    if cursor.steps:
        count = cursor.held_out
    else:
        count = wanted(tokens.examples, settings.held_out_share, settings.held_out_examples_min)
    if not count:
        return 0, []
    sizes = [0] * tokens.examples
    for number, owner in enumerate(tokens.owners):
        sizes[owner] += tokens.lengths[number]
    windows: dict[int, list[int]] = {example: [] for example in choose(seed, cursor.digest, sizes, count)}
    for number, owner in enumerate(tokens.owners):
        if owner in windows:
            windows[owner].append(number)
    return len(windows), [number for some in windows.values() for number in some]


def window_of(ids: Sequence[int], trained: Sequence[int]) -> HeldOutWindow:
    """What is kept of a window; ``trained`` has one figure for each token, not 0 where it is the model's to write."""
    runs, place = [], 0
    for learnt, run in groupby(trained[-WINDOW_TOKENS_MAX:], key=bool):
        length = len(list(run))
        if learnt:
            runs.append((place, place + length))
        place += length
    return HeldOutWindow(tuple(ids[-WINDOW_TOKENS_MAX:]), tuple(runs))


class KeptSample:
    """What is kept of the slices of all files, and ``content``: the file that says so, made once for each change."""

    def __init__(self, content: bytes | None = None) -> None:
        self._slices = read_held_out(content).slices if content is not None else ()
        self.content = self._encoded()

    def add(self, digest: str, windows: Sequence[HeldOutWindow]) -> None:
        """The slice of a file that begins to be learnt, in the order of choice; it replaces an older one of its own."""
        usable = tuple(window for window in windows if window.targets)
        if not usable:
            return
        others = tuple(one for one in self._slices if one.digest != digest)
        self._slices = _thinned((*others, HeldOutSlice(digest, usable)))
        self.content = self._encoded()

    def _encoded(self) -> bytes:
        return msgspec.json.encode(HeldOut(slices=self._slices)) + b"\n"


def read_kept_sample(disk: DiskPort, generation_path: str) -> KeptSample:
    """What a generation keeps; nothing without one, or of one that was written before there was this file.

    Raises:
        EngineError: NF-MODEL-008, the file is not what it should be.
    """
    path = f"{generation_path}/{HELD_OUT}"
    if not generation_path or disk.stat(path) is None:
        return KeptSample()
    try:
        return KeptSample(disk.read(path))
    except msgspec.MsgspecError as error:
        raise EngineError("NF-MODEL-008", f"{HELD_OUT} cannot be read: {error}") from error


def _thinned(slices: tuple[HeldOutSlice, ...]) -> tuple[HeldOutSlice, ...]:
    """Within the bounds: the last-chosen window goes from the slice that has most of them, of equals the oldest."""
    kept = [list(one.windows) for one in slices]
    windows = sum(map(len, kept))
    tokens = sum(len(window.ids) for some in kept for window in some)
    while windows > KEPT_WINDOWS_MAX or tokens > KEPT_TOKENS_MAX:
        fullest = max(range(len(kept)), key=lambda number: (len(kept[number]), -number))
        tokens -= len(kept[fullest].pop().ids)
        windows -= 1
    return tuple(HeldOutSlice(one.digest, tuple(some)) for one, some in zip(slices, kept, strict=True) if some)
