"""A batch file as tokens: every window that will be trained, in compact arrays, and what was left out and why.

Guarantees that windows stand in the order of the file's lines, so their numbers mean the same each time the file is
read with the same tokenizer and bound. A line that cannot be trained is counted and told, never guessed at.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Literal

from actors.trainer.rendering import Renderer, Unrenderable, split
from messages.example_lines import read_examples
from messages.examples import Example, LineProblem

OverLong = Literal["split", "reject"]

TOLD_MAX = 5
"""So many lines are named in the warnings; the rest are counted."""


class TokenisedBatch:
    """Windows by number.

    Attributes:
        lengths: tokens of each window.
        trained_counts: tokens of each window that enter the loss.
        owners: for each window, the number of the example it is of; windows of one example stand together.
        examples: lines of which something can be trained.
        cut: tokens that are in no window.
        warnings: what was left out and why, for the receipt.
    """

    def __init__(self) -> None:
        self.lengths = array("q")
        self.trained_counts = array("q")
        self.owners = array("q")
        self.examples = 0
        self.cut = 0
        self._ids = array("i")
        self._trained = bytearray()
        self._starts = array("q")
        self._left_out: list[str] = []
        self._left_out_count = 0
        self._too_long = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def window(self, number: int) -> tuple[array[int], bytes]:
        """Token ids, and a byte for each: 1 if it is trained."""
        start, length = self._starts[number], self.lengths[number]
        return self._ids[start : start + length], bytes(self._trained[start : start + length])

    @property
    def warnings(self) -> tuple[str, ...]:
        told = list(self._left_out)
        if self._left_out_count > len(told):
            told.append(f"{self._left_out_count - len(told)} more lines were left out")
        if self._too_long:
            told.append(
                f"{self._too_long} examples are longer than the model takes at once; {self.cut} tokens were left out"
            )
        return tuple(told)

    def leave_out(self, line: int, why: str) -> None:
        """Count a line that is not trained."""
        self._left_out_count += 1
        if len(self._left_out) < TOLD_MAX:
            self._left_out.append(f"line {line} was left out: {why}")

    def add(self, line: int, example: Example, renderer: Renderer, length_max: int | None, over_long: OverLong) -> None:
        """Keep the windows of one example."""
        whole = renderer.whole(example)
        if isinstance(whole, Unrenderable):
            self.leave_out(line, whole.why)
            return
        windows, cut = [whole], 0
        if length_max is not None and len(whole.input_ids) > length_max:
            self._too_long += 1
            windows, cut = split(whole, length_max) if over_long == "split" else ([], len(whole.input_ids))
        self.cut += cut
        if not windows:
            return
        self.owners.extend([self.examples] * len(windows))
        self.examples += 1
        for window in windows:
            self._starts.append(len(self._ids))
            self.lengths.append(len(window.input_ids))
            self.trained_counts.append(window.trained_count)
            self._ids.extend(window.input_ids)
            self._trained.extend(window.trained)


def read_batch(
    chunks: Iterable[bytes], renderer: Renderer, length_max: int | None, over_long: OverLong
) -> TokenisedBatch:
    """Read a whole file. Lines that are no example were told by the Validator already, so they are only passed over."""
    batch = TokenisedBatch()
    for number, example in read_examples(chunks):
        if not isinstance(example, LineProblem):
            batch.add(number, example, renderer, length_max, over_long)
    return batch
