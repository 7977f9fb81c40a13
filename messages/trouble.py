"""What went wrong, in words a person can act on; the codes themselves are in ``messages.codes``."""

from __future__ import annotations

import msgspec


class LineError(msgspec.Struct, frozen=True):
    """One thing wrong with one line of a dropped file.

    Attributes:
        line: 1-based line number.
        path: where in the line, e.g. ``$.messages[1].content``; ``$`` for the line as a whole.
        expected: what should stand there.
        found: what stands there, shortened.
    """

    line: int
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.path}: expected {self.expected}, found {self.found}"


class Trouble(msgspec.Struct, frozen=True):
    """A stable code, what happened, and what the person should do now."""

    code: str
    message: str
    hint: str = ""


class Report(msgspec.Struct, frozen=True):
    """Why a file was rejected or failed; lies beside the file as ``NAME.report.json``.

    ``errors`` holds at most the first 20 findings; ``error_count`` counts them all. ``steps_kept`` counts the optimizer
    steps of a failed file that were committed before the trouble, and so are in the weights.
    """

    batch: str
    name: str
    trouble: Trouble
    errors: tuple[LineError, ...] = ()
    error_count: int = 0
    good_lines: int = 0
    steps_kept: int = 0
    when: str = ""
    notes: tuple[str, ...] = ()


class Receipt(msgspec.Struct, frozen=True):
    """What one trained file did to the model; lies beside the file as ``NAME.receipt.json``.

    ``tokens_*`` count model tokens over all epochs; losses are mean nats per trained token over the same
    fixed sample of the file, measured before its first and after its last step. ``seconds`` is training time.
    ``checkpoint_seconds``: how long the steps stood still for all ``checkpoints`` together, which is while the state is
    copied; ``checkpoint_share``: of the time that training took with them.
    ``held_out`` of the ``examples`` were never trained; ``loss_held_out_*`` is the loss over these alone, ``None``
    where there are none.
    """

    batch: str
    name: str
    digest: str
    examples: int
    epochs: int
    steps: int
    first_global_step: int
    last_global_step: int
    adapter_id: str
    tokens_trained: int
    tokens_masked: int
    tokens_cut: int
    loss_before: float | None
    loss_after: float | None
    seconds: float
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    checkpoint_share: float = 0.0
    steps_skipped: int = 0
    resumed: int = 0
    when: str = ""
    warnings: tuple[str, ...] = ()
    line_errors: tuple[LineError, ...] = ()
    line_error_count: int = 0
    held_out: int = 0
    loss_held_out_before: float | None = None
    loss_held_out_after: float | None = None
