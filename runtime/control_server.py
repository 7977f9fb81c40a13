"""The daemon's side of its control socket: it describes the actors, streams the trace, and hands on wishes.

A wish is a request that the daemon itself plugs in, with who answers it.

What is said over it stands in ``runtime.control_socket``. Guarantees:
    * Nobody waits for a client. What a client does not take is bounded, and beyond that it is told how many records it
      missed; a client that takes nothing for ``STALLED_SECONDS`` is let go.
    * Every client gets an answer, though it be a refusal that says what was expected, and one that asks nothing within
      ``ASK_WITHIN_SECONDS`` gets that one. A connection is for one request.
    * Only the daemon's own user may speak, or root, to whom nothing can be denied: the socket has mode 0600, and the
      kernel is asked who is there.
    * The home's lock is held while a server stands, so a socket found at the start was left by a dead daemon and is
      replaced. Where there can be no socket the daemon runs on without it, and ``trouble`` says why.

While nobody looks, it costs nothing. Knows nothing of training.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import operator
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from runtime import control_socket, trace_files
from runtime.cell import ActorDescription
from runtime.clock import Clock
from runtime.control_socket import SOCKET, VERSION
from runtime.disk import Disk
from runtime.errors import AskFailed
from runtime.trace import Record, Trace

CLIENTS_MAX = 16
TAILS_MAX = 8
"""Of the clients so many may follow the trace, so that views left open never keep ``ps`` out."""
REQUEST_BYTES_MAX = 4096
ASK_WITHIN_SECONDS = 5.0
LOOK_SECONDS = 0.05
"""How often the trace is looked at while a client follows it."""
RECORDS_AT_ONCE = 500
"""Encoding so many takes about half a millisecond, and then it is somebody else's turn."""
RECORDS_A_LOOK_MAX = 2000
"""When more happens between two looks, clients get the newest of it: a storm must not be made worse by watching it."""
SEND_BYTES_MAX = 1 << 20
"""While so much waits for a client, it misses what happens."""
STALLED_SECONDS = 600.0
FAREWELL_SECONDS = 1.0
"""How long a stop waits for clients to take their last bytes."""


class House(Protocol):
    """The part of an ``ActorSystem`` that can be looked into."""

    @property
    def clock(self) -> Clock:
        """For dating records."""

    @property
    def trace(self) -> Trace:
        """Where records are read."""

    @property
    def stop_reason(self) -> str:
        """What those who follow are told at the end."""

    def describe(self) -> Sequence[ActorDescription]:
        """Every actor's state."""


class Request(msgspec.Struct, tag_field="request", forbid_unknown_fields=True):
    """What every request says; its tag is its name."""

    version: int


class _Describe(Request, tag="describe"):
    """What do the actors do?"""


@dataclass(frozen=True)
class Wish:
    """A request that is handed on.

    Attributes:
        request: its fields, in a subclass of ``Request`` with a tag of its own.
        shown: its fields as those who ask something else are told of them, ``"on": true, false or null``.
        who: answers, for where there is no answer: ``whoever writes the trace``.
        answer: is given the request; may raise ``AskFailed``.
    """

    request: type[Request]
    shown: str
    who: str
    answer: Callable[[Any], Awaitable[msgspec.Struct]]

    @property
    def name(self) -> str:
        """Its tag."""
        return str(self.request.__struct_config__.tag)


class _Follow(Request, tag="trace"):
    """Records after number ``since``; of the past at most the ``last`` so many."""

    since: Annotated[int, Meta(ge=0)] = 0
    last: Annotated[int, Meta(ge=1)] | None = None
    follow: bool = True


def _expected(wishes: Sequence[Wish]) -> str:
    handed_on = "".join(f'{{"version": {VERSION}, "request": "{wish.name}", {wish.shown}}}, ' for wish in wishes)
    return (
        f'one line of JSON of at most {REQUEST_BYTES_MAX} bytes: {{"version": {VERSION}, "request": "describe"}}, '
        f'{handed_on}or {{"version": {VERSION}, "request": "trace", "since": 0, "last": null or a number, '
        f'"follow": true or false}}'
    )


class ControlServer:
    """``async with ControlServer(home, house, wishes):`` serves while the block runs; hold the home's lock around it.

    Attributes:
        trouble: why there is no socket; empty while there is one.
    """

    def __init__(self, home: Path, house: House, wishes: Sequence[Wish] = ()) -> None:
        self._home = home
        self._house = house
        self._wishes: dict[type[Request], Wish] = {wish.request: wish for wish in wishes}
        self._known: Any = functools.reduce(operator.or_, self._wishes, _Describe | _Follow)
        self._expected = _expected(wishes)
        self._disk = Disk(home)
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._tails: list[_Tail] = []
        self._following = 0
        self._seen = 0
        self._counted = 0
        self._next_look: asyncio.TimerHandle | None = None
        self._ending = asyncio.Event()
        self.trouble = ""

    async def __aenter__(self) -> ControlServer:
        try:
            listening = self._listen()
        except OSError as error:
            self.trouble = f"{SOCKET}: {error.strerror or error}"
            return self
        self._server = await asyncio.start_server(self._accept, sock=listening, limit=REQUEST_BYTES_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        with contextlib.suppress(OSError):  # the next start removes it
            self._disk.unlink(SOCKET)
        self._server.close()
        self._push()
        self._ending.set()
        if self._next_look is not None:
            self._next_look.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=FAREWELL_SECONDS)
        for task, writer in self._clients.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _listen(self) -> socket.socket:
        found = self._disk.stat(SOCKET)
        if found is not None and found.kind == "other":
            self._disk.unlink(SOCKET)
        elif found is not None:
            raise OSError(f"a {found.kind} of that name is in the way")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Before it has a name: there is no moment in which somebody else could connect.
            os.fchmod(listening.fileno(), 0o600)
            with control_socket.opened(self._home) as folder:
                listening.bind(control_socket.address(self._home, folder))
        except BaseException:
            listening.close()
            raise
        return listening

    # One client.

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of our own: the one that asyncio would make complains aloud when it is cancelled.
        task = asyncio.get_running_loop().create_task(self._greet(reader, writer))
        self._clients[task] = writer
        task.add_done_callback(self._clients.pop)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
            async with asyncio.timeout(STALLED_SECONDS):
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()  # it left, or it takes nothing

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not _may_speak(writer):
            _refuse(writer, "another user's daemon answers its own user only")
            return
        if len(self._clients) > CLIENTS_MAX:
            _refuse(writer, f"{CLIENTS_MAX} clients are connected already; try again when one has left")
            return
        try:
            async with asyncio.timeout(ASK_WITHIN_SECONDS):
                line = await reader.readline()
        except TimeoutError:
            _refuse(writer, f"nothing was asked within {ASK_WITHIN_SECONDS:g} s", self._expected)
            return
        except ValueError:
            _refuse(writer, f"the request is longer than {REQUEST_BYTES_MAX} bytes", self._expected)
            return
        try:
            request: Request = msgspec.json.decode(line, type=self._known)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            _refuse(writer, f"this request cannot be read: {error}", self._expected)
            return
        if request.version != VERSION:
            _refuse(writer, f"this daemon speaks version {VERSION}, and not {request.version}", self._expected)
            return
        match request:
            case _Describe():
                at = self._house.clock.now().isoformat(timespec="seconds")
                _say(writer, {"version": VERSION, "at": at, "actors": self._house.describe()})
            case _Follow():
                await self._show(request, reader, writer)
            case _:
                await self._hand_on(writer, self._wishes[type(request)], request)

    async def _hand_on(self, writer: asyncio.StreamWriter, wish: Wish, request: Request) -> None:
        try:
            answer = await wish.answer(request)
        except AskFailed as failed:
            _refuse(writer, f"{wish.who} gave no answer: {failed}")
            return
        _say(writer, {"version": VERSION, **msgspec.to_builtins(answer)})

    # The trace.

    async def _show(self, wanted: _Follow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._following >= TAILS_MAX:
            _refuse(writer, f"{TAILS_MAX} clients follow the trace already; try again when one has left")
            return
        clock, trace = self._house.clock, self._house.trace
        self._push()
        self._following += 1
        if self._next_look is None:
            self._seen = trace.count
            self._look()
        # Up to here without a pause: the past ends where the count of what happens since begins.
        until, counted = trace.count, self._counted
        held = trace.since(wanted.since)
        past = held[-wanted.last :] if wanted.last is not None else held
        left = asyncio.ensure_future(reader.read(1))  # a client has nothing more to say, so this is its leaving
        tail = _Tail(writer)
        try:
            _say(writer, {"version": VERSION, "clock": (clock.monotonic(), clock.now().isoformat())})
            await self._send_past(tail, past)
            if wanted.follow and not self._ending.is_set():
                self._push()
                since = trace.since(until)
                tail.miss(self._counted - counted - len(since))  # a slow reader of a long past: memory let go of these
                await self._follow(tail, since, left)
            tail.end(f"the daemon stopped: {self._house.stop_reason}" if self._ending.is_set() else "")
        finally:
            self._following -= 1
            left.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await left

    async def _send_past(self, tail: _Tail, past: Sequence[Record]) -> None:
        """What is there already, in pieces; the client is waited for between them."""
        for start in range(0, len(past), RECORDS_AT_ONCE):
            piece = past[start : start + RECORDS_AT_ONCE]
            tail.offer(len(piece), trace_files.encode(piece))
            async with asyncio.timeout(STALLED_SECONDS):
                await tail.drained()
            if self._ending.is_set():
                return
        tail.say({"past": len(past)})

    async def _follow(self, tail: _Tail, since: Sequence[Record], left: asyncio.Future[bytes]) -> None:
        """What happened since the past was read, and from the next look on whatever happens."""
        newest = since[-RECORDS_A_LOOK_MAX:]
        tail.miss(len(since) - len(newest))
        if newest:
            tail.offer(len(newest), trace_files.encode(newest))
        self._tails.append(tail)
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait((left, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            self._tails.remove(tail)

    def _look(self) -> None:
        self._push()
        loop = asyncio.get_running_loop()
        self._next_look = loop.call_later(LOOK_SECONDS, self._look) if self._following else None

    def _push(self) -> None:
        """Hand what is new to everyone who follows. It is encoded once, and nobody is waited for."""
        if not self._following:
            return
        fresh = self._house.trace.since(self._seen)
        self._seen = self._house.trace.count
        self._counted += len(fresh)
        if fresh and self._tails:
            newest = fresh[-RECORDS_A_LOOK_MAX:]
            data = trace_files.encode(newest)
            for tail in self._tails:
                tail.miss(len(fresh) - len(newest))
                tail.offer(len(newest), data)
        now = asyncio.get_running_loop().time()
        for tail in self._tails:
            tail.look_after(now)


class _Tail:
    """One client that follows; what it misses is counted, and told as soon as there is room."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._missed = 0
        self._said_bytes = 0
        self._taken_bytes = 0
        self._took_at: float | None = None

    def offer(self, count: int, data: bytes) -> None:
        """So many records: sent if there is room for them, else missed."""
        if self._waiting_bytes > SEND_BYTES_MAX:
            self.miss(count)
            return
        self._tell_missed()
        self.say({"records": count, "bytes": len(data)})
        self._write(data)

    def miss(self, count: int) -> None:
        """So many records it will not get."""
        self._missed += count

    def look_after(self, now: float) -> None:
        """Tell what was missed once there is room; let go of a client that has taken nothing for very long."""
        waiting = self._waiting_bytes
        taken = self._said_bytes - waiting
        if not waiting or taken != self._taken_bytes or self._took_at is None:
            self._taken_bytes, self._took_at = taken, now
        if waiting <= SEND_BYTES_MAX:
            self._tell_missed()
        if now - self._took_at > STALLED_SECONDS:
            self._writer.transport.abort()

    async def drained(self) -> None:
        """Until the client has taken most of it. Others have their turn, even if it has."""
        await self._writer.drain()
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(_give, turn)
        await turn

    def end(self, why: str) -> None:
        """The last part."""
        self._tell_missed()
        self.say({"end": why})

    def say(self, part: dict[str, Any]) -> None:
        """One part."""
        self._write(msgspec.json.encode(part) + b"\n")

    @property
    def _waiting_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def _tell_missed(self) -> None:
        if self._missed:
            self.say({"missed": self._missed})
            self._missed = 0

    def _write(self, data: bytes) -> None:
        self._said_bytes += len(data)
        self._writer.write(data)


def _give(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _say(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")


def _refuse(writer: asyncio.StreamWriter, why: str, expected: str = "") -> None:
    _say(writer, {"version": VERSION, "error": why, **({"expected": expected} if expected else {})})


def _may_speak(writer: asyncio.StreamWriter) -> bool:
    """Is it the same user, or root? Where the kernel cannot tell, the socket's mode alone decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    connected = writer.get_extra_info("socket")
    _pid, user, _group = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user in (0, os.geteuid())
