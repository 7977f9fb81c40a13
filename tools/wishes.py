"""What a person may ask of a living daemon over its control socket, beside looking: recording the trace, and pinning.

Each is a request of the runtime's control server, handed to the actor whose matter it is. The clients are the commands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from msgspec import Meta

from messages import PinRefused, PinSet, PinWanted, TraceRecording
from runtime.control_server import Request, Wish

RECORD_WITHIN_SECONDS = 4.0
"""Less than a client of the control socket waits, so that it gets a reason."""
PIN_WITHIN_SECONDS = 100.0
"""A commit may be under way, and what is pinned is read through; the client waits a little longer."""
TARGET_CHARACTERS_MAX = 200


class RecordRequest(Request, tag="record"):
    """Write the trace to disk, or do not; ``None``: say whether you do."""

    on: bool | None = None


class PinRequest(Request, tag="pin"):
    """Pin a generation, night or snapshot; ``pinned`` false leaves it to retention again."""

    target: Annotated[str, Meta(max_length=TARGET_CHARACTERS_MAX)]
    pinned: bool


class AskPin(Protocol):
    """The part of a system that asks."""

    def __call__(self, question: PinWanted, *, timeout: float) -> Awaitable[PinSet | PinRefused]:
        """The answer of the one who can."""


def record_wish(record: Callable[[bool | None], Awaitable[TraceRecording]]) -> Wish:
    """The request ``record``."""

    async def answer(request: RecordRequest) -> TraceRecording:
        return await record(request.on)

    return Wish(RecordRequest, '"on": true, false or null', "whoever writes the trace", answer)


def pin_wish(ask: AskPin) -> Wish:
    """The request ``pin``. Its answer has a ``code`` if nothing was changed."""

    async def answer(request: PinRequest) -> PinSet | PinRefused:
        return await ask(PinWanted(target=request.target, pinned=request.pinned), timeout=PIN_WITHIN_SECONDS)

    return Wish(PinRequest, '"target": "42", "pinned": true or false', "the Checkpointer", answer)
