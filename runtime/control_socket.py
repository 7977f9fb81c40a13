"""The daemon's control socket as a client sees it: where it is, what is said over it, and how to ask.

It is ``HOME/.control``, a Unix stream socket for the daemon's own user. A client says one request, a line of JSON, and
gets one line of JSON for an answer; ``runtime.control_server`` is the other side.

=============================================================== =======================================================
request                                                         answer
=============================================================== =======================================================
``{"version": 1, "request": "describe"}``                       ``at`` and ``actors``, as ``ActorSystem.describe`` says
``{"version": 1, "request": "record", "on": true}``             ``on``, ``was``, ``trouble``; ``on`` null only asks
``{"version": 1, "request": WISH, ...}``                        the answer to a wish that the daemon plugged in
``{"version": 1, "request": "trace", "since": 0, "last": null,  ``clock``, then parts until the daemon ends, or until
"follow": true}``                                               all is said if ``follow`` is false
anything else                                                   ``error`` and ``expected``
=============================================================== =======================================================

A part of a trace is a line of JSON too: ``{"records": 12, "bytes": 3456}`` with so many bytes of ``trace_files`` frames
behind it, ``{"past": 12}`` when all that was there at the beginning is said, ``{"missed": 17}`` where the client was
too slow, and ``{"end": "why"}`` as the last.

Standard library alone and no asyncio, because ``nightfold ps`` must answer at once. Whatever keeps the socket from
answering is one exception, ``Unreachable``: the caller then shows what is on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

VERSION = 1
SOCKET = ".control"
ANSWER_WITHIN_SECONDS = 5.0
PATH_BYTES_MAX = 107
"""What fits into ``sun_path`` beside the zero byte at its end."""
READ_BYTES = 1 << 16


class Unreachable(Exception):
    """Nobody answers on the socket, or nobody who speaks this version; the text says why."""


class Refused(Unreachable):
    """A daemon answered, and the answer is no; the text is its reason."""


class Frames(NamedTuple):
    """Records as ``trace_files.decode`` reads them."""

    records: int
    data: bytes


class Reached(NamedTuple):
    """The past is said, so many records in all; what comes now happens now."""

    records: int


class Missed(NamedTuple):
    """So many records were let go here, because this client did not take them in time."""

    records: int


class Ended(NamedTuple):
    """The last of a trace. ``orderly``: the daemon said so; otherwise it is gone without a word."""

    why: str
    orderly: bool


def describe(home: Path) -> dict[str, Any]:
    """The living daemon's actors: ``at`` and ``actors``.

    Raises:
        Unreachable: no daemon answers.
    """
    found = ask(home, {"request": "describe"})
    actors = found.get("actors")
    if not isinstance(actors, list):
        raise Unreachable("its answer names no actors")
    return {"at": found.get("at"), "actors": [actor for actor in actors if isinstance(actor, dict)]}


def record(home: Path, on: bool | None) -> dict[str, Any]:
    """Switch the writing of the trace to disk, or with ``None`` only ask: ``on``, ``was`` and ``trouble``.

    Raises:
        Refused: the daemon could not do it.
        Unreachable: no daemon answers.
    """
    return ask(home, {"request": "record", "on": on})


def ask(home: Path, request: dict[str, Any], within: float = ANSWER_WITHIN_SECONDS) -> dict[str, Any]:
    """One request, one answer, in at most ``within`` seconds.

    Raises:
        Refused: the daemon could not do it.
        Unreachable: no daemon answers.
    """
    connection = _Connection(home, within)
    try:
        return connection.ask(request)
    finally:
        connection.close()


class TraceStream:
    """The living daemon's trace: what its memory holds after ``since``, and with ``follow`` whatever happens next.

    ``last`` bounds the past to so many records. ``clock`` is what the daemon's two clocks showed at the beginning:
    monotonic seconds, and the wall as ISO 8601.

    Raises:
        Unreachable: no daemon answers.
    """

    def __init__(self, home: Path, *, since: int = 0, last: int | None = None, follow: bool = False) -> None:
        self._connection = _Connection(home)
        try:
            answer = self._connection.ask({"request": "trace", "since": since, "last": last, "follow": follow})
            self.clock: tuple[float, str] = (float(answer["clock"][0]), str(answer["clock"][1]))
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise Unreachable(f"its answer cannot be read: {error!r}") from error
        except BaseException:
            self.close()
            raise
        # While nothing happens, nothing is said; only the past must come soon.
        self._connection.wait_for_ever()

    def __enter__(self) -> TraceStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave; the daemon notices."""
        self._connection.close()

    def __iter__(self) -> Iterator[Frames | Reached | Missed | Ended]:
        """Parts in the order in which things happened; the last one is ``Ended``."""
        while True:
            try:
                part = _object(self._connection.line())
                if "bytes" in part:
                    yield Frames(int(part["records"]), self._connection.exactly(int(part["bytes"])))
                elif "past" in part:
                    yield Reached(int(part["past"]))
                elif "missed" in part:
                    yield Missed(int(part["missed"]))
                else:
                    yield Ended(str(part.get("end", "")), orderly="end" in part)
                    return
            except (OSError, ValueError, Unreachable) as error:
                yield Ended(str(error), orderly=False)
                return


def address(home: Path, folder: int) -> str:
    """The socket's path, by way of the open ``folder`` (the home's) where the path itself is too long for a socket."""
    path = os.path.join(os.fspath(home.absolute()), SOCKET)  # noqa: PTH118 - Path would drop bytes that are no text
    return path if len(os.fsencode(path)) <= PATH_BYTES_MAX else f"/proc/self/fd/{folder}/{SOCKET}"


@contextlib.contextmanager
def opened(home: Path) -> Iterator[int]:
    """The home's folder, open for as long as an address is needed.

    Raises:
        OSError: it cannot be opened.
    """
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


class _Connection:
    """One connected socket and what was read ahead of need."""

    def __init__(self, home: Path, within: float = ANSWER_WITHIN_SECONDS) -> None:
        self._read = bytearray()
        self._within = within
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(within)
        try:
            with opened(home) as folder:
                self._socket.connect(address(home, folder))
        except OSError as error:
            self.close()
            raise Unreachable(_words(error, within)) from error

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            # A daemon that has too many clients answers and closes before it has read what was asked.
            with contextlib.suppress(BrokenPipeError):
                self._socket.sendall(json.dumps({"version": VERSION, **request}).encode() + b"\n")
            answer = _object(self.line())
        except OSError as error:
            raise Unreachable(_words(error, self._within)) from error
        if "error" in answer:
            raise Refused(f"{answer['error']}" + (f"; expected {answer['expected']}" if "expected" in answer else ""))
        return answer

    def line(self) -> bytes:
        while (end := self._read.find(b"\n")) < 0:
            self._more()
        return self._taken(end + 1)

    def exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        return self._taken(size)

    def wait_for_ever(self) -> None:
        self._socket.settimeout(None)

    def close(self) -> None:
        self._socket.close()

    def _more(self) -> None:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise Unreachable("the connection was closed without a word")
        self._read += data

    def _taken(self, size: int) -> bytes:
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise Unreachable(f"what it says is no JSON: {line[:80]!r}") from error
    if not isinstance(found, dict):
        raise Unreachable(f"what it says is no object: {line[:80]!r}")
    return found


def _words(error: OSError, within: float) -> str:
    match error:
        case FileNotFoundError():
            return "it has no socket"
        case ConnectionRefusedError():
            return "its socket was left by a daemon that is dead"
        case TimeoutError():
            return f"no answer within {within:g} s"
        case _:
            return error.strerror or str(error)
