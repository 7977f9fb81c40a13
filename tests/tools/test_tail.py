"""trace tail, live: from the daemon's memory at once, in one piece with what is on disk, until it ends."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from runtime import control_server, trace_files
from runtime.disk import Disk
from runtime.trace import Trace
from tests.tools.living_house import LivingHouse
from tools.commands.trace import trace
from tools.trace_views.tail import tail


class Screen(io.StringIO):
    """A terminal, as far as ``isatty`` goes."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()


class Tailing(threading.Thread):
    """``tail`` that follows, in a thread."""

    def __init__(self, home: Path, screen: io.StringIO) -> None:
        super().__init__()
        self._home = home
        self._screen = screen
        self.code: int | None = None
        self.start()

    def run(self) -> None:
        self.code = tail(self._home, self._screen, follow=True)


def soon(holds: Callable[[], bool], within_s: float = 10.0) -> float:
    """How long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s
        time.sleep(0.002)
    return time.monotonic() - began


def test_a_terminal_shows_the_newest_of_the_past_and_then_what_happens_though_nothing_is_on_disk(home: Path) -> None:
    screen = Screen()
    with LivingHouse(home) as house:
        for number in range(100):
            house.happens("BatchClaimed", batch=f"{number:06d}")
        tailing = Tailing(home, screen)
        soon(lambda: len(screen.lines) == 40)
        assert "batch=000099" in screen.lines[-1]
        assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", screen.lines[0]), (
            "the past is dated though memory has no date in it"
        )
        took = []
        for number in range(100, 103):
            house.happens("BatchAccepted", batch=f"{number:06d}")
            took.append(soon(lambda wanted=f"batch={number:06d}": wanted in screen.lines[-1]))  # type: ignore[misc]
    tailing.join(10)
    assert max(took) < 0.2
    assert re.match(
        r"\d\d:\d\d:\d\d\.\d{3}  validator → trainer  BatchAccepted batch=000102  #5 ← #3", screen.lines[-1]
    )
    now = datetime.now().astimezone()
    began, ended = (f"{at:%H:%M:%S}" for at in (now - timedelta(seconds=20), now))
    assert began <= screen.lines[-1][:8] <= ended or ended < began, "it is dated by the wall, but for midnight"
    assert tailing.code == 0
    assert not (home / "status" / "trace").exists()


def test_when_the_daemon_ends_whoever_follows_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LivingHouse(home) as house:
        tailing = Tailing(home, io.StringIO())
        time.sleep(0.1)
        house.happens("BatchClaimed")
    tailing.join(10)
    assert tailing.code == 0
    assert capsys.readouterr().err == "the daemon stopped: SIGTERM\n"


def test_a_pipe_gets_what_memory_holds_and_ends(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LivingHouse(home) as house:
        for number in range(3000):
            house.trace.add(float(number), "sent", number, 0, "a", "b", f"T{number}", body=None)
        assert trace(home, "tail", None, None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[4] for line in lines] == [f"T{number}" for number in range(3000)]


def test_what_is_on_disk_and_what_is_in_memory_is_told_once_and_in_order(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = trace_files.TraceWriter(Disk(home), "status/trace", file_bytes=4096, keep=9)
    earlier = Trace()
    for number in range(5):
        earlier.add(float(number), "sent", number, 0, "a", "b", f"Earlier{number}")
    writer.append(earlier.since(0))
    with LivingHouse(home) as house:
        for number in range(10):
            house.happens(f"Now{number}")
        writer.append(house.trace.since(0)[:6])
        trace(home, "tail", None, None)
        told = [line.split()[4] for line in capsys.readouterr().out.splitlines()]
        assert told == [f"Earlier{n}" for n in range(5)] + [f"Now{n}" for n in range(10)]


def test_with_follow_a_pipe_goes_on(home: Path) -> None:
    out = io.StringIO()
    with LivingHouse(home) as house:
        house.happens("BatchClaimed")
        tailing = Tailing(home, out)
        soon(lambda: "BatchClaimed" in out.getvalue())
        house.happens("BatchAccepted")
        soon(lambda: "BatchAccepted" in out.getvalue())
    tailing.join(10)
    assert len(out.getvalue().splitlines()) == 2


def test_records_that_came_too_fast_are_told_as_a_number(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "RECORDS_A_LOOK_MAX", 10)
    out = io.StringIO()
    with LivingHouse(home) as house:
        house.happens("First")
        tailing = Tailing(home, out)
        soon(lambda: "First" in out.getvalue())
        house.happens("Storm", times=100)
        soon(lambda: out.getvalue().count("Storm") == 10)
    tailing.join(10)
    assert "… 90 records came faster than they were read here …" in out.getvalue()


def test_a_living_daemon_that_does_not_answer_is_read_from_disk_and_that_is_said(
    home: Path, daemon: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    daemon({})
    recorded = Trace()
    recorded.add(1.0, "sent", 1, 0, "a", "b", "Written")
    trace_files.TraceWriter(Disk(home), "status/trace", file_bytes=4096, keep=2).append(recorded.since(0))
    assert trace(home, "tail", None, None) == 0
    said = capsys.readouterr()
    assert "Written" in said.out
    assert "does not answer (it has no socket)" in said.err
