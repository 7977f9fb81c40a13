"""The control socket: whoever asks gets an answer, whoever follows gets every record or is told, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import control_server, control_socket, trace_files
from runtime.cell import ActorDescription
from runtime.clock import SystemClock
from runtime.control_server import ControlServer, Request, Wish
from runtime.control_socket import Ended, Frames, Missed, Reached, Refused, TraceStream, Unreachable
from runtime.errors import AskFailed
from runtime.trace import Trace

TRAINER = ActorDescription(
    name="trainer",
    state="running",
    incarnation=1,
    restarts=0,
    depth=1,
    capacity=256,
    handled=9,
    dead_letters=0,
    dropped=0,
    busy_share=0.5,
    oldest_waiting_s=0.1,
    in_hand="Tick",
    in_hand_s=0.2,
    last_message="Tick",
    waiting_on="",
)


class Recording(msgspec.Struct):
    on: bool
    was: bool


class RecordRequest(Request, tag="record"):
    on: bool | None = None


def record_wish(house: House) -> Wish:
    """A request that the house plugs in."""

    async def answer(request: RecordRequest) -> Recording:
        return await house.record(request.on)

    return Wish(RecordRequest, '"on": true, false or null', "whoever writes the trace", answer)


class House:
    """What a server looks into: one actor, and a trace that the test writes."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.trace = Trace()
        self.stop_reason = "the test is over"
        self.recording = False

    def describe(self) -> list[ActorDescription]:
        return [TRAINER]

    def happens(self, count: int = 1, words: str = "") -> None:
        for _ in range(count):
            self.trace.add(self.clock.monotonic(), "sent", 1, 0, "a", "b", "Something", body={"name": words})

    async def record(self, on: bool | None) -> Recording:
        was = self.recording
        self.recording = was if on is None else on
        return Recording(self.recording, was)


@pytest.fixture
def house() -> House:
    return House()


@contextlib.asynccontextmanager
async def serving(home: Path, house: House) -> AsyncIterator[ControlServer]:
    async with ControlServer(home, house, (record_wish(house),)) as server:
        assert server.trouble == ""
        yield server


async def said_to(home: Path, data: bytes, *, end: bool = False) -> list[dict[str, Any]]:
    """What the server answers to these bytes until it closes."""
    reader, writer = await asyncio.open_unix_connection(home / ".control")
    writer.write(data)
    if end:
        writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return [json.loads(line) for line in answer.splitlines()]


class Client:
    """A ``TraceStream`` in a thread, for it blocks. ``numbers`` are those of the records it got."""

    def __init__(self, stream: TraceStream) -> None:
        self.stream = stream
        self._parts = iter(stream)
        self.numbers: list[int] = []
        self.missed = 0

    @classmethod
    async def of(cls, home: Path, **wanted: Any) -> Client:
        return cls(await asyncio.to_thread(TraceStream, home, **{"follow": True, **wanted}))

    async def next(self) -> Frames | Reached | Missed | Ended:
        async with asyncio.timeout(10):
            part = await asyncio.to_thread(next, self._parts)
        match part:
            case Frames():
                records = list(trace_files.decode(part.data))
                assert len(records) == part.records
                self.numbers += [record.number for record in records]
            case Missed():
                self.missed += part.records
        return part

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            assert not isinstance(part := await self.next(), Ended), part

    async def caught_up(self) -> Client:
        while not isinstance(await self.next(), Reached):
            pass
        return self


def numbers(house: House) -> list[int]:
    return [record.number for record in house.trace.since(0)]


# One question, one answer.


async def test_the_actors_are_described_as_the_system_does(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house):
        found = await asyncio.to_thread(control_socket.describe, tmp_path)
    assert found["actors"] == [msgspec.to_builtins(TRAINER)]
    assert found["at"].startswith("20")


async def test_recording_is_switched_and_asked_after(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house):
        answers = [await asyncio.to_thread(control_socket.record, tmp_path, wish) for wish in (None, True, None, False)]
    assert [(one["was"], one["on"]) for one in answers] == [(False, False), (False, True), (True, True), (True, False)]


async def test_a_switch_that_nobody_answers_is_refused_with_the_reason(tmp_path: Path, house: House) -> None:
    async def record(_on: bool | None) -> Recording:
        raise AskFailed("status_reporter is stopped")

    house.record = record  # type: ignore[assignment,method-assign]
    async with serving(tmp_path, house):
        with pytest.raises(Refused, match="status_reporter is stopped"):
            await asyncio.to_thread(control_socket.record, tmp_path, True)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (b"hello\n", "malformed"),
        (b"\xff\xfe\x00\n", "cannot be read"),
        (b"\n", "cannot be read"),
        (b"[]\n", "Expected `object`"),
        (b'{"version": 1}\n', "request"),
        (b'{"version": 1, "request": "explode"}\n', "explode"),
        (b'{"request": "describe"}\n', "version"),
        (b'{"version": 1, "request": "describe", "twice": true}\n', "twice"),
        (b'{"version": 1, "request": "record", "on": "yes"}\n', "on"),
        (b'{"version": 1, "request": "trace", "since": -1}\n', "since"),
        (b'{"version": 1, "request": "trace", "last": 0}\n', "last"),
        (b'{"version": 2, "request": "describe"}\n', "version 1, and not 2"),
        (b"x" * 10_000 + b"\n", "longer than 4096"),
    ],
)
async def test_a_malformed_request_is_answered_with_what_was_expected_and_the_next_client_is_served(
    tmp_path: Path, house: House, request_: bytes, words: str
) -> None:
    async with serving(tmp_path, house):
        [answer] = await said_to(tmp_path, request_)
        assert words in answer["error"]
        assert '"request": "describe"' in answer["expected"]
        [answer] = await said_to(tmp_path, b'{"version": 1, "request": "describe"}\n')
        assert len(answer["actors"]) == 1


async def test_a_client_that_says_nothing_is_let_go(
    tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "ASK_WITHIN_SECONDS", 0.1)
    async with serving(tmp_path, house):
        [answer] = await said_to(tmp_path, b'{"version": 1, ')
    assert answer["error"] == "nothing was asked within 0.1 s"


async def test_a_client_that_leaves_before_it_asked_is_no_trouble(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house):
        [answer] = await said_to(tmp_path, b"", end=True)
        assert "cannot be read" in answer["error"]
        await asyncio.to_thread(control_socket.describe, tmp_path)


# Where it is, and who may speak.


async def test_only_the_daemons_user_and_root_may_speak(tmp_path: Path, house: House) -> None:
    class Someone:
        def __init__(self, user: int) -> None:
            self.user = user

        def get_extra_info(self, _name: str) -> Someone:
            return self

        def getsockopt(self, *_: int) -> bytes:
            return struct.pack("3i", 17, self.user, 17)

    async with serving(tmp_path, house):
        assert (tmp_path / ".control").stat().st_mode & 0o777 == 0o600
    may = [control_server._may_speak(Someone(user)) for user in (0, os.geteuid(), 54_321)]  # type: ignore[arg-type]
    assert may == [True, True, False]


async def test_a_home_with_a_long_path_has_a_socket_too(tmp_path: Path, house: House) -> None:
    home = tmp_path / ("long" * 30) / ("längst" * 20)
    home.mkdir(parents=True)
    async with serving(home, house):
        found = await asyncio.to_thread(control_socket.describe, home)
        assert len(found["actors"]) == 1
        client = await (await Client.of(home)).caught_up()
        house.happens()
        await client.next()
        client.stream.close()
    assert len(client.numbers) == 1
    assert not (home / ".control").exists()


async def test_a_socket_that_a_dead_daemon_left_is_told_from_a_living_one_and_replaced(
    tmp_path: Path, house: House
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / ".control"))
    with pytest.raises(Unreachable, match="left by a daemon that is dead"):
        control_socket.describe(tmp_path)
    async with serving(tmp_path, house):
        await asyncio.to_thread(control_socket.describe, tmp_path)
    with pytest.raises(Unreachable, match="it has no socket"):
        control_socket.describe(tmp_path)


async def test_where_there_can_be_no_socket_the_daemon_runs_on_and_says_so(tmp_path: Path, house: House) -> None:
    (tmp_path / ".control").write_text("mine")
    async with ControlServer(tmp_path, house, (record_wish(house),)) as server:
        assert server.trouble == ".control: a file of that name is in the way"
    assert (tmp_path / ".control").read_text() == "mine"
    async with ControlServer(tmp_path / "nowhere", house) as server:
        assert "No such file" in server.trouble


# The trace.


async def test_whoever_follows_gets_the_past_and_then_each_record_at_once(tmp_path: Path, house: House) -> None:
    house.happens(1234)
    async with serving(tmp_path, house):
        client = await (await Client.of(tmp_path)).caught_up()
        assert len(client.numbers) == 1234
        loop = asyncio.get_running_loop()
        for _ in range(5):
            house.happens(3)
            began = loop.time()
            await client.until(lambda: client.numbers[-1:] == numbers(house)[-1:])
            assert loop.time() - began < 0.2
        client.stream.close()
    assert client.numbers == numbers(house)
    assert client.missed == 0


async def test_the_past_may_be_bounded_and_may_be_all(tmp_path: Path, house: House) -> None:
    house.happens(100)
    every = numbers(house)
    async with serving(tmp_path, house):
        last = await (await Client.of(tmp_path, last=7, follow=False)).caught_up()
        assert await last.next() == Ended("", orderly=True)
        since = await (await Client.of(tmp_path, since=every[89], follow=False)).caught_up()
        for client in (last, since):
            client.stream.close()
    assert last.numbers == every[-7:]
    assert since.numbers == every[90:]


async def test_the_clocks_are_told_so_that_records_can_be_dated(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house):
        client = await Client.of(tmp_path, follow=False)
        at, wall = client.stream.clock
        client.stream.close()
    assert abs(house.clock.monotonic() - at) < 5
    assert wall[:4] == str(house.clock.now().year)


async def test_a_second_client_gets_the_same(tmp_path: Path, house: House) -> None:
    house.happens(10)
    async with serving(tmp_path, house):
        first = await (await Client.of(tmp_path)).caught_up()
        house.happens(10)
        second = await (await Client.of(tmp_path)).caught_up()
        house.happens(10)
        for client in (first, second):
            await client.until(lambda client=client: len(client.numbers) == 30)  # type: ignore[misc]
            client.stream.close()
    assert first.numbers == second.numbers == numbers(house)


async def test_while_records_keep_coming_none_falls_between_past_and_present(tmp_path: Path, house: House) -> None:
    house.happens(5000)

    async def busy() -> None:
        while True:
            house.happens(20)
            await asyncio.sleep(0.001)

    async with serving(tmp_path, house):
        work = asyncio.create_task(busy())
        client = await (await Client.of(tmp_path)).caught_up()
        for _ in range(10):
            await client.next()
        work.cancel()
        last = numbers(house)[-1]
        await client.until(lambda: client.numbers[-1] == last)
        client.stream.close()
    assert client.missed == 0
    assert client.numbers == numbers(house)[-len(client.numbers) :]
    assert len(client.numbers) > 5000


async def test_a_slow_client_makes_nobody_wait_and_is_told_what_it_missed(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house) as server:
        slow = await (await Client.of(tmp_path)).caught_up()
        quick = await (await Client.of(tmp_path)).caught_up()
        for _ in range(30):
            house.happens(50, words="x" * 2000)
            server._push()
            await quick.until(lambda: quick.numbers[-1:] == numbers(house)[-1:])
        [buffered, _] = [tail._waiting_bytes for tail in server._tails]
        assert buffered < control_server.SEND_BYTES_MAX + 200_000
        await slow.until(lambda: len(slow.numbers) + slow.missed == 1500)
        house.happens()
        await slow.until(lambda: len(slow.numbers) + slow.missed == 1501)
        for client in (slow, quick):
            client.stream.close()
    assert slow.missed > 100
    assert quick.missed == 0
    assert slow.numbers[-1] == numbers(house)[-1], "it goes on with what happens now"


async def test_of_a_storm_a_client_gets_the_newest_and_a_count(
    tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "RECORDS_A_LOOK_MAX", 100)
    async with serving(tmp_path, house):
        client = await (await Client.of(tmp_path)).caught_up()
        house.happens(1000)
        await client.until(lambda: len(client.numbers) == 100)
        client.stream.close()
    assert client.missed == 900
    assert client.numbers == numbers(house)[-100:]


async def test_a_client_that_takes_nothing_for_very_long_is_let_go(
    tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "STALLED_SECONDS", 0.3)
    async with serving(tmp_path, house) as server:
        client = await (await Client.of(tmp_path)).caught_up()
        house.happens(2000, words="x" * 1000)
        async with asyncio.timeout(10):
            while server._clients:
                await asyncio.sleep(0.05)
        with contextlib.suppress(StopIteration):
            while not isinstance(part := await client.next(), Ended):
                pass
        client.stream.close()
    assert isinstance(part, Ended)
    assert not part.orderly


async def test_views_left_open_are_bounded_and_do_not_keep_ps_out(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house):
        tails = [await Client.of(tmp_path) for _ in range(control_server.TAILS_MAX)]
        with pytest.raises(Refused, match="8 clients follow the trace already"):
            await Client.of(tmp_path)
        assert await asyncio.to_thread(control_socket.describe, tmp_path)
        silent = [await asyncio.open_unix_connection(tmp_path / ".control") for _ in range(control_server.CLIENTS_MAX)]
        await asyncio.sleep(0.05)
        with pytest.raises(Refused, match="16 clients are connected already"):
            await asyncio.to_thread(control_socket.describe, tmp_path)
        for _, writer in silent:
            writer.close()
        tails.pop().stream.close()
        await asyncio.sleep(0.1)
        tails.append(await Client.of(tmp_path))
        for client in tails:
            client.stream.close()


async def test_a_stop_tells_those_who_follow_after_the_last_record(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house):
        client = await (await Client.of(tmp_path)).caught_up()
        house.happens(3)
    parts = [await client.next(), await client.next()]
    client.stream.close()
    assert parts[1] == Ended("the daemon stopped: the test is over", orderly=True)
    assert client.numbers == numbers(house)
    assert not (tmp_path / ".control").exists()


async def test_a_stop_does_not_wait_for_a_client_that_takes_nothing(tmp_path: Path, house: House) -> None:
    loop = asyncio.get_running_loop()
    async with serving(tmp_path, house):
        client = await (await Client.of(tmp_path)).caught_up()
        _, silent = await asyncio.open_unix_connection(tmp_path / ".control")
        house.happens(500, words="x" * 4000)
        await asyncio.sleep(0.1)
        began = loop.time()
    assert loop.time() - began < control_server.FAREWELL_SECONDS + 1
    client.stream.close()
    silent.close()


async def test_while_nobody_follows_the_trace_is_not_looked_at(tmp_path: Path, house: House) -> None:
    async with serving(tmp_path, house) as server:
        looks = [server._next_look]
        client = await (await Client.of(tmp_path)).caught_up()
        looks.append(server._next_look)
        client.stream.close()
        await asyncio.sleep(3 * control_server.LOOK_SECONDS)
        looks.append(server._next_look)
    assert [look is None for look in looks] == [True, False, True]


def test_the_client_loads_neither_asyncio_nor_msgspec() -> None:
    import subprocess
    import sys

    heavy = "print([name for name in ('asyncio', 'msgspec', 'torch') if name in sys.modules])"
    code = f"import sys; import runtime.control_socket, tools.commands.ps; {heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
