"""ps: the actors as the living daemon describes them at this moment, else as it last wrote them, and which it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.tools.living_house import VALIDATOR, LivingHouse
from tests.tools.simulated_home import lived_in_home
from tools.commands.ps import page, ps

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


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_living_daemon_itself_is_asked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, BUSY)
    with LivingHouse(home):
        assert ps(home, as_json=False) == 0
    head, row, lost = capsys.readouterr().out.splitlines()
    assert dict(zip(cells(head), cells(row), strict=True)) == {
        "actor": "validator",
        "state": "running",
        "restarts": "2",
        "mailbox": "4/256",
        "oldest": "12.0 s",
        "busy": "87.5%",
        "handled": "1,234",
        "drops": "7",
        "in hand": "BatchClaimed for 4.2 s",
        "waits for": "disk_guard",
        "last message": "BatchClaimed",
    }
    assert lost == "! validator: 1 dead letter(s), 7 message(s) dropped, its mailbox was full"


def test_json_says_whether_it_is_live(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, BUSY)
    with LivingHouse(home):
        assert ps(home, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["actors"] == [msgspec.to_builtins(VALIDATOR)]
    assert (found["schema"], found["living"], found["live"], found["pid"]) == (1, True, True, os.getpid())
    assert found["at"] != "2026-11-23T12:00:00+01:00"


def test_a_living_daemon_that_does_not_answer_is_shown_as_it_last_wrote(
    home: Path, daemon: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    daemon({})
    write(home, BUSY)
    assert ps(home, as_json=False) == 0
    said = capsys.readouterr()
    head, row, lost = said.out.splitlines()
    assert head.startswith("actor ")
    assert cells(row)[:5] == ["trainer", "running", "1", "3/256", "12.0 s"]
    assert lost == "! trainer: 1 dead letter(s)"
    assert "does not answer (it has no socket)" in said.err
    assert "2026-11-23T12:00:00+01:00" in said.err
    assert ps(home, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["living"], found["live"], found["pid"], found["actors"]) == (True, False, os.getpid(), [BUSY])


def test_without_a_daemon_the_last_known_is_said_to_be_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(home, BUSY)
    assert ps(home, as_json=False) == 1
    out = capsys.readouterr().out
    assert "no daemon is running" in out
    assert "last known, at 2026-11-23T12:00:00+01:00" in out
    assert "trainer" in out


def test_a_disabled_one_is_shown_with_the_reason(
    home: Path, daemon: Callable[..., object], capsys: pytest.CaptureFixture[str]
) -> None:
    why = "NF-RUN-002: it blocks: look at line 7"
    daemon({}, disabled=[{"name": "plugins.bell", "why": why, "since": "2026-11-23T11:00:00+01:00"}])
    write(home, {**BUSY, "name": "plugins.bell", "state": "disabled", "dead_letters": 0}, BUSY)
    assert ps(home, as_json=False) == 0
    assert f"! plugins.bell: disabled: {why}" in capsys.readouterr().out.splitlines()
    ps(home, as_json=True)
    bell, trainer = json.loads(capsys.readouterr().out)["actors"]
    assert bell["why"] == why
    assert "why" not in trainer


def test_watching_it_prints_it_again_until_interrupted(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("tools.commands.ps.time.sleep", sleep)
    with LivingHouse(home), pytest.raises(KeyboardInterrupt):
        ps(home, as_json=True, watch=True)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["live"] for line in lines] == [True] * 3
    assert waits == [1.0] * 3


@pytest.mark.parametrize("text", ["", "[]", "{", '{"actors": 3}', '{"actors": [1, null]}'])
def test_a_damaged_file_is_as_good_as_none(home: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "status" / "actors.json").write_text(text)
    assert ps(home, as_json=False) == 1
    assert ps(home, as_json=True) == 1
    assert '"actors": []' in capsys.readouterr().out


def test_names_and_reasons_cannot_write_to_the_terminal() -> None:
    nasty: dict[str, Any] = {"name": "a\x1b[2J", "state": "disabled", "why": "b\nc\x1b"}
    assert "\x1b" not in "".join(lines := page([nasty]))
    assert len(lines) == 3


def test_it_reads_what_the_house_really_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ps(lived_in_home(tmp_path), as_json=False)
    out = capsys.readouterr().out
    for name in ("trainer", "checkpointer", "validator", "inbox_watcher", "consolidator", "disk_guard"):
        assert name in out
