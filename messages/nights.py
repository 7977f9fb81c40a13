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


class ModelRefused(Message, frozen=True):
    """From the Trainer's thread: the merged model that was to be loaded is not what was committed, and was not."""

    path: str
    why: str


class HealModel(Message, frozen=True):
    """A merged model is damaged or gone, and is waited for. Answered to all by ``ModelHealed`` or ``ModelGivenUp``."""

    path: str
    why: str


class ModelHealed(Message, frozen=True):
    """The model is sound: merged anew, byte for byte, or found so (``anew`` false)."""

    path: str
    anew: bool
    seconds: float


class ModelNotHealed(Message, frozen=True):
    """It could not be made again this time; tried again in ``again_in_s``, and until then it is waited for."""

    path: str
    code: str
    why: str
    again_in_s: float


class ModelGivenUp(Message, frozen=True):
    """It cannot be made again. What HEAD names now stands on another one; generations that stand on it stay kept."""

    path: str
    code: str
    why: str
    instead: str


class HealAgain(Message, frozen=True):
    """From the Consolidator to itself: the pause before the next try is over."""

    path: str
    waited: bool


class NightClosed(Message, frozen=True):
    """No night is in progress: whoever yielded may go on with the state in force."""

    night: str
    committed: bool
