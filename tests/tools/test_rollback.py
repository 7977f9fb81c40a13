"""rollback: one replacement of HEAD, undone by the same command, refused where it could do harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.checkpointer.head import Head
from runtime.errors import EXIT_LOCKED, OperatorError
from runtime.home_lock import HomeLock
from tests.tools.simulated_home import lived_in_home
from tools.commands.history import read_head
from tools.commands.rollback import rollback


@pytest.fixture
def lived_in(tmp_path: Path) -> Path:
    return lived_in_home(tmp_path / "home")


def head_of(home: Path) -> Head:
    head = read_head(home)
    assert head is not None
    return head


def test_to_a_generation_and_back_again(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = head_of(lived_in)
    target = before.kept[0]
    assert target.generation != before.generation
    assert rollback(lived_in, str(target.generation)) == 0
    told = capsys.readouterr().out
    now = head_of(lived_in)
    assert now.generation == target.generation
    assert now.kept == before.kept, "what was in force before must stay, or it could not be taken back"
    assert (now.model_path, now.ledger) == (target.model_path, target.ledger)
    assert (lived_in / "current_model").readlink() == Path(target.path)
    assert f"take it back: nightfold rollback {lived_in} {before.generation}" in told
    assert "last.jsonl" in told
    assert "nights no longer in force" in told
    assert (lived_in / "trained" / "last.jsonl").exists()
    assert rollback(lived_in, str(before.generation)) == 0
    assert head_of(lived_in).generation == before.generation
    assert head_of(lived_in).ledger == before.ledger


def test_to_a_night(lived_in: Path) -> None:
    night = head_of(lived_in).nights[0]
    rollback(lived_in, night.night)
    assert head_of(lived_in).generation == night.generation


def test_what_is_in_force_already_is_left_alone(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rollback(lived_in, str(head_of(lived_in).generation)) == 0
    assert "already" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["1", "99999", "20200101T030000", "-1", "", "../..", "²"])
def test_what_is_not_kept_is_refused(lived_in: Path, target: str) -> None:
    before = (lived_in / "state" / "HEAD").read_bytes()
    with pytest.raises(OperatorError) as caught:
        rollback(lived_in, target)
    assert caught.value.code == "NF-STATE-003"
    assert (lived_in / "state" / "HEAD").read_bytes() == before


def test_a_damaged_generation_is_refused(lived_in: Path) -> None:
    before = head_of(lived_in)
    target = before.kept[0]
    (lived_in / target.path / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(OperatorError) as caught:
        rollback(lived_in, str(target.generation))
    assert caught.value.code == "NF-STATE-003"
    assert "damaged" in caught.value.what
    assert head_of(lived_in).generation == before.generation


def test_a_generation_whose_merged_model_is_gone_is_refused(lived_in: Path) -> None:
    before = head_of(lived_in)
    target = next(kept for kept in before.kept if kept.model_path and kept.generation != before.generation)
    (lived_in / target.model_path).rename(lived_in / "elsewhere")
    with pytest.raises(OperatorError, match=target.model_path):
        rollback(lived_in, str(target.generation))
    assert head_of(lived_in).generation == before.generation


def test_a_living_daemon_keeps_its_home(lived_in: Path) -> None:
    with HomeLock(lived_in), pytest.raises(OperatorError) as caught:
        rollback(lived_in, "1")
    assert (caught.value.code, caught.value.exit_code) == ("NF-STATE-001", EXIT_LOCKED)
    assert "stop" in caught.value.hint
