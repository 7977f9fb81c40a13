"""The trace on disk: length-prefixed msgpack frames in numbered files, rotated and bounded.

A frame is four bytes of little-endian length and one record; a frame torn by a kill ends the file. Bodies that are
structs carry the name of their type, so that a reader can bring them back to life and replay them.
"""

from __future__ import annotations

import importlib
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from runtime import durable
from runtime.disk import DiskPort
from runtime.trace import Raised, Record

SUFFIX = ".trace"
_LENGTH = 4


class Body(msgspec.Struct, array_like=True):
    """A recorded message or result.

    ``type`` is ``module:Class`` for a struct, ``*module:Class`` for a tuple or list of such, ``""`` for plain data.
    """

    type: str
    value: Any


def _plain(value: Any) -> Any:
    """What msgpack cannot say is kept as its text: good enough to read, and a replay will name it."""
    return repr(value)


def encode(records: Sequence[Record]) -> bytes:
    """Records as frames."""
    frames = bytearray()
    encoded = msgspec.msgpack.Encoder(enc_hook=_plain).encode
    replace = msgspec.structs.replace
    nothing = Body("", None)
    for record in records:
        body = record.body
        framed = replace(record, body=nothing if body is None else Body(_type_of(body), body))
        try:
            data = encoded(framed)
        except UnicodeEncodeError:
            # Somewhere in it is a name whose bytes are no text, as a survey of the inbox may find. One such file must
            # not be the end of whoever writes the trace.
            lost = Body("", f"{type(record.body).__name__}, not kept")
            data = msgspec.msgpack.encode(msgspec.structs.replace(record, body=lost))
        frames += len(data).to_bytes(_LENGTH, "little") + data
    return bytes(frames)


def _type_of(value: Any) -> str:
    if isinstance(value, tuple | list) and value and len({type(item) for item in value}) == 1:
        item = _type_of(value[0])
        return f"*{item}" if item and not item.startswith("*") else ""
    kind = type(value)
    return f"{kind.__module__}:{kind.__qualname__}" if isinstance(value, msgspec.Struct) else ""


def decode(data: bytes) -> Iterator[Record]:
    """Frames as records whose ``body`` is a ``Body``; stops at a torn frame."""
    at = 0
    while at + _LENGTH <= len(data):
        size = int.from_bytes(data[at : at + _LENGTH], "little")
        frame = data[at + _LENGTH : at + _LENGTH + size]
        if len(frame) < size:
            return
        record = msgspec.msgpack.decode(frame, type=Record)
        record.body = msgspec.convert(record.body, type=Body)
        yield record
        at += _LENGTH + size


def whole_frames(data: bytes) -> int:
    """How many of the bytes are whole frames; what follows is torn, or still being written."""
    at = 0
    while at + _LENGTH <= len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "little")
        if end > len(data):
            break
        at = end
    return at


def revive(body: Body) -> Any:
    """The struct (or tuple of structs) a body was, the exception a ``Raised`` was, or plain data.

    Raises:
        ImportError, AttributeError, msgspec.ValidationError: this version does not know that type, or not so.
    """
    if not body.type:
        return body.value
    many = body.type.startswith("*")
    kind = _named(body.type.removeprefix("*"))
    if many:
        return tuple(msgspec.convert(each, type=kind) for each in body.value)
    value = msgspec.convert(body.value, type=kind)
    return _exception(value) if isinstance(value, Raised) else value


def _named(name: str) -> Any:
    module, _, qualname = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _exception(was: Raised) -> Exception:
    kind = _named(was.kind)
    # Not ``kind(*args)``: an exception may ask its constructor for more than it keeps in ``args``.
    error: Exception = kind.__new__(kind, *was.args)
    error.args = was.args
    vars(error).update(was.fields)
    return error


def files(disk: DiskPort, folder: str) -> list[str]:
    """The trace files of a folder, oldest first."""
    if disk.stat(folder) is None:
        return []
    names = [name for name in disk.listdir(folder) if name.endswith(SUFFIX) and name.split(".")[0].isdigit()]
    return [posixpath.join(folder, name) for name in sorted(names, key=lambda name: int(name.split(".")[0]))]


def read(disk: DiskPort, folder: str) -> Iterator[Record]:
    """Every record in a folder, oldest first."""
    for path in files(disk, folder):
        yield from decode(disk.read(path))


class TraceWriter:
    """Appends to the newest file and rotates. One writer for each folder; synchronous, for an I/O worker."""

    def __init__(self, disk: DiskPort, folder: str, *, file_bytes: int, keep: int) -> None:
        self._disk = disk
        self._folder = folder
        self._file_bytes = file_bytes
        self._keep = keep
        self._path = ""
        self._written = 0

    def append(self, records: Sequence[Record]) -> None:
        """Write records. Not synced: a kill keeps them, a power cut may take the last second."""
        data = encode(records)
        if not self._path or self._written + len(data) > self._file_bytes:
            self._rotate()
        handle = self._disk.open_append(self._path)
        try:
            self._disk.write(handle, data)
        except OSError:
            self._path = ""  # a frame may be torn here, and nothing behind it would be read: go on in a new file
            raise
        finally:
            self._disk.close(handle)
        self._written += len(data)

    def _rotate(self) -> None:
        durable.ensure_directory(self._disk, self._folder)
        known = files(self._disk, self._folder)
        last = int(posixpath.basename(known[-1]).split(".")[0]) if known else 0
        for path in known[: max(0, len(known) - self._keep + 1)]:
            self._disk.unlink(path)
        self._path = f"{self._folder}/{last + 1:06d}{SUFFIX}"
        self._written = 0
