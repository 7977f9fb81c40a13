"""The records under ``state/``: HEAD, which is the commit, and MANIFEST.json, which makes a folder checkable.

Knows nothing of how they are written; see ``store``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from messages import SCHEMA, Delta, LearningState, MergedModel
from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.manifest import FileEntry

S = TypeVar("S", bound=msgspec.Struct)

HEAD_PATH = "state/HEAD"
GENERATIONS = "state/generations"
DELTAS = "state/deltas"
SET_ASIDE = "state/set_aside"
SNAPSHOTS = "snapshots"
TRAINER_STATE = "trainer_state.json"


class Place(msgspec.Struct, frozen=True):
    """Where training stood: so many steps of a batch are in the weights; ``""`` between batches."""

    batch: str = ""
    step: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """What a generation, snapshot or delta folder must hold, and where it belongs.

    Enough to rebuild HEAD from: ``ledger`` lists the nights in force, ``deltas`` all of them with their digests.
    ``seal`` is as HEAD's: nothing else vouches for a snapshot. Earlier versions wrote neither it nor ``cursor``.
    """

    schema: int
    generation: int
    parent: int
    when: str
    why: str
    global_step: int
    adapter_id: str
    adapter_step: int
    base_fingerprint: str
    model_path: str
    ledger: tuple[str, ...]
    deltas: tuple[Delta, ...]
    files: Mapping[str, FileEntry]
    versions: Mapping[str, str]
    model_digest: str = ""
    cursor: Place | None = None
    seal: str = ""


class Kept(msgspec.Struct, frozen=True):
    """A generation that HEAD keeps: enough to put it in force by replacing HEAD, and to check it before.

    ``model_digest`` is that of the files of ``model_path``; ``""`` where no manifest was written for them.
    """

    generation: int
    path: str
    manifest: str
    when: str
    why: str
    global_step: int
    adapter_id: str
    adapter_step: int
    model_path: str
    ledger: tuple[str, ...]
    size_bytes: int
    last_batch: str = ""
    pinned: bool = False
    model_digest: str = ""


class Night(msgspec.Struct, frozen=True):
    """One committed night: ``generation`` is the fresh adapter it began, ``folded`` the one it ended.

    ``pinned`` holds both and the models that they stand on: one can go back to the night, and to right before it.
    """

    night: str
    generation: int
    folded: int
    model_path: str
    when: str
    pinned: bool = False


class PinnedSnapshot(msgspec.Struct, frozen=True):
    """A snapshot that a person pinned. The model that it stands on stays with it, or it could not be gone back to."""

    day: str
    generation: int
    model_path: str
    model_digest: str = ""
    ledger: tuple[str, ...] = ()


class WentBack(msgspec.Struct, frozen=True):
    """The last rollback: from ``left`` to ``to``. Both stay until the next one, so that it can be undone."""

    to: int
    left: int
    when: str = ""


class Head(msgspec.Struct, frozen=True):
    """``state/HEAD``. Replacing it is the only commit there is.

    Attributes:
        number: grows by one with each replacement.
        generation, generation_path, model_path: what is in force; ``model_path`` ``""`` is the pristine base.
        ledger: names of the nights in force, oldest first; ``deltas`` knows every night there ever was.
        kept: every generation that may be put in force again, newest last; all else is rubbish.
        snapshots: those that are pinned; the others are bounded by their number and size alone.
        went_back: the last rollback, as long as it may be undone.
        seal: digest of the file without it, so that a turned bit is not taken for another state.
    """

    schema: int
    number: int
    generation: int
    generation_path: str
    model_path: str
    base_fingerprint: str
    when: str
    ledger: tuple[str, ...] = ()
    deltas: tuple[Delta, ...] = ()
    kept: tuple[Kept, ...] = ()
    nights: tuple[Night, ...] = ()
    snapshots: tuple[PinnedSnapshot, ...] = ()
    went_back: WentBack | None = None
    seal: str = ""

    @property
    def in_force(self) -> Kept:
        """The kept generation that HEAD names."""
        return next(kept for kept in self.kept if kept.generation == self.generation)

    @property
    def next_generation(self) -> int:
        """A number above every generation HEAD knows. Numbers are compared as numbers, never as names."""
        return max((kept.generation for kept in self.kept), default=0) + 1

    def deltas_in_force(self) -> tuple[Delta, ...]:
        """The ledger's deltas, oldest first."""
        known = {delta.night: delta for delta in self.deltas}
        return tuple(known[night] for night in self.ledger)

    def models_needed(self) -> tuple[str, ...]:
        """Merged models that kept generations and pinned snapshots stand on."""
        needed = {kept.model_path for kept in self.kept} | {one.model_path for one in self.snapshots}
        return tuple(sorted(path for path in needed if path))

    def models(self) -> tuple[MergedModel, ...]:
        """The same, each with its digest and what it was made of; that of the generation in force first."""
        known = {delta.night: delta for delta in self.deltas}
        standing: tuple[PinnedSnapshot | Kept, ...] = (*self.snapshots, *self.kept)
        found = {
            one.model_path: MergedModel(
                path=one.model_path,
                digest=one.model_digest,
                deltas=tuple(known[night] for night in one.ledger if night in known),
                in_force=one.model_path == self.model_path,
            )
            for one in standing
            if one.model_path
        }
        return tuple(sorted(found.values(), key=lambda model: (not model.in_force, model.path)))


def generation_path(number: int) -> str:
    """``state/generations/000042``."""
    return f"{GENERATIONS}/{number:06d}"


def decode_state(data: bytes, where: str) -> LearningState:
    """Read ``trainer_state.json``."""
    return decode(data, LearningState, where)


def decode(data: bytes, record: type[S], where: str) -> S:
    """Read one of our records.

    Raises:
        msgspec.MsgspecError: it is damaged.
        OperatorError: a newer version of the program wrote it.
    """
    schema = _decoded(data, _Versioned).schema
    if schema > SCHEMA:
        raise OperatorError(
            "NF-STATE-004",
            f"{where} has schema {schema}; this version of nightfold reads up to {SCHEMA}",
            hint="install the newer version that wrote it; nothing was changed",
            exit_code=EXIT_CONFIG,
        )
    return _decoded(data, record)


class _Versioned(msgspec.Struct):
    schema: int


def _decoded(data: bytes, record: type[S]) -> S:
    try:
        return msgspec.json.decode(data, type=record)
    except UnicodeDecodeError as error:  # the one damage that msgspec does not call its own
        raise msgspec.DecodeError(str(error)) from error
