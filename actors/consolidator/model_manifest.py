"""The manifest of a merged model: what its files are, and what it was made of.

Written by whoever merges, before the model gets its name; its digest goes into HEAD with the night. A model made anew
from the same base and deltas has the same files, so the same digest: that is how it is known to be healed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from messages import SCHEMA
from runtime.disk import DiskPort
from runtime.manifest import MANIFEST, FileEntry, installed_versions, sealed, table_digest, verify_folder

LIBRARIES = ("nightfold", "torch", "transformers", "safetensors")
"""What merges, and decides how it is rounded."""


class MadeOf(msgspec.Struct, frozen=True):
    """One delta that was merged: the night it is called after, and the digest of the adapter's two files."""

    night: str
    digest: str


class ModelManifest(msgspec.Struct, frozen=True):
    """``consolidated_models/NIGHT/MANIFEST.json``. ``deltas`` oldest first; the last is the night's own."""

    schema: int
    night: str
    base_fingerprint: str
    deltas: tuple[MadeOf, ...]
    files: Mapping[str, FileEntry]
    versions: Mapping[str, str]
    seal: str = ""


def manifest_of(
    nights: tuple[str, ...],
    base_fingerprint: str,
    deltas: tuple[Mapping[str, FileEntry], ...],
    files: Mapping[str, FileEntry],
) -> bytes:
    """The manifest as it is written; ``deltas`` are the files of each adapter that was merged."""
    made_of = tuple(MadeOf(night, table_digest(delta)) for night, delta in zip(nights, deltas, strict=True))
    night = nights[-1] if nights else ""
    return sealed(ModelManifest(SCHEMA, night, base_fingerprint, made_of, files, installed_versions(*LIBRARIES)))


def verify_model(disk: DiskPort, path: str, digest: str = "", *, deep: bool = True) -> None:
    """Compare a merged model with its manifest, and that with the ``digest`` HEAD has of it; in bounded memory.

    Without ``deep``: the manifest itself, and that all files are there with their sizes. A model that HEAD has no
    digest of and that has no manifest was made by a version that wrote none; it is taken as it is.

    Raises:
        FolderDamaged: a difference; what cannot be read counts as one.
    """
    if digest or has_manifest(disk, path) or disk.stat(path) is None:
        verify_folder(disk, path, digest, contents=deep)


def has_manifest(disk: DiskPort, path: str) -> bool:
    """Does the model say what it holds?"""
    return disk.stat(f"{path}/{MANIFEST}") is not None
