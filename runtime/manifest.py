"""A folder that says what it holds: ``MANIFEST.json`` with size and digest of every other file, under a seal.

Whoever keeps the folder's digest (of the table of its files) elsewhere sees a swapped manifest too. Guarantees: a
folder that is found sound holds exactly the files of its manifest, byte for byte; memory does not grow with the files.
Knows nothing of what they are: a record with more fields than these has them sealed with the rest.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import posixpath
import re
from collections.abc import Iterator, Mapping

import msgspec

from runtime import durable
from runtime.disk import DiskPort

MANIFEST = "MANIFEST.json"
_SEAL = re.compile(rb'"seal": "(blake3:[0-9a-f]{64})"')


class FileEntry(msgspec.Struct, frozen=True):
    """One file: ``digest`` is ``blake3:<hex>`` of its content."""

    size: int
    digest: str


class FolderManifest(msgspec.Struct, frozen=True):
    """What every manifest has. ``files`` by their path inside the folder."""

    schema: int
    files: Mapping[str, FileEntry]


class FolderDamaged(Exception):
    """A folder is not what its manifest, or whoever keeps its digest, says; the text says how."""


def table_digest(files: Mapping[str, FileEntry]) -> str:
    """The digest of a folder: of the names, sizes and digests of its files, however its manifest is laid out."""
    table = [(name, entry.size, entry.digest) for name, entry in sorted(files.items())]
    return durable.digest_of_bytes(msgspec.json.encode(table))


def encode(record: msgspec.Struct) -> bytes:
    """Readable JSON with a final newline: a person may look at any of these files."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def sealed(record: msgspec.Struct) -> bytes:
    """A record as it is written: its field ``seal`` is the digest of the rest."""
    raw = encode(msgspec.structs.replace(record, seal=""))
    return raw.replace(b'"seal": ""', f'"seal": "{durable.digest_of_bytes(raw)}"'.encode())


def seal_holds(raw: bytes) -> bool:
    """Is this record as it was written? One without a seal is of an earlier version and taken as it is."""
    seal = _SEAL.search(raw)
    return seal is None or durable.digest_of_bytes(raw.replace(seal[0], b'"seal": ""')) == seal[1].decode()


def has_seal(raw: bytes) -> bool:
    """Does this say of itself what it was written as?"""
    return _SEAL.search(raw) is not None


@functools.cache
def installed_versions(*names: str) -> Mapping[str, str]:
    """Versions of what made a folder, for people. Read from metadata: nothing heavy is imported.

    Read once: it takes some milliseconds, every commit asks, and what is installed does not change under a process.
    """
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def read_manifest(disk: DiskPort, folder: str, digest: str = "") -> FolderManifest:
    """The manifest of a folder, held against its seal and, if there is one, the ``digest`` that is kept elsewhere.

    Raises:
        FolderDamaged: it is not there, not as it was written, or another one.
    """
    path = posixpath.join(folder, MANIFEST)
    try:
        raw = disk.read(path)
        if not has_seal(raw) or not seal_holds(raw):
            raise FolderDamaged(f"{path} is not as it was written")
        manifest = msgspec.json.decode(raw, type=FolderManifest)
    except (OSError, ValueError) as error:  # of msgspec, and what it raises over bytes that are not UTF-8
        raise FolderDamaged(f"{path}: {error}") from error
    if digest and table_digest(manifest.files) != digest:
        raise FolderDamaged(f"{path} is not the one that was committed")
    return manifest


def reading(disk: DiskPort, folder: str, expected: str = "") -> Iterator[int]:
    """Verify a folder piece by piece; yields how many bytes each piece had. At its end the folder was sound.

    Raises:
        FolderDamaged: it is not. What cannot be read is damaged too.
    """
    try:
        manifest = _of_right_sizes(disk, folder, expected)
        for name, entry in sorted(manifest.files.items()):
            path = posixpath.join(folder, name)
            digest = yield from durable.digesting(disk, path)
            if digest != entry.digest:
                raise FolderDamaged(f"{path} has other content than was committed")
    except OSError as error:
        raise FolderDamaged(f"{folder}: {error}") from error


def verify_folder(disk: DiskPort, folder: str, digest: str = "", *, contents: bool = True) -> None:
    """Compare a folder with its manifest; without ``contents`` only the manifest itself, names and sizes.

    Raises:
        FolderDamaged: a difference.
    """
    if contents:
        for _ in reading(disk, folder, digest):
            pass
        return
    try:
        _of_right_sizes(disk, folder, digest)
    except OSError as error:
        raise FolderDamaged(f"{folder}: {error}") from error


def _of_right_sizes(disk: DiskPort, folder: str, digest: str) -> FolderManifest:
    manifest = read_manifest(disk, folder, digest)
    present = set(_below(disk, folder)) - {MANIFEST}
    if present != set(manifest.files):
        odd = ", ".join(sorted(present ^ set(manifest.files)))
        raise FolderDamaged(f"{folder} has missing or unknown files: {odd}")
    for name, entry in sorted(manifest.files.items()):
        found = disk.stat(posixpath.join(folder, name))
        if found is None or found.kind != "file" or found.size != entry.size:
            size = "missing" if found is None else f"a {found.kind} of {found.size} bytes"
            raise FolderDamaged(f"{folder}/{name} is {size}, expected {entry.size} bytes")
    return manifest


def _below(disk: DiskPort, folder: str, inside: str = "") -> Iterator[str]:
    """Everything in a folder and the folders in it, but for these, by its path inside."""
    for name in disk.listdir(posixpath.join(folder, inside)):
        path = posixpath.join(inside, name)
        found = disk.stat(posixpath.join(folder, path))
        if found is not None and found.kind == "dir":
            yield from _below(disk, folder, path)
        else:
            yield path
