"""What is made for every message. Its parts are plain data: the ring of the trace keeps tens of thousands of them."""

from __future__ import annotations

import msgspec

from messages.message import Message


class Envelope(msgspec.Struct, gc=False):
    """One delivery of one message, and its own line in the trace.

    ``cause`` is the id of the delivery whose handling sent it, 0 from outside. ``depth`` is how many waited in the
    lane when it was sent. ``incarnation``: the only one it is meant for (its tick, its device's result, its stop), or
    0 where any may handle it. ``asks``: whoever sent it waits for an answer, kept in the switchboard under its id; so
    an envelope holds plain data only and the collector need not look into it.
    """

    id: int
    cause: int
    sender: str
    recipient: str
    message: Message
    sent_at: float
    depth: int = 0
    control: bool = False
    attempt: int = 0
    incarnation: int = 0
    asks: bool = False


class Turn(msgspec.Struct, gc=False):
    """The moment ``at`` which a delivery was ``done`` and, or, the next one of the same actor ``begun``."""

    at: float
    done: Envelope | None
    begun: Envelope | None


class Reply(msgspec.Struct, gc=False):
    """The moment at which the question ``asked`` was given its ``answer``."""

    at: float
    asked: Envelope
    answer: object
