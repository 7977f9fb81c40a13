"""Nights: the finished adapter is folded into the model and a fresh one begins."""

from __future__ import annotations

from messages.held_out import HeldOutLoss
from messages.message import Message


class ConsolidateNow(Message, frozen=True):
    """A person asks for a night without waiting for its hour."""


class NightStarted(Message, frozen=True):
    """The merge begins. ``due_date`` is empty when a person asked for it."""

    night: str
    due_date: str
    deltas: int


class NightVerified(Message, frozen=True):
    """The merged model was loaded from disk and answers as base + adapter did (largest logit difference).

    ``held_out``: and is no worse than these on what no file trained; ``None`` where nothing was held out.
    """

    night: str
    tensors: int
    max_logit_difference: float
    seconds: float
    held_out: HeldOutLoss | None = None


class NightFinished(Message, frozen=True):
    """The merged model is in force, with a fresh adapter on it."""

    night: str
    model_path: str
    seconds: float


class NightRefused(Message, frozen=True):
    """Yesterday stays in force; ``why`` says the reason in words.

    ``held_out`` has the figures where the merged model was refused for them.
    """

    night: str
    code: str
    why: str
    held_out: HeldOutLoss | None = None


class NightClosed(Message, frozen=True):
    """No night is in progress: whoever yielded may go on with the state in force."""

    night: str
    committed: bool
