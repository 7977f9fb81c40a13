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

    ``models_needed`` are the merged models that generations still kept stand on. ``model_digest`` is that of the files
    of ``model_path``; ``""`` for the pristine base, and for a model made by a version that wrote no manifest.
    ``ledger_damage`` says, if that was asked, which deltas of the ledger are damaged and have no sound copy. ``damage``
    is set only for one who wanted to look: what is in force is damaged, ``state`` says nothing, and who holds it in
    memory was told to commit it anew.
    """

    generation: int
    path: str
    state: LearningState
    ledger: tuple[Delta, ...]
    model_path: str
    models_needed: tuple[str, ...] = ()
    model_digest: str = ""
    ledger_damage: tuple[str, ...] = ()
    damage: str = ""


class StateWanted(Question[StateInForce], frozen=True):
    """Which state is in force? Verified against its manifest before it is answered; with ``ledger``, its deltas too.

    Damage is healed by going back to the newest sound generation, for the asker may hold nothing else. One that would
    ``only_look`` is told of it instead, while whoever trains still can commit what it holds.
    """

    ledger: bool = False
    only_look: bool = False


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
    model_digest: str = ""


class MergedModel(msgspec.Struct, frozen=True):
    """A merged model that kept generations stand on: what its files must be, and of which deltas it was made.

    Attributes:
        path: home-relative folder.
        digest: of its files; ``""`` if it was made by a version that wrote no manifest.
        deltas: oldest first, as they lie in the ledger of those generations.
        in_force: does what HEAD puts in force stand on it?
    """

    path: str
    digest: str
    deltas: tuple[Delta, ...]
    in_force: bool


class ModelsNeeded(Message, frozen=True):
    """Every merged model that a kept generation stands on, that of the generation in force first."""

    models: tuple[MergedModel, ...]
    base_fingerprint: str


class ModelsWanted(Question[ModelsNeeded], frozen=True):
    """Which merged models are needed, and what must they be?"""


class ModelsLeft(Message, frozen=True):
    """The newest sound generation that stands on none of the lost models is in force: ``generation``, at ``path``."""

    generation: int
    path: str
    model_path: str


class NoOtherModel(Message, frozen=True):
    """No kept generation stands on anything else; nothing was changed."""

    why: str


class LeaveModels(Question[ModelsLeft | NoOtherModel], frozen=True):
    """These merged models are damaged and cannot be made again: put something else in force."""

    paths: tuple[str, ...]


class DamageFound(Message, frozen=True):
    """Something on disk disagrees with its manifest. ``instead`` says what is used in its place."""

    what: str
    why: str
    instead: str


class DamageHealed(Message, frozen=True):
    """What was damaged is sound again, by a copy or because a person restored it; ``how`` says which."""

    what: str
    how: str


class GenerationDamaged(Message, frozen=True):
    """The generation in force was found damaged. Whoever still holds what it said in memory commits it anew."""

    generation: int
    path: str


class ScrubFinished(Message, frozen=True):
    """Everything that is kept was read and compared once more; ``damaged`` of these things were not sound."""

    things: int
    size_bytes: int
    damaged: int
    seconds: float


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
