"""The spool: copies of adapters in the plug-in's own folder, from where the server reads them.

A generation may be deleted any minute, when newer ones take its place, while a server reads an adapter again whenever
it had to make room for another. So each is copied, checked against its manifest on the way, and kept while it is
served.
Every function here is synchronous, for a blocking job.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection

import msgspec

from runtime import durable
from runtime.disk import DiskPort

FILES = ("adapter_config.json", "adapter_model.safetensors")
MANIFEST = "MANIFEST.json"


class Entry(msgspec.Struct, frozen=True):
    """What a manifest says of one file."""

    size: int
    digest: str


class Manifest(msgspec.Struct, frozen=True):
    """The part of ``MANIFEST.json`` that matters here. ``ledger``: the nights in the adapter's base, oldest first."""

    generation: int
    ledger: tuple[str, ...]
    files: dict[str, Entry]


class Adapter(msgspec.Struct, frozen=True):
    """A copied adapter: its folder's name, and the night it grew on (``""``: the pristine base)."""

    folder: str
    generation: int
    base: str


class NotCopied(msgspec.Struct, frozen=True):
    """Why there is no copy. ``gone``: a newer generation has taken its place."""

    why: str
    gone: bool = False


def copy(disk: DiskPort, generation: str, spool: str) -> Adapter | NotCopied:
    """The adapter of the folder ``generation``, whole and checked, as a folder in ``spool``."""
    try:
        raw = disk.read(posixpath.join(generation, MANIFEST))
        manifest = msgspec.json.decode(raw, type=Manifest)
        folder = f"{manifest.generation:06d}-{durable.digest_of_bytes(raw).rpartition(':')[2][:8]}"
        adapter = Adapter(folder, manifest.generation, manifest.ledger[-1] if manifest.ledger else "")
        durable.ensure_directory(disk, spool)
        durable.sweep(disk, spool)
        if disk.stat(posixpath.join(spool, folder)) is not None:
            return adapter
        content: dict[str, bytes] = {}
        for name in FILES:
            content[name] = disk.read(posixpath.join(generation, name))
            if durable.digest_of_bytes(content[name]) != manifest.files[name].digest:
                return NotCopied(f"{generation}/{name} differs from its manifest")
        durable.write_directory(disk, posixpath.join(spool, folder), content)
    except FileNotFoundError as error:
        return NotCopied(f"{error.filename} is gone", gone=True)
    except (OSError, msgspec.DecodeError, KeyError) as error:
        return NotCopied(f"{generation} could not be copied: {error}")
    return adapter


def prune(disk: DiskPort, spool: str, wanted: Collection[str], keep: int) -> tuple[str, ...]:
    """Remove all but the ``wanted`` folders and the ``keep`` newest; returns what went. What resists stays."""
    if disk.stat(spool) is None:
        return ()
    found = sorted(name for name in disk.listdir(spool) if not durable.is_leftover(name))
    newest = found[-keep:] if keep else []
    gone: list[str] = []
    for name in found:
        if name not in wanted and name not in newest:
            try:
                durable.remove(disk, posixpath.join(spool, name))
            except OSError:
                continue  # it is tried again after the next adapter
            gone.append(name)
    return tuple(gone)
