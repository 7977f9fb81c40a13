"""pause, resume, stop, consolidate: each says what truly happened, and no daemon is not an accident."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.errors import OperatorError
from tools.commands import control

Start = Callable[..., object]


def refused(call: Callable[[], int]) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        call()
    return caught.value


def test_pause_without_a_daemon_takes_effect_at_the_next_start(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert control.pause(home, 1) == 0
    assert (home / ".pause").exists()
    assert "takes effect at the next start" in capsys.readouterr().out


def test_pause_waits_until_training_holds(home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]) -> None:
    daemon({".pause": {"state": "paused", "global_step": 8, "generation": 4}}, state="training")
    assert control.pause(home, 10) == 0
    assert capsys.readouterr().out == "paused at step 8, generation 4\n"


def test_pause_that_is_not_followed_says_so_and_stays_in_force(home: Path, daemon: Start) -> None:
    daemon({}, state="training")
    error = refused(lambda: control.pause(home, 0.3))
    assert (error.code, error.exit_code) == ("NF-CONF-008", 1)
    assert "after 0.3 s the daemon is not paused yet, it is training" in error.what
    assert (home / ".pause").exists()


def test_wait_zero_only_asks(home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]) -> None:
    daemon({}, state="training")
    assert control.pause(home, 0) == 0
    assert "asked to pause" in capsys.readouterr().out


def test_resume_waits_until_training_may_go_on(home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".pause").touch()
    daemon({"resume": {"state": "training", "global_step": 7}}, state="paused")
    assert control.resume(home, 10) == 0
    assert "resumed at step 7" in capsys.readouterr().out
    assert not (home / ".pause").exists()


def test_resume_of_what_was_not_paused_says_so(home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert control.resume(home, 1) == 0
    daemon({})
    assert control.resume(home, 1) == 0
    assert capsys.readouterr().out == "it was not paused\nit was not paused\n"


def test_resume_without_a_daemon_takes_the_pause_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".pause").touch()
    assert control.resume(home, 1) == 0
    assert not (home / ".pause").exists()
    assert "at the next start" in capsys.readouterr().out


def test_stop_without_a_daemon_leaves_no_stale_wish(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert control.stop(home, 1) == 0
    assert capsys.readouterr().out == "not running\n"
    assert not (home / ".stop").exists()


def test_stop_waits_until_the_daemon_has_ended(home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]) -> None:
    daemon({".stop": {"state": "stopped", "pid": None, "global_step": 9, "generation": 5}})
    assert control.stop(home, 10) == 0
    assert "at step 9, generation 5" in capsys.readouterr().out


def test_stop_tells_a_daemon_that_died_from_one_that_ended_in_order(home: Path, daemon: Start) -> None:
    daemon({".stop": None}, state="training")
    error = refused(lambda: control.stop(home, 10))
    assert error.exit_code == 1
    assert "not in order" in error.what


def test_consolidate_needs_a_daemon(home: Path) -> None:
    error = refused(lambda: control.consolidate(home, 1))
    assert (error.code, error.exit_code) == ("NF-CONF-005", 1)
    assert "nightfold run" in error.hint
    assert not (home / ".consolidate").exists()


def test_consolidate_waits_for_the_night(home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]) -> None:
    daemon({".consolidate": {"state": "idle", "last_consolidation": {"night": "20261123T030000"}}})
    assert control.consolidate(home, 10) == 0
    assert "consolidated: night 20261123T030000" in capsys.readouterr().out


def test_consolidate_under_way_when_the_waiting_ends(
    home: Path, daemon: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon({".consolidate": {"state": "consolidating"}})
    assert control.consolidate(home, 0.4) == 0
    assert "under way" in capsys.readouterr().out


@pytest.mark.parametrize("code", ["NF-MERGE-003", "NF-DISK-001"])
def test_a_night_that_is_refused_is_told_with_its_own_code(home: Path, daemon: Start, code: str) -> None:
    trouble = {"code": code, "message": "night 20261123T030000: no space", "hint": "make room"}
    daemon({".consolidate": {"last_error": trouble}})
    error = refused(lambda: control.consolidate(home, 10))
    assert (error.code, error.exit_code, error.hint) == (code, 1, "make room")


def test_a_wish_for_a_night_that_must_wait_is_told_as_such(
    home: Path, daemon: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_NIGHT_BEGINS_WITHIN_S", 0.2)
    daemon({".consolidate": {"state": "training"}}, state="training")
    assert control.consolidate(home, 30) == 0
    assert "it is training now" in capsys.readouterr().out


def test_a_folder_that_is_no_home_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for wish in (control.pause, control.resume, control.stop, control.consolidate):
        error = refused(lambda wish=wish: wish(tmp_path, 0))  # type: ignore[misc]
        assert (error.code, error.exit_code) == ("NF-CONF-002", 78)
    assert list(tmp_path.iterdir()) == []
