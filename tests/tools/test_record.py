"""trace record: is the trace written to disk, and shall it be? Only the living daemon can say and do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from messages import TraceRecording
from runtime.errors import OperatorError
from tests.tools.living_house import LivingHouse
from tools.commands.trace import trace


def said(capsys: pytest.CaptureFixture[str], home: Path, wish: str | None) -> list[str]:
    assert trace(home, "record", wish, None) == 0
    return capsys.readouterr().out.splitlines()


def test_it_is_switched_over_the_socket_and_says_what_holds_now(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LivingHouse(home) as house:
        assert said(capsys, home, None)[0].startswith("off: the trace is kept in memory only")
        assert said(capsys, home, "on") == [f"on now: the trace is written to {home}/status/trace (nothing yet)"]
        assert said(capsys, home, "on")[0].startswith("on already: ")
        assert said(capsys, home, None)[0].startswith("on: ")
        (home / "status" / "trace").mkdir()
        (home / "status" / "trace" / "000001.trace").write_bytes(b"x" * 4321)
        off = said(capsys, home, "off")
        assert off[0].startswith("off now: ")
        assert off[1] == f"  what was written before stays in {home}/status/trace (1 file, 4 kB)"
        assert said(capsys, home, "off")[0].startswith("off already: ")
    assert house.wishes == [None, True, True, None, False, False]


def test_a_disk_that_refuses_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LivingHouse(home) as house:
        house.recording = TraceRecording(on=False, was=False, trouble="No space left on device")
        assert "No space left on device" in said(capsys, home, "on")[1]


def test_without_a_daemon_it_tells_how_the_next_one_begins_and_switches_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, home, None) == ["no daemon is running; the next one begins with it on (trace_on_disk)"]
    with (home / "nightfold.toml").open("a") as config:
        config.write("[status_reporter]\ntrace_on_disk = false\n")
    assert "begins with it off" in said(capsys, home, None)[0]
    with pytest.raises(OperatorError) as caught:
        trace(home, "record", "on", None)
    assert (caught.value.code, caught.value.exit_code) == ("NF-CONF-005", 1)


def test_a_daemon_that_does_not_answer_is_an_error_with_the_reason(home: Path, daemon: Callable[..., object]) -> None:
    daemon({})
    with pytest.raises(OperatorError, match="it has no socket") as caught:
        trace(home, "record", "off", None)
    assert (caught.value.code, caught.value.exit_code) == ("NF-RUN-011", 1)


def test_anything_but_on_and_off_is_a_mistake(home: Path) -> None:
    with pytest.raises(OperatorError, match="on or off, and not 'maybe'") as caught:
        trace(home, "record", "maybe", None)
    assert caught.value.exit_code == 2
