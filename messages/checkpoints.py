"""Generations: how learning gets onto the disk and which state is in force."""

from __future__ import annotations

import msgspec

from messages.learning import LearningState
from messages.message import Message, Question


class Delta(msgspec.Struct, frozen=True):
    """One night in the ledger: a finished adapter, folded into the model in force.

    Attributes:
        night: its name, ``20261123T030000``.
        path: home-relative folder under ``state/deltas/`` holding the adapter and its manifest.
        digest: of the folder's manifest.
        due_date: the local date this night was due on; empty if a person asked for it.
        global_step: steps learnt when it was folded in.
        generation: the generation whose adapter this is.
    """

    night: str
    path: str
    digest: str
    due_date: str
    global_step: int
    generation: int


class CommitGeneration(Message, frozen=True):
    """Make the snapshot behind ``ticket`` the generation in force.

    ``why`` is for people: batch end, interval, pause. Answered by ``GenerationCommitted`` or ``CommitFailed`` to all.
    """

    ticket: str
    state: LearningState
    why: str


class GenerationCommitted(Message, frozen=True):
    """HEAD names this generation now. ``path`` is home-relative; ``seconds`` from request to durable."""

    ticket: str
    generation: int
    path: str
    why: str
    global_step: int
    adapter_id: str
    adapter_step: int
    size_bytes: int
    seconds: float


class CommitFailed(Message, frozen=True):
    """The disk refused; the generation before is still in force. Try again with the same ticket."""

    ticket: str
    code: str
    why: str
    out_of_space: bool


class CommitFinally(Question[GenerationCommitted | CommitFailed], frozen=True):
    """``CommitGeneration`` for an actor that is stopping and can take no more messages, only an answer."""

    ticket: str
    state: LearningState
    why: str


class SnapshotKept(Message, frozen=True):
    """The first generation of a local date was copied to ``snapshots/``."""

    path: str
    generation: int


class StateInForce(Message, frozen=True):
    """What HEAD names. ``generation`` 0 and ``path`` ``""``: nothing was ever committed.

    ``models_needed`` are the merged models that generations still kept stand on.
    """

    generation: int
    path: str
    state: LearningState
    ledger: tuple[Delta, ...]
    model_path: str
    models_needed: tuple[str, ...] = ()


class StateWanted(Question[StateInForce], frozen=True):
    """Which state is in force? Verified against its manifest before it is answered."""


class NightCommitted(Message, frozen=True):
    """The night is in the ledger and a fresh adapter is in force."""

    night: str
    generation: int
    model_path: str
    global_step: int
    adapter_id: str


class NightNotCommitted(Message, frozen=True):
    """HEAD could not be moved; yesterday is still in force."""

    why: str


class CommitNight(Question[NightCommitted | NightNotCommitted], frozen=True):
    """Fold the adapter of ``delta_generation`` into the ledger and put the fresh adapter in force, in one commit."""

    night: str
    due_date: str
    delta_generation: int
    model_path: str
    ticket: str
    state: LearningState


class DamageFound(Message, frozen=True):
    """Something on disk disagrees with its manifest. ``instead`` says what is used in its place."""

    what: str
    why: str
    instead: str


class LeftoversSwept(Message, frozen=True):
    """Start-up removed what no commit reaches, or set it aside."""

    removed: tuple[str, ...]
    set_aside: tuple[str, ...]


class RetentionApplied(Message, frozen=True):
    """Old things were deleted; ``stuck`` are deletes that failed and will be tried again.

    ``models_needed`` are the merged models that what is left stands on.
    """

    deleted: tuple[str, ...]
    stuck: tuple[str, ...]
    models_needed: tuple[str, ...] = ()
