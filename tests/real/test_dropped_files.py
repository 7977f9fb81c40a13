"""What people do to an inbox, on the real file system: the actors that own it, and a Trainer that trains at once."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.inbox_watcher.actor import InboxWatcher, InboxWatcherSettings
from actors.validator.actor import Validator
from actors.validator.settings import ValidatorSettings
from messages import BatchAccepted, BatchTrained, FileWithdrawn, InboxSurveyed, Receipt
from runtime import Actor, ActorSystem, Branch, Child, on
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers
from tests.real.daemons import lesson

pytestmark = pytest.mark.real

GOOD = "".join(json.dumps(line) + "\n" for line in lesson(1, 3))
QUIET_S = 0.1


class QuickTrainer(Actor):
    """Says of each batch, as soon as it may, that it is trained; notes what it was given and what was withdrawn."""

    def __init__(self) -> None:
        self.accepted: list[BatchAccepted] = []
        self.withdrawn: list[str] = []
        self.survey: InboxSurveyed | None = None
        self.trains = asyncio.Event()
        self.trains.set()

    @on
    async def given(self, batch: BatchAccepted) -> None:
        self.accepted.append(batch)
        await self.trains.wait()
        receipt = Receipt(
            batch=batch.batch,
            name=batch.name,
            digest=batch.digest,
            examples=batch.examples,
            epochs=1,
            steps=1,
            first_global_step=1,
            last_global_step=1,
            adapter_id="a0001",
            tokens_trained=1,
            tokens_masked=0,
            tokens_cut=0,
            loss_before=1.0,
            loss_after=0.5,
            seconds=0.1,
            checkpoints=1,
            steps_skipped=0,
            resumed=0,
            when="2026-11-23T12:00:00",
            line_errors=batch.line_errors,
            line_error_count=batch.line_error_count,
        )
        await self.send(BatchTrained(batch=batch.batch, name=batch.name, receipt=receipt))

    @on
    async def gone(self, news: FileWithdrawn) -> None:
        self.withdrawn.append(news.name)

    @on
    async def looked(self, survey: InboxSurveyed) -> None:
        self.survey = survey


class Inbox:
    """The inbox of a running house."""

    def __init__(self, home: Path, trainer: QuickTrainer) -> None:
        self.home = home
        self.path = home / "inbox"
        self.trainer = trainer

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.home / folder).iterdir())

    def paper(self, path: str) -> Any:
        return json.loads((self.home / path).read_bytes())

    async def until(self, what: str, holds: Callable[[], object], within_s: float = 20.0) -> None:
        give_up_at = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < give_up_at, f"not within {within_s} s: {what}"
            await asyncio.sleep(0.01)

    async def a_while(self) -> None:
        """Long enough for several scans to take whatever they would take."""
        await asyncio.sleep(4 * QUIET_S + 0.3)


@pytest.fixture
def validator_settings() -> ValidatorSettings:
    return ValidatorSettings()


@pytest_asyncio.fixture
async def inbox(tmp_path: Path, validator_settings: ValidatorSettings) -> AsyncIterator[Inbox]:
    trainer = QuickTrainer()
    watching = InboxWatcherSettings(scan_every_seconds=0.1, quiet_seconds=QUIET_S, settle_seconds=0.5)
    tree = Branch(
        "files",
        (
            Child("trainer", QuickTrainer, make=lambda: trainer),
            Child("validator", Validator, settings=validator_settings),
            Child("inbox_watcher", InboxWatcher, settings=watching),
        ),
    )
    (tmp_path / "nightfold.toml").touch()
    system = ActorSystem(
        tree,
        clock=SystemClock(),
        disk=Disk(tmp_path),
        workers=ThreadWorkers(),
        make_device=DeviceThread,
        strict=False,
    )
    run = asyncio.create_task(system.run())
    inbox = Inbox(tmp_path, trainer)
    await inbox.until("it runs", lambda: trainer.survey is not None)
    yield inbox
    trainer.trains.set()
    system.stop("the test is over")
    async with asyncio.timeout(10):
        await run
    assert not system.dead_letters
    assert all(cell.incarnation == 1 for cell in system.cells.values()), "an actor crashed over what was dropped"


async def test_f4_a_file_that_is_held_open_and_written_in_pieces_is_not_taken_before_it_is_closed(inbox: Inbox) -> None:
    file = inbox.path / "slow.jsonl"
    with file.open("w") as writer:
        for line in GOOD.splitlines(keepends=True):
            writer.write(line)
            writer.flush()
            await inbox.a_while()
            assert file.exists(), "it was taken from under its writer"
        assert inbox.trainer.survey is not None
        assert inbox.trainer.survey.unready == ("slow.jsonl",)
    await inbox.until("taken once it is closed", lambda: inbox.trainer.accepted)
    assert inbox.trainer.accepted[0].examples == 3


async def test_f4_cp_under_way_is_waited_for(inbox: Inbox, tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text(GOOD * 2000)
    # Through a pipe: it stands still for longer than a file needs to be quiet, in the middle of a line.
    content = source.read_bytes()
    with subprocess.Popen(["cp", "/dev/stdin", inbox.path / "copied.jsonl"], stdin=subprocess.PIPE) as copy:
        assert copy.stdin is not None
        copy.stdin.write(content[: len(content) // 2])
        copy.stdin.flush()
        await inbox.a_while()
        assert inbox.trainer.accepted == []
        copy.stdin.write(content[len(content) // 2 :])
    assert copy.returncode == 0
    await inbox.until("trained", lambda: "copied.jsonl" in inbox.names("trained"))
    assert (inbox.home / "trained/copied.jsonl").read_bytes() == content
    assert inbox.trainer.accepted[0].examples == 6000


async def test_f4_unfinished_and_hidden_names_are_left_alone_until_renamed(inbox: Inbox) -> None:
    for name in ("a.jsonl.part", ".b.jsonl", "c.jsonl.tmp", "notes.txt"):
        (inbox.path / name).write_text(GOOD)
    await inbox.a_while()
    assert inbox.trainer.accepted == []
    assert inbox.names("inbox") == [".b.jsonl", "a.jsonl.part", "c.jsonl.tmp", "notes.txt"]
    (inbox.path / "a.jsonl.part").rename(inbox.path / "a.jsonl")
    await inbox.until("trained", lambda: "a.jsonl" in inbox.names("trained"))


async def test_f6_the_same_name_dropped_again_is_kept_beside_the_first(inbox: Inbox) -> None:
    for number, other in ((1, GOOD), (2, GOOD + '{"text": "another"}\n'), (3, GOOD)):
        (inbox.path / "chats.jsonl").write_text(other)
        await inbox.until(
            f"drop {number}",
            lambda: len(inbox.names("trained")) == 2 * number,  # noqa: B023 - used at once
        )
    names = ("chats.jsonl", "chats.2.jsonl", "chats.3.jsonl")
    assert inbox.names("trained") == sorted([*names, *(f"{name}.receipt.json" for name in names)])
    assert (inbox.home / "trained/chats.jsonl").read_text() == GOOD
    assert (inbox.home / "trained/chats.2.jsonl").read_text() == GOOD + '{"text": "another"}\n'
    assert len({inbox.paper(f"trained/{name}.receipt.json")["batch"] for name in names}) == 3
    third = inbox.trainer.accepted[2]
    assert any("same content" in warning for warning in third.warnings), "the same content is noted"


async def test_f7_links_folders_and_specials_are_refused_with_a_report(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "outside.jsonl").write_text(GOOD)
    (inbox.path / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    (inbox.path / "dangling.jsonl").symlink_to("nowhere")
    os.mkfifo(inbox.path / "fifo.jsonl")
    (inbox.path / "folder.jsonl").mkdir()
    (inbox.path / "folder.jsonl" / "within.jsonl").write_text(GOOD)
    listening = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(inbox.path)  # a socket's path may have a hundred letters at most
    try:
        listening.bind("socket.jsonl")
    finally:
        os.chdir(here)
        listening.close()
    names = ("dangling", "fifo", "folder", "link", "socket")
    expected = sorted([f"{name}.jsonl{paper}" for name in names for paper in ("", ".report.json")])
    await inbox.until("all refused", lambda: inbox.names("rejected") == expected)
    for name in names:
        report = inbox.paper(f"rejected/{name}.jsonl.report.json")
        assert report["trouble"]["code"] == "NF-DATA-004"
    assert (tmp_path / "outside.jsonl").read_text() == GOOD
    assert (inbox.home / "rejected/folder.jsonl/within.jsonl").read_text() == GOOD
    assert inbox.trainer.accepted == []
    assert inbox.names("inbox") == []


ODD_NAMES = (
    "new\nline.jsonl",
    "моль 🦋.jsonl",
    "--help.jsonl",
    "-.jsonl",
    "dots..jsonl",
    "a b 'c' \"d\" $HOME.jsonl",
    "tab\tand \x1b[31mred.jsonl",
    "x" * 249 + ".jsonl",
    "ж" * 124 + ".jsonl",
    "UPPER.JSONL",
    os.fsdecode(b"not \xff\xfe utf-8.jsonl"),
    "percent%20.jsonl",
    "back\\slash.jsonl",
)


async def test_f7_odd_names_are_trained_like_any_other(inbox: Inbox) -> None:
    for name in ODD_NAMES:
        (inbox.path / name).write_text(GOOD)
    await inbox.until(
        "all trained", lambda: len(inbox.names("trained")) == 2 * len(ODD_NAMES) and not inbox.names("inbox")
    )
    assert inbox.names("rejected") == []
    # Whatever is no text in a name has become a question mark: from the claim on, names are words in messages.
    names = [name.encode(errors="replace").decode() for name in ODD_NAMES]
    for name in names:
        assert (inbox.home / "trained" / name).read_text() == GOOD
    receipts = [name for name in inbox.names("trained") if name.endswith(".receipt.json")]
    assert sorted(inbox.paper(f"trained/{name}")["name"] for name in receipts) == sorted(names)


async def test_f7_a_long_name_dropped_twice_is_kept_twice(inbox: Inbox) -> None:
    name = "ж" * 124 + ".jsonl"
    for number in (1, 2):
        (inbox.path / name).write_text(GOOD)
        await inbox.until("trained", lambda: len(inbox.names("trained")) == 2 * number)  # noqa: B023 - used at once
    assert all(len(os.fsencode(each)) <= 255 for each in inbox.names("trained"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_f7_a_file_that_may_not_be_read_is_rejected(inbox: Inbox) -> None:
    (inbox.path / "secret.jsonl").write_text(GOOD)
    (inbox.path / "secret.jsonl").chmod(0)
    await inbox.until("rejected", lambda: "secret.jsonl.report.json" in inbox.names("rejected"))
    assert inbox.paper("rejected/secret.jsonl.report.json")["trouble"]["code"] == "NF-DATA-006"


async def test_f9_a_file_taken_back_before_it_was_claimed_is_noted_and_nothing_else(inbox: Inbox) -> None:
    with (inbox.path / "regretted.jsonl").open("w") as writer:
        writer.write(GOOD)
        await inbox.until("seen", lambda: inbox.trainer.survey and inbox.trainer.survey.unready)
        (inbox.path / "regretted.jsonl").unlink()
        await inbox.until("noted", lambda: inbox.trainer.withdrawn == ["regretted.jsonl"])
    assert inbox.trainer.accepted == []
    assert inbox.names("trained") == inbox.names("rejected") == []


async def test_f9_the_inbox_is_a_queue_and_a_file_that_waits_in_it_may_be_taken_back(inbox: Inbox) -> None:
    inbox.trainer.trains.clear()
    for number in range(8):
        (inbox.path / f"{number}.jsonl").write_text(GOOD)
        await asyncio.sleep(0.01)
    await inbox.until("the first are claimed", lambda: inbox.names("inbox") == [f"{n}.jsonl" for n in (4, 5, 6, 7)])
    await inbox.a_while()
    assert len(inbox.names("inbox")) == 4, "and no more of them"
    (inbox.path / "5.jsonl").unlink()
    inbox.trainer.trains.set()
    await inbox.until("the rest trained", lambda: len(inbox.names("trained")) == 14)
    assert [batch.name for batch in inbox.trainer.accepted] == [f"{n}.jsonl" for n in (0, 1, 2, 3, 4, 6, 7)]


async def test_the_inbox_removed_while_it_runs_is_made_again(inbox: Inbox) -> None:
    shutil.rmtree(inbox.path)
    await inbox.until("made again", inbox.path.is_dir)
    (inbox.path / "after.jsonl").write_text(GOOD)
    await inbox.until("trained", lambda: "after.jsonl" in inbox.names("trained"))


async def test_f8_an_inbox_that_is_a_link_to_another_file_system_is_looked_into_without_events(
    inbox: Inbox, tmp_path: Path
) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev or not os.access(shared, os.W_OK):
        pytest.skip("/dev/shm is not another file system than the temporary folder")
    with tempfile.TemporaryDirectory(dir=shared) as far:
        inbox.path.rmdir()
        inbox.path.symlink_to(far)
        (inbox.path / "a.jsonl").write_text(GOOD)
        await inbox.until("trained", lambda: "a.jsonl" in inbox.names("trained"))
        assert (inbox.home / "trained/a.jsonl").read_text() == GOOD
        assert inbox.names("inbox") == []
        (inbox.path / "a.jsonl").write_text(GOOD)
        await inbox.until("again", lambda: "a.2.jsonl" in inbox.names("trained"))


BAD_LINES = GOOD + '{"prompt": 3}\n' + GOOD + "not JSON\n"


async def test_f10_a_file_with_bad_lines_is_rejected_as_a_whole(inbox: Inbox) -> None:
    (inbox.path / "mixed.jsonl").write_text(BAD_LINES)
    await inbox.until("rejected", lambda: "mixed.jsonl" in inbox.names("rejected"))
    report = inbox.paper("rejected/mixed.jsonl.report.json")
    assert ([error["line"] for error in report["errors"]], report["good_lines"]) == ([4, 8], 6)


@pytest.mark.parametrize("validator_settings", [ValidatorSettings(bad_lines="train_good_lines")])
async def test_f10_or_its_good_lines_are_trained_and_the_rest_told(inbox: Inbox) -> None:
    (inbox.path / "mixed.jsonl").write_text(BAD_LINES)
    (inbox.path / "hopeless.jsonl").write_text("not JSON\n")
    await inbox.until("trained", lambda: "mixed.jsonl" in inbox.names("trained"))
    receipt = inbox.paper("trained/mixed.jsonl.receipt.json")
    assert receipt["examples"] == 6
    assert [error["line"] for error in receipt["line_errors"]] == [4, 8]
    await inbox.until("rejected", lambda: "hopeless.jsonl.report.json" in inbox.names("rejected"))
