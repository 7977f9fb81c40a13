"""ps: the actors as the daemon last wrote them, and whether there is a daemon at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.simulated_home import lived_in_home
from tools.commands.ps import ps

BUSY = {
    "name": "trainer",
    "state": "running",
    "incarnation": 2,
    "restarts": 1,
    "depth": 3,
    "capacity": 256,
    "handled": 1234,
    "dead_letters": 1,
    "dropped": 0,
    "busy_share": 0.875,
    "oldest_waiting_s": 12.0,
    "in_hand": "GenerationCommitted",
    "in_hand_s": 4.2,
    "last_message": "GenerationCommitted",
    "waiting_on": "disk_guard",
}


def write(home: Path, *actors: dict[str, object]) -> None:
    (home / "status" / "actors.json").write_text(json.dumps({"at": "2026-11-23T12:00:00+01:00", "actors": actors}))


def test_of_a_living_daemon_each_actor_is_a_line(
    home: Path, daemon: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    daemon({})
    write(home, BUSY)
    assert ps(home, as_json=False) == 0
    head, row, lost = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "actor"
    for words in ("trainer", "running", "3/256 12 s", "87.5%", "1,234", "GenerationCommitted for 4.2 s", "disk_guard"):
        assert words in row
    assert lost == "! trainer: 1 dead letter(s)"


def test_without_a_daemon_the_last_known_is_said_to_be_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, BUSY)
    assert ps(home, as_json=False) == 1
    out = capsys.readouterr().out
    assert "no daemon is running" in out
    assert "last known, at 2026-11-23T12:00:00+01:00" in out
    assert "trainer" in out


def test_json(home: Path, daemon: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    daemon({})
    write(home, BUSY)
    assert ps(home, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["living"], found["pid"], found["actors"]) == (True, os.getpid(), [BUSY])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"actors": 3}', '{"actors": [1, null]}'])
def test_a_damaged_file_is_as_good_as_none(home: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "status" / "actors.json").write_text(text)
    assert ps(home, as_json=False) == 1
    assert ps(home, as_json=True) == 1
    assert '"actors": []' in capsys.readouterr().out


def test_it_reads_what_the_house_really_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ps(lived_in_home(tmp_path), as_json=False)
    out = capsys.readouterr().out
    for name in ("trainer", "checkpointer", "validator", "inbox_watcher", "consolidator", "disk_guard"):
        assert name in out
