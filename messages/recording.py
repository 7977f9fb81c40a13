"""Putting the trace on disk, on demand: what the daemon asks of the one who writes it."""

from __future__ import annotations

from messages.message import Message, Question


class TraceRecording(Message, frozen=True):
    """Whether the trace is written to disk from now on, and whether it was before.

    ``trouble`` is what the disk said when it refused just now; as long as ``on``, it is tried again.
    """

    on: bool
    was: bool
    trouble: str = ""


class RecordTrace(Question[TraceRecording], frozen=True):
    """Write the trace to disk from now on, or leave it in memory; ``None`` changes nothing and only asks."""

    on: bool | None = None
