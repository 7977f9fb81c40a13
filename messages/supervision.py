"""What the runtime tells the actors about each other."""

from __future__ import annotations

from typing import Literal

from messages.message import Message

Ending = Literal["crashed", "finished", "stopped", "disabled"]
"""How an actor's instance came to its end; ``disabled``: no other will follow."""


class ActorStarted(Message, frozen=True):
    """An instance of the actor is up. ``incarnation`` counts from 1."""

    actor: str
    incarnation: int


class ActorEnded(Message, frozen=True):
    """For those who watch ``actor``: its instance has ended, or was gone already. ``why`` tells of a crash."""

    actor: str
    incarnation: int
    how: Ending
    why: str = ""


class ActorCrashed(Message, frozen=True):
    """A handler raised. ``cause_chain`` runs from the message in hand back to what began it."""

    actor: str
    incarnation: int
    message_type: str
    why: str
    cause_chain: tuple[str, ...]
    restart_in_s: float


class ActorGaveUp(Message, frozen=True):
    """Restarts exceeded the intensity; the failure escalates, or a plug-in stays disabled."""

    actor: str
    why: str
    disabled: bool


class MessageDeadLettered(Message, frozen=True):
    """A message was not handled and will not be. ``count`` above 1 stands for a collapsed storm.

    ``subject`` is what the message was about; empty where that was nothing, or in a storm, where it is not known.
    """

    actor: str
    message_type: str
    why: str
    count: int = 1
    subject: str = ""


class MessagesDropped(Message, frozen=True):
    """An observer's full mailbox let messages go."""

    actor: str
    count: int


class ActorStuck(Message, frozen=True):
    """The watchdog saw no progress: the loop, a handler or the device thread stands still."""

    actor: str
    seconds: float
    stack: str
