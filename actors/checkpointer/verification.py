"""Is what lies there what was committed? Bytes against the manifest, the manifest against HEAD, counters against all.

Guarantees: whatever differs is ``Damaged``, in words; so is what cannot be read. ``reading`` does the same work as
``verify`` in pieces, for whoever must not be held up by it. Nothing here writes.
"""

from __future__ import annotations

import errno
from collections.abc import Generator, Iterable

import msgspec

from actors.checkpointer.head import (
    TRAINER_STATE,
    Kept,
    Manifest,
    Place,
    decode,
    decode_state,
)
from messages import LearningState
from runtime import durable
from runtime.disk import DiskPort
from runtime.manifest import MANIFEST, FileEntry, has_seal, seal_holds


class Damaged(Exception):
    """A folder disagrees with its manifest, or a manifest with HEAD; the text says how."""


def verify(disk: DiskPort, folder: str, manifest_digest: str = "") -> Manifest:
    """Compare every file of a folder with its manifest, and the manifest with the digest HEAD has of it.

    Raises:
        Damaged: a difference; ``OSError`` of reading counts as one.
    """
    return durable.at_once(reading(disk, folder, manifest_digest))


def read_back(disk: DiskPort, folder: str, manifest_digest: str) -> None:
    """``verify`` what was just written: a difference is the disk's trouble, and nothing was committed yet.

    Raises:
        OSError: EIO, it is not what was written.
    """
    try:
        verify(disk, folder, manifest_digest)
    except Damaged as error:
        raise OSError(errno.EIO, f"read back differently from what was written: {error}", folder) from error


def reading(disk: DiskPort, folder: str, manifest_digest: str = "") -> Generator[int, None, Manifest]:
    """``verify`` in pieces: says after each how many bytes it has just read, and returns the manifest."""
    try:
        raw = disk.read(f"{folder}/{MANIFEST}")
        yield len(raw)
        if manifest_digest and durable.digest_of_bytes(raw) != manifest_digest:
            raise Damaged(f"{folder}/{MANIFEST} is not the one that was committed")
        manifest = decode(raw, Manifest, f"{folder}/{MANIFEST}")
        if not seal_holds(raw) or (manifest.cursor is not None and not has_seal(raw)):
            raise Damaged(f"{folder}/{MANIFEST} is not as it was written")
        present = set(disk.listdir(folder)) - {MANIFEST}
        if present != set(manifest.files):
            odd = ", ".join(sorted(present ^ set(manifest.files)))
            raise Damaged(f"{folder} has missing or unknown files: {odd}")
        for name, entry in sorted(manifest.files.items()):
            yield from _reading_file(disk, f"{folder}/{name}", entry)
    except (OSError, msgspec.MsgspecError) as error:
        raise Damaged(f"{folder}: {error}") from error
    return manifest


def _reading_file(disk: DiskPort, path: str, entry: FileEntry) -> Generator[int, None, None]:
    found = disk.stat(path)
    if found is None or found.size != entry.size:
        size = "missing" if found is None else f"{found.size} bytes"
        raise Damaged(f"{path} is {size}, expected {entry.size} bytes")
    digest = yield from durable.digesting(disk, path)
    if digest != entry.digest:
        raise Damaged(f"{path} has other content than was committed")


def verify_kept(disk: DiskPort, kept: Kept, among: Iterable[Kept]) -> LearningState:
    """``verify`` a generation that HEAD keeps, and its counters too; ``among`` are all that HEAD keeps.

    Raises:
        Damaged: a difference.
    """
    return check_counters(disk, kept.path, verify(disk, kept.path, kept.manifest), kept, among)


def verify_alone(disk: DiskPort, folder: str) -> Manifest:
    """``verify`` a generation or snapshot that HEAD does not speak of, and its counters too.

    Raises:
        Damaged: a difference.
    """
    manifest = verify(disk, folder)
    check_counters(disk, folder, manifest)
    return manifest


def check_counters(
    disk: DiskPort, folder: str, manifest: Manifest, kept: Kept | None = None, among: Iterable[Kept] = ()
) -> LearningState:
    """What the files say of themselves must be what the manifest says of them, and HEAD, and go on from the parent.

    Raises:
        Damaged: a difference.
    """
    path = f"{folder}/{TRAINER_STATE}"
    try:
        state = decode_state(disk.read(path), path)
    except (OSError, msgspec.MsgspecError) as error:
        raise Damaged(f"{path}: {error}") from error
    for field in ("global_step", "adapter_id", "adapter_step"):
        _same(folder, field, manifest, state, kept)
    _same(folder, "base_fingerprint", manifest, state, None)
    if manifest.cursor is not None and manifest.cursor != place_of(state):
        raise Damaged(f"{folder}: the manifest has the cursor at {manifest.cursor}, {TRAINER_STATE} at {state.cursor}")
    if kept is not None:
        for field in ("generation", "model_path", "ledger"):
            _same(folder, field, manifest, None, kept)
    check_chain(folder, manifest, among)
    return state


def _same(folder: str, field: str, manifest: Manifest, state: LearningState | None, kept: Kept | None) -> None:
    said = {
        name: getattr(one, field)
        for name, one in ((MANIFEST, manifest), (TRAINER_STATE, state), ("HEAD", kept))
        if one is not None
    }
    if any(value != getattr(manifest, field) for value in said.values()):
        told = ", ".join(f"{name} says {value!r}" for name, value in said.items())
        raise Damaged(f"{folder}: {field} differs: {told}")


def check_chain(folder: str, manifest: Manifest, among: Iterable[Kept]) -> None:
    """Learning only goes forward: never fewer steps than the generation it grew on, if that is still kept.

    Raises:
        Damaged: it does not.
    """
    parent = next((one for one in among if one.generation == manifest.parent), None)
    if parent is None or parent.generation == manifest.generation:
        return
    grown = manifest.global_step - parent.global_step
    same_adapter = manifest.adapter_id == parent.adapter_id
    if grown < 0 or (same_adapter and manifest.adapter_step - parent.adapter_step != grown):
        raise Damaged(
            f"{folder}: its counters do not go on from generation {parent.generation}: step {parent.global_step} "
            f"({parent.adapter_id}, {parent.adapter_step}) is followed by step {manifest.global_step} "
            f"({manifest.adapter_id}, {manifest.adapter_step})"
        )


def place_of(state: LearningState) -> Place:
    """Where training stands, as a manifest has it."""
    return Place() if state.cursor is None else Place(state.cursor.batch, state.cursor.step)
