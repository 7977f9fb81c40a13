"""Ten thousand files at once, a file of 200 MB, a line of 100 MB: in bounded memory, in order, progress to be seen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.inbox_watcher.actor import InboxWatcher, InboxWatcherSettings
from actors.status_reporter.actor import SilentConsole, StatusReporter, StatusReporterSettings
from actors.validator.actor import Validator
from actors.validator.settings import ValidatorSettings
from messages import BatchAccepted, BatchTrained, InboxSurveyed, Receipt
from runtime import Actor, ActorSystem, Branch, Child, MailboxSpec, on
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers
from tests.real.daemons import PROJECT, chat, environment

pytestmark = pytest.mark.real

MANY = 10_000
LARGE_BYTES = 200 << 20
LINE_BYTES = 100 << 20


class Learner(Actor):
    """Says of each file at once that it is trained, and notes in which order they came."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.examples = 0
        self.waiting: list[int] = []

    @on
    async def given(self, batch: BatchAccepted) -> None:
        self.names.append(batch.name)
        self.examples += batch.examples
        receipt = Receipt(
            batch.batch, batch.name, batch.digest, batch.examples, 1, 1, 1, 1, "a0001", 1, 0, 0, None, None, 0.1
        )
        await self.send(BatchTrained(batch=batch.batch, name=batch.name, receipt=receipt))

    @on
    async def looked(self, survey: InboxSurveyed) -> None:
        self.waiting.append(survey.waiting_count)


class Gate:
    """A house of those that handle files; ``learner`` is at its end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.learner = Learner()
        self.life: asyncio.Task[None]

    def page(self) -> dict[str, Any]:
        file = self.home / "status/training_status.json"
        return dict(json.loads(file.read_bytes())) if file.exists() else {}

    def begin(self) -> ActorSystem:
        tree = Branch(
            "files",
            (
                Child(
                    "status_reporter",
                    StatusReporter,
                    make=lambda: StatusReporter(SilentConsole()),
                    settings=StatusReporterSettings(write_every_seconds=0.1),
                    mailbox=MailboxSpec(4096, "dead_letter", (InboxSurveyed,)),
                ),
                Child("learner", Learner, make=lambda: self.learner),
                Child("validator", Validator, settings=ValidatorSettings()),
                Child(
                    "inbox_watcher",
                    InboxWatcher,
                    settings=InboxWatcherSettings(scan_every_seconds=0.5, quiet_seconds=0.1),
                ),
            ),
        )
        system = ActorSystem(
            tree,
            clock=SystemClock(),
            disk=Disk(self.home),
            workers=ThreadWorkers(),
            make_device=DeviceThread,
            strict=False,
        )
        self.life = asyncio.create_task(system.run())
        return system

    async def until(self, what: str, holds: Callable[[], object], within_s: float = 60.0) -> None:
        give_up_at = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < give_up_at, f"not within {within_s} s: {what}"
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "nightfold.toml").touch()
    made = Gate(tmp_path)
    yield made
    async with asyncio.timeout(30):
        await made.life


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_f5_ten_thousand_files_are_taken_in_the_order_of_their_arrival(gate: Gate) -> None:
    numbers = list(range(MANY))
    random.Random(5).shuffle(numbers)
    names = [f"{number:05d}.jsonl" for number in numbers]
    for name in names:
        (gate.home / "inbox" / name).write_text('{"text": "one"}\n')
    before = resident_bytes()
    system = gate.begin()
    await gate.until("some are trained", lambda: len(gate.learner.names) >= 5)
    page = gate.page()
    system.stop("seen enough")
    await gate.life
    learnt = gate.learner.names
    assert learnt == names[: len(learnt)], "whoever came first"
    seen = gate.learner.waiting[gate.learner.waiting.index(max(gate.learner.waiting)) :]
    assert seen[0] >= MANY - 5, "once they lie still they are all counted"
    assert seen == sorted(seen, reverse=True), "and their number can be seen to go down"
    assert seen[-1] < seen[0]
    assert 0 < len(page["queue"]) <= 110, "the status names some of them"
    assert resident_bytes() - before < 64 << 20
    assert len(list((gate.home / "inbox").iterdir())) >= MANY - len(learnt) - 5, "the folder is the queue"


async def test_f5_a_file_of_200_mb_is_read_in_bounded_memory_and_seen_to_be_read(gate: Gate) -> None:
    block = "".join(json.dumps(chat(f"Who keeps light {n}?", "Old Marget. " * 40)) + "\n" for n in range(2000)).encode()
    file = gate.home / "inbox" / ".large.part"
    with file.open("wb") as writer:
        for _ in range(LARGE_BYTES // len(block) + 1):
            writer.write(block)
    size = file.stat().st_size
    file.rename(gate.home / "inbox" / "large.jsonl")
    system = gate.begin()
    states: set[str] = set()
    before = most = resident_bytes()

    def is_accepted() -> bool:
        nonlocal most
        most = max(most, resident_bytes())
        states.add(str(gate.page().get("state", "")))
        return bool(gate.learner.names)

    await gate.until("read", is_accepted)
    filed = gate.home / "trained/large.jsonl"
    await gate.until("filed", filed.exists)
    system.stop("it is read")
    assert filed.stat().st_size == size >= LARGE_BYTES
    filed.unlink()  # temporary folders are kept for a look, and nobody looks at this
    assert gate.learner.examples == 2000 * (LARGE_BYTES // len(block) + 1)
    assert "validating" in states
    assert most - before < 100 << 20, f"{(most - before) >> 20} MiB more for {size >> 20} MiB"


MEASURED = """
import resource, sys
from pathlib import Path
from tools.commands.check import check
check([Path(sys.argv[1])], None, False, sys.stderr)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = check([Path(sys.argv[2])], None, False, sys.stdout)
print(code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_f1_f2_f3_what_cannot_be_read_is_named_by_its_line_and_a_line_of_100_mb_is_not_held(tmp_path: Path) -> None:
    good = b'{"text": "fine"}\n'
    (tmp_path / "good.jsonl").write_bytes(good)
    lines = (
        b"\xef\xbb\xbf" + good,
        b'{"text": "' + b"x" * LINE_BYTES + b'"}\n',
        b"not JSON\n",
        b'{"text": "\xff\xfe"}\n',
        b'{"text": "nul \x00"}\n',
        b'{"text":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n",
        b'{"text": "a line of Windows"}\r\n',
        b'{"messages": [{"role": "assistant", "content": "x", "weight": 0}]}\n',
        b'{"prompt": "no completion"}\n',
        b'{"text": 5}\n',
        b"\n",
        good,
    )
    file = tmp_path / "bad.jsonl"
    file.write_bytes(b"".join(lines))
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path / "good.jsonl", file],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    file.unlink()
    *told, last = ran.stdout.splitlines()
    code, grown = map(int, last.split())
    assert code == 65
    told = [line.removeprefix(f"{file}:") for line in told if line.startswith(f"{file}:") and "$" in line]
    named = [int(line.split(":")[0]) for line in told]
    assert named == [2, 3, 4, 5, 6, 8, 9, 10]
    said = dict(zip(named, told, strict=True))
    for number, word in ((2, "bytes"), (6, "nested"), (8, "weight 0"), (9, "$.completion"), (10, "$.text")):
        assert word in said[number], said[number]
    assert grown < 48 << 20, f"{grown >> 20} MiB more for a line of {LINE_BYTES >> 20} MiB"
