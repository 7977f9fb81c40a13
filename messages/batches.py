"""The life of a dropped file: seen, claimed, accepted or rejected, trained or failed, filed."""

from __future__ import annotations

from messages.message import Message
from messages.trouble import LineError, Receipt, Report


class InboxChanged(Message, frozen=True):
    """A hint that the inbox may have changed. Only wakes the scan, which alone decides."""


class InboxSurveyed(Message, frozen=True):
    """What a scan of the inbox found; sent when it differs from the last one.

    Attributes:
        waiting: names complete and waiting to be claimed, in arrival order (at most the first 100).
        waiting_count: how many there are in all.
        unready: names still being written.
        ignored: names the inbox never takes (hidden, ``*.part``, ``*.tmp``).
        claimed: names of the batches claimed and not yet filed, oldest first.
    """

    waiting: tuple[str, ...]
    waiting_count: int
    unready: tuple[str, ...]
    ignored: tuple[str, ...]
    claimed: tuple[str, ...]


class SurveyWanted(Message, frozen=True):
    """Somebody who listens to surveys has started: tell how the inbox stands, although nothing has changed."""


class InboxReplaced(Message, frozen=True):
    """The inbox folder itself was removed or replaced; it was made again or is watched anew."""

    made_again: bool


class FileWithdrawn(Message, frozen=True):
    """Somebody took a file back: before it was claimed, or as ``batch`` before it was trained."""

    name: str
    batch: str = ""


class BatchClaimed(Message, frozen=True):
    """A file left the inbox for ``state/batches/`` and has a number that never repeats.

    ``path`` is home-relative. Sent again for every claimed batch after a restart.
    """

    batch: str
    name: str
    path: str
    size_bytes: int


class BatchesWanted(Message, frozen=True):
    """The Trainer has just started and knows of no batch: announce again every one that is claimed."""


class BatchAccepted(Message, frozen=True):
    """Every line was checked; this is what may be trained.

    ``digest`` is ``blake3:<hex>`` of the file's bytes. With the policy ``train_good_lines``, ``line_errors`` names the
    lines that will not be trained (the first 20; ``line_error_count`` counts all).
    """

    batch: str
    name: str
    path: str
    digest: str
    size_bytes: int
    examples: int
    warnings: tuple[str, ...] = ()
    line_errors: tuple[LineError, ...] = ()
    line_error_count: int = 0


class BatchRejected(Message, frozen=True):
    """The file is not fit to train; nothing was learnt from it."""

    batch: str
    name: str
    path: str
    report: Report


class BatchStarted(Message, frozen=True):
    """Training of a batch begins, or goes on at ``step`` after an interruption."""

    batch: str
    name: str
    step: int
    steps: int
    examples: int
    tokens: int


class BatchTrained(Message, frozen=True):
    """The batch is in a committed generation. Repeated after a restart until the file is filed."""

    batch: str
    name: str
    receipt: Receipt


class BatchFailed(Message, frozen=True):
    """The batch could not be trained. Repeated after a restart until the file is filed."""

    batch: str
    name: str
    report: Report


class BatchFiled(Message, frozen=True):
    """The file stands in its last place, beside its receipt or report. ``folder``: trained, rejected or failed."""

    batch: str
    name: str
    folder: str
    path: str
