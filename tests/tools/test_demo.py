"""The demo: it tells the whole story and ends well, and it cannot end well when something in it was not so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.checkpointer.head import Head, Kept
from messages import LineError, Receipt, Report, Trouble
from tools.cli import main
from tools.demo_checks import Found, faults, receipts_in
from tools.demo_files import BROKEN, KILLED, TAUGHT, demo_files

ROOT = Path(__file__).parents[2]
TRAINED = tuple(name for name in demo_files() if name != BROKEN)


def a_receipt(name: str) -> Receipt:
    return Receipt(
        batch="000001",
        name=name,
        digest="blake3:00",
        examples=8,
        epochs=1,
        steps=12,
        first_global_step=1,
        last_global_step=12,
        adapter_id="a0001",
        tokens_trained=100,
        tokens_masked=10,
        tokens_cut=0,
        loss_before=8.0,
        loss_after=0.5,
        seconds=1.0,
        resumed=int(name == KILLED),
    )


def a_good_demo() -> Found:
    fresh = Kept(14, "state/generations/000014", "blake3:00", "", "night n", 72, "a0002", 0, "m", ("n",), 1)
    return Found(
        receipts={name: a_receipt(name) for name in TRAINED},
        reports={BROKEN: Report("000002", BROKEN, Trouble("NF-DATA-001", "bad"), (LineError(2, "$", "a", "b"),), 1)},
        failed=(),
        head=Head(1, 15, 14, fresh.path, "m", "", "", ledger=("n",), kept=(fresh,)),
        crashed_state="crashed",
        resumed_at=18,
        before=dict.fromkeys(TAUGHT, "babble"),
        after={question: " and ".join(words) for question, words in TAUGHT.items()},
        exit_code=0,
    )


def faults_of(found: Found) -> list[str]:
    return faults(found, trained=TRAINED, rejected=(BROKEN,), killed=KILLED, taught=TAUGHT)


def with_receipt(found: Found, **changed: object) -> Found:
    receipts = {**found.receipts, KILLED: replace(found.receipts[KILLED], **changed)}
    return replace(found, receipts=receipts)


def test_a_demo_in_which_all_went_well_has_no_faults() -> None:
    assert faults_of(a_good_demo()) == []


@pytest.mark.parametrize("loss_after", [8.0, 9.0, float("nan"), None])
def test_a_loss_that_did_not_fall_is_a_fault(loss_after: float | None) -> None:
    [fault] = faults_of(with_receipt(a_good_demo(), loss_after=loss_after))
    assert fault.startswith(f"the loss of {KILLED} did not fall")


def test_a_killed_file_that_was_not_resumed_is_a_fault() -> None:
    [fault] = faults_of(with_receipt(a_good_demo(), resumed=0))
    assert "was resumed" in fault
    [fault] = faults_of(replace(a_good_demo(), resumed_at=0))
    assert "began anew" in fault


def test_steps_lost_or_taken_twice_are_a_fault() -> None:
    [fault] = faults_of(with_receipt(a_good_demo(), last_global_step=14))
    assert "lost or taken twice" in fault


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (replace(a_good_demo(), receipts={}), "trained should be"),
        (replace(a_good_demo(), reports={}), "rejected should be"),
        (replace(a_good_demo(), failed=("chat.jsonl",)), "nothing should have failed"),
        (replace(a_good_demo(), crashed_state="training"), "status said 'training'"),
        (replace(a_good_demo(), head=None), "no HEAD"),
        (replace(a_good_demo(), exit_code=70), "exit code 70"),
        (replace(a_good_demo(), after=dict.fromkeys(TAUGHT, "babble")), "lacks"),
        (replace(a_good_demo(), before=a_good_demo().after), "is what it was before"),
    ],
)
def test_whatever_else_went_wrong_is_a_fault(broken: Found, fault: str) -> None:
    assert any(fault in told for told in faults_of(broken))


def test_a_home_that_is_there_already_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (home / "nightfold.toml").read_text()
    assert main(["demo", "--keep", str(home)]) == 2
    assert "is a home already" in capsys.readouterr().err
    assert (home / "nightfold.toml").read_text() == config
    assert not list((home / "inbox").iterdir())


def test_a_demo_that_failed_keeps_its_home_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("tools.commands.demo._Story.tell", lambda _self: ["the loss of chat.jsonl did not fall"])
    assert main(["demo"]) == 1
    [folder] = tmp_path.iterdir()
    told = capsys.readouterr().out
    assert "the loss of chat.jsonl did not fall" in told
    assert f"Its home is kept: {folder / 'home'} " in told


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    home = tmp_path / "kept"
    told = subprocess.run(
        [sys.executable, "-m", "tools.cli", "demo", "--keep", str(home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stderr == "", "progress bars and warnings belong to nobody's story"
    for line in (
        "rejected   broken.jsonl: 4 of 5 lines are not fit to train",
        "line 3: $.messages[1].content: expected a non-empty string, or tool_calls, found 7",
        "crashed (pid gone)",
        "chat.jsonl: goes on at step ",
        "trained    chat.jsonl: loss ",
        "verified   39 tensors",
        "after   Old Marget keeps it, with her three-legged dog.",
        "nights kept",
        "stopped    .stop",
        "What you just saw, checked and true",
    ):
        assert line in told.stdout
    assert "\x1b" not in told.stdout
    assert receipts_in(home)[KILLED].resumed == 1


@pytest.mark.real
def test_a_demo_that_is_ended_leaves_neither_process_nor_home(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "tools.cli", "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    while "  up  " not in demo.stdout.readline():
        assert demo.poll() is None
    [lock] = tmp_path.glob("*/home/state/LOCK")
    daemon = int(json.loads(lock.read_bytes())["pid"])
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)
    assert not list(tmp_path.glob("nightfold-demo-*"))
