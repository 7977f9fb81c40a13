"""Looking into a real daemon that writes no trace: what ps and trace tell is its own word, and at once."""

from __future__ import annotations

import io
import json
import threading
import time
from pathlib import Path

import pytest

from runtime import control_socket, trace_files
from runtime.trace_files import Body
from tests.real.conftest import Live
from tests.real.daemons import Daemon, Home, command, lesson
from tools.commands import ps
from tools.trace_views.recorded import read_runs
from tools.trace_views.tail import tail

pytestmark = pytest.mark.real


class Tailing(threading.Thread):
    """``trace tail --follow`` into memory."""

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home.path
        self.out = io.StringIO()
        self.code: int | None = None
        self.start()

    def run(self) -> None:
        self.code = tail(self._home, self.out, follow=True)


def running(home: Home, live: Live) -> Daemon:
    """A daemon that writes its status so rarely that nothing but its socket can tell what happens."""
    home.configure(status_reporter={"trace_on_disk": False, "write_every_seconds": 30.0})
    daemon = live("run", home.path)
    daemon.until("it answers and is up", lambda: all(one["state"] == "running" for one in actors(home)))
    return daemon


def actors(home: Home) -> list[dict[str, object]]:
    found, _ = ps.look(home.path)
    return list(found["actors"]) if found["live"] else [{"state": "unknown"}]


def traces(home: Home) -> list[Path]:
    return sorted((home.path / "status" / "trace").glob("*.trace"))


def test_ps_and_trace_tail_show_what_happens_now_though_nothing_is_written(home: Home, live: Live) -> None:
    daemon = running(home, live)
    assert (home.path / ".control").stat().st_mode & 0o777 == 0o600
    tailing = Tailing(home)
    time.sleep(0.3)
    home.drop("a.jsonl", lesson(1, 8))
    daemon.until("the claim is shown", lambda: "BatchClaimed batch=000001" in tailing.out.getvalue())
    daemon.until("it is filed", lambda: "BatchFiled batch=000001" in tailing.out.getvalue())
    assert any(one["name"] == "trainer" and one["handled"] for one in actors(home))
    assert traces(home) == []
    (home.path / ".stop").touch()
    assert daemon.end() == 0
    tailing.join(10)
    assert tailing.code == 0
    assert "STOPPED status_reporter" in tailing.out.getvalue().splitlines()[-1]
    assert not home.has(".control")


def test_a_record_is_shown_within_a_fifth_of_a_second(home: Home, live: Live) -> None:
    running(home, live)
    lags: list[float] = []
    with control_socket.TraceStream(home.path, follow=True, last=1) as stream:
        # The daemon's monotonic clock is this machine's.
        for part in stream:
            now = time.monotonic()
            if isinstance(part, control_socket.Frames):
                lags += [now - record.at for record in trace_files.decode(part.data)]
            if isinstance(part, control_socket.Reached):
                lags.clear()
            if len(lags) > 20:
                break
    lags.sort()
    assert lags[len(lags) // 2] < 0.2, lags


def test_recording_starts_and_stops_files_while_it_runs(home: Home, live: Live) -> None:
    daemon = running(home, live)
    home.drop("before.jsonl", lesson(1, 4))
    daemon.until("it is trained", lambda: home.has("trained/before.jsonl.receipt.json"))
    assert traces(home) == []
    said = command("trace", home.path, "record", "on")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("on now: ")
    [file] = traces(home)
    claimed = [r.body for run in read_runs(home.path) for r in run.records if r.type == "BatchClaimed" and r.body.value]
    assert isinstance(claimed[0], Body)
    assert claimed[0].value["name"] == "before.jsonl", "what memory still held is on disk too"
    assert command("trace", home.path, "record", "off").stdout.startswith("off now: ")
    size = file.stat().st_size
    home.drop("after.jsonl", lesson(2, 4))
    daemon.until("it is trained", lambda: home.has("trained/after.jsonl.receipt.json"))
    (home.path / ".stop").touch()
    assert daemon.end() == 0
    assert file.stat().st_size == size
    assert traces(home) == [file]


def test_after_kill_9_the_socket_left_behind_fools_nobody(home: Home, live: Live) -> None:
    daemon = running(home, live)
    tailing = Tailing(home)
    time.sleep(0.3)
    daemon.kill()
    tailing.join(10)
    assert tailing.code == 1, "it is gone without a word"
    assert home.has(".control")
    said = command("ps", home.path, "--json")
    assert (said.returncode, json.loads(said.stdout)["live"]) == (1, False)
    again = running(home, live)
    assert ps.look(home.path)[0]["pid"] == again.pid
