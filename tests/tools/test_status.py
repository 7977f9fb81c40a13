"""status tells the truth: the file is believed only while its writer lives."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import OperatorError
from tests.tools.conftest import write_status
from tools.commands.home import read_status
from tools.commands.status import page, status

Start = Callable[..., object]
PROMISED = [
    "state",
    "pid",
    "global_step",
    "adapter_id",
    "adapter_step",
    "generation",
    "base_model",
    "queue",
    "batch",
    "disk",
    "last_error",
    "counts",
    "last_consolidation",
    "heartbeat",
]


def test_a_home_that_never_ran_is_stopped_and_has_every_promised_field(home: Path) -> None:
    found = read_status(home)
    assert set(PROMISED) <= set(found)
    assert (found["state"], found["reason"], found["pid"]) == ("stopped", "never started", None)


def test_stopped_in_order_stays_stopped(home: Path) -> None:
    write_status(home, state="stopped", pid=None, global_step=5)
    found = read_status(home)
    assert (found["state"], found["pid"], found["global_step"]) == ("stopped", None, 5)


@pytest.mark.parametrize("state", ["training", "idle", "paused", "consolidating", "validating"])
@pytest.mark.real
def test_t2_without_a_living_process_any_other_state_is_a_crash(home: Path, state: str) -> None:
    write_status(home, state=state, pid=424242)
    found = read_status(home)
    assert (found["state"], found["pid"]) == ("crashed", None)
    assert found["reason"] == f"pid 424242 is gone; it was {state}"
    assert "crashed (pid gone)" in page(found, home)


def test_a_living_daemon_is_believed_and_unknown_fields_pass_through(home: Path, daemon: Start) -> None:
    daemon({}, state="training", night={"due": "03:00"}, invented_later=[1])
    found = read_status(home)
    assert (found["state"], found["pid"]) == ("training", os.getpid())
    assert found["invented_later"] == [1]


@pytest.mark.parametrize("left", [{"state": "training", "pid": 424242}, {"state": "stopped", "pid": None}])
def test_a_daemon_that_has_not_written_yet_is_not_taken_for_its_forerunner(
    home: Path, daemon: Start, left: dict[str, Any]
) -> None:
    daemon({}, **left, batch={"name": "old.jsonl"})
    found = read_status(home)
    assert (found["state"], found["reason"], found["pid"], found["batch"]) == ("idle", "starting", os.getpid(), None)


def test_a_daemon_that_said_its_last_word_and_still_holds_the_home_is_stopping(home: Path, daemon: Start) -> None:
    daemon({}, state="stopped")
    found = read_status(home)
    assert (found["state"], found["reason"], found["pid"]) == ("idle", "stopping", os.getpid())


@pytest.mark.parametrize("damage", ["", "{", "[]", "\x00\x00"])
def test_a_damaged_status_file_is_said_to_be_damaged(home: Path, damage: str) -> None:
    (home / "status" / "training_status.json").write_text(damage)
    found = read_status(home)
    assert found["state"] == "crashed"
    assert "cannot be read" in found["reason"]


def test_without_a_daemon_the_queue_is_what_lies_in_the_inbox(home: Path) -> None:
    write_status(home, state="stopped", pid=None, queue=["long-gone.jsonl"])
    for name in ("b.jsonl", ".hidden.jsonl", "notes.txt", ".c.jsonl.part", "a.jsonl"):
        (home / "inbox" / name).touch()
        time.sleep(0.01)
    assert read_status(home)["queue"] == ["b.jsonl", "a.jsonl"]


def test_json_prints_one_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(home, state="stopped", pid=None, heartbeat=time.time() - 5)
    assert status(home, as_json=True, watch=False) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "stopped"
    assert 4 < found["heartbeat_age_s"] < 60


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as caught:
        status(tmp_path, as_json=True, watch=False)
    assert (caught.value.code, caught.value.exit_code) == ("NF-CONF-002", 78)


def test_the_page_says_what_a_person_wants_to_know(home: Path, daemon: Start) -> None:
    daemon(
        {},
        state="training",
        reason="chats.jsonl",
        uptime_s=3 * 86400 + 4 * 3600,
        base_model="model",
        base="20261122T030000",
        adapter_id="a0003",
        adapter_step=118,
        generation=42,
        global_step=12480,
        queue=["a.jsonl", "b.jsonl", "c.jsonl", "d.jsonl"],
        batch={
            "name": "chats.jsonl", "step": 118, "steps": 240, "loss": 1.3121, "tokens_per_second": 1234.5, "eta_s": 361
        },
        disk={"free_bytes": 61_000_000_000, "needed_bytes": 9_000_000_000, "ok": False},
        last_error={"code": "NF-DATA-001", "message": "not JSON", "hint": "mend line 3"},
        counts={"trained": 1200, "rejected": 1, "failed": 0},
        last_consolidation={"night": "20261122T030000"},
        heartbeat="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    found = read_status(home)
    found["heartbeat_age_s"] = 90.0
    assert page(found, home).splitlines() == [
        f"● training  pid {os.getpid()}  up 3d 4h",
        "  now      chats.jsonl  step 118/240  49%  loss 1.312  1,234 tokens/s  ~6 min left",
        "  queue    4 files: a.jsonl, b.jsonl, c.jsonl …",
        "  files    1,200 trained, 1 rejected, 0 failed",
        "  model    model with night 20261122T030000  adapter a0003 (step 118)  generation 42  12,480 steps in all",
        "  night    last: night 20261122T030000",
        "  disk     61.0 GB free, needs 9.0 GB for what comes next  ! not enough",
        f"  ! no sign of life for 1 min: a step may hang; see nightfold ps {home}",
        "  ! NF-DATA-001 not JSON",
        "    mend line 3",
        "    more: nightfold explain NF-DATA-001",
    ]


def test_a_plug_in_that_was_switched_off_has_a_line_of_its_own(home: Path, daemon: Start) -> None:
    assert read_status(home)["disabled"] == []
    off = [{"name": "plugins.bell", "why": "it held everybody up 3 times", "since": "2026-01-01T08:00:00+00:00"}]
    daemon({}, state="training", disabled=off)
    found = read_status(home)
    assert found["disabled"] == off
    line = "  ! plugins.bell is switched off since 2026-01-01T08:00:00+00:00: it held everybody up 3 times"
    assert line in page(found, home).splitlines()


@pytest.mark.real
def test_f7_an_odd_name_cannot_speak_to_the_terminal(home: Path) -> None:
    (home / "inbox" / "a\n\x1b[2Jb\udcff.jsonl").touch()
    words = page(read_status(home), home)
    assert r"a\n\x1b[2Jb\udcff.jsonl" in words
    assert "\x1b" not in words
