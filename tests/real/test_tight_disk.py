"""Too little room, on the real file system with the real engine: held, told, and gone on with by itself.

The house lives in this process, so that a test can say how much room there is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from actors.consolidator.merger import Merger, MergeRefused, MergeRequest
from actors.consolidator.process_merger import CHILD, ProcessMerger
from actors.disk_guard.forecast import FOLDER_BYTES
from actors.status_reporter.actor import SilentConsole
from actors.trainer.engine import Engine
from actors.trainer.settings import TrainerSettings
from messages import ConsolidateNow, InboxChanged
from runtime import ActorSystem
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers
from tests.real.conftest import STEPS, lessons
from tests.real.daemons import Home, lesson
from tools.house import Parts, house, read_config

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")]

RESERVE = 1 << 20
KEPT = 5


class TightDisk(Disk):
    """The real disk with as much room as ``free`` says: a write of more than that is refused."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.free: int | None = None

    def free_bytes(self) -> int:
        return super().free_bytes() if self.free is None else self.free

    def write(self, handle: int, data: bytes | memoryview) -> None:
        if self.free is not None and len(data) > self.free:
            super().write(handle, memoryview(data)[: self.free])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(handle, data)


class House:
    """The whole house on a tight disk."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.disk = TightDisk(home.path)
        self.system: ActorSystem
        self.life: asyncio.Task[None]

    async def live(self) -> None:
        config = read_config(self.home.path)

        def engine() -> Engine:
            from actors.trainer.torch_engine import TorchEngine

            return TorchEngine(self.disk, config.take("trainer", TrainerSettings))

        def merger() -> Merger:
            return ProcessMerger(self.disk, self.home.path / "model", 60)

        self.system = ActorSystem(
            house(config, Parts(engine=engine, merger=merger, console=SilentConsole())),
            clock=SystemClock(),
            disk=self.disk,
            workers=ThreadWorkers(),
            make_device=DeviceThread,
        )
        await self.system.run()

    async def until(self, what: str, holds: Callable[[], object], within_s: float = 40.0) -> None:
        give_up_at = time.monotonic() + within_s
        while not holds():
            if self.life.done():
                self.life.result()
            assert time.monotonic() < give_up_at, f"not within {within_s} s: {what}\n{self.page()}"
            await asyncio.sleep(0.02)

    def page(self) -> dict[str, object]:
        return (
            dict(self.home.json("status/training_status.json")) if self.home.has("status/training_status.json") else {}
        )

    def crashed(self) -> list[str]:
        return [name for name, cell in self.system.cells.items() if cell.incarnation != 1]


@pytest_asyncio.fixture
async def tight(home: Home) -> AsyncIterator[House]:
    home.configure(
        trainer={"look_again_seconds": 1.0, "slice_steps": 1},
        disk_guard={"free_bytes_min": RESERVE, "measure_every_seconds": 1.0},
        consolidator={"nightly": False},
    )
    made = House(home)
    made.life = asyncio.create_task(made.live())
    await made.until("ready", lambda: home.events("TrainerReady") and made.page().get("state") == "idle")
    yield made
    made.system.stop("the test is over")
    async with asyncio.timeout(30):
        await made.life
    assert made.crashed() == []


async def test_d1_a_file_whose_checkpoints_would_not_fit_waits_and_begins_by_itself(tight: House) -> None:
    home = tight.home
    tight.disk.free = RESERVE + 1000
    home.drop("a.jsonl", lesson(1, 6))
    await tight.system.send(InboxChanged())
    await tight.until("it waits", lambda: home.events("TrainingWaits"))
    [waits] = home.events("TrainingWaits")
    generation = sum(file.stat().st_size for file in (home.path / home.head()["generation_path"]).iterdir())
    needed = KEPT * (generation + FOLDER_BYTES)
    assert waits["missing_bytes"] == needed + RESERVE // 4 - 1000, "of those that will be kept, and the upper mark"
    await tight.until(
        "the status says so", lambda: f"{waits['missing_bytes']} bytes missing" in str(tight.page()["reason"])
    )
    await asyncio.sleep(1.0)
    assert home.events("BatchStarted") == []
    assert len(home.events("TrainingWaits")) == 1, "told once"
    tight.disk.free = None
    await tight.until("trained", lambda: home.has("trained/a.jsonl.receipt.json"))


@pytest.mark.timeout(240)
async def test_d3_a_disk_that_fills_while_it_trains_holds_it_at_the_last_commit_and_it_goes_on(
    tight: House, straight: dict[str, bytes]
) -> None:
    home = tight.home
    lessons(home)
    await tight.system.send(InboxChanged())
    await tight.until("some steps are committed", lambda: home.steps_committed() >= 6)
    tight.disk.free = 40_000  # room for a page of status, and for no weights
    await tight.until("it is held", lambda: home.events("TrainingWaits"))
    assert home.events("CommitFailed")[0]["code"] == "NF-DISK-001"
    await tight.until("the alarm is raised", lambda: home.events("DiskRunningLow"))
    held = home.head()
    written = str(tight.page()["heartbeat"])
    await asyncio.sleep(1.5)
    assert home.head() == held
    await tight.until("the status is still written", lambda: str(tight.page()["heartbeat"]) > written, within_s=15)
    assert "NF-DISK-001" in str(tight.page())
    tight.disk.free = None
    await tight.until("all is trained", lambda: home.has("trained/second.jsonl.receipt.json"))
    assert home.steps_committed() == STEPS
    assert home.learnt() == straight, "no step was lost or taken twice"
    assert [path.name for path in (home.path / "state").rglob(".*")] == []


async def test_n5_a_night_that_would_not_fit_is_refused_and_training_goes_on(tight: House) -> None:
    home = tight.home
    home.drop("a.jsonl", lesson(1, 6))
    await tight.system.send(InboxChanged())
    await tight.until("trained", lambda: home.has("trained/a.jsonl.receipt.json") and home.events("TrainingIdle")[1:])
    yesterday = home.head()
    tight.disk.free = 20 << 20
    await tight.system.send(ConsolidateNow())
    await tight.until("refused", lambda: home.events("NightRefused"))
    [refused] = home.events("NightRefused")
    assert refused["code"] == "NF-DISK-001"
    assert "bytes more must be free" in refused["why"]
    assert home.head() == yesterday
    assert list((home.path / "consolidated_models").glob("*")) == []
    home.drop("b.jsonl", lesson(2, 4))
    await tight.system.send(InboxChanged())
    await tight.until("training goes on", lambda: home.has("trained/b.jsonl.receipt.json"))


MOUNTS_A_SMALL_DISK = 'mount -t tmpfs -o size={size} tmpfs "$0" && exec "$@"'


def may_mount() -> bool:
    try:
        tried = subprocess.run(
            ["unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        )
    except OSError:
        return False
    return tried.returncode == 0


async def test_n5_a_disk_that_is_full_in_the_middle_of_the_merge_is_a_refusal_in_words(
    tmp_path: Path, tiny_model: Path
) -> None:
    if not may_mount():
        pytest.skip("no small file system can be mounted here (unshare -Urm)")
    models = tmp_path / "consolidated_models"
    models.mkdir()
    small = ("unshare", "-Urm", "sh", "-c", MOUNTS_A_SMALL_DISK.format(size="300k"), str(models), *CHILD)
    merger = ProcessMerger(Disk(tmp_path), tiny_model, 60, command=small)
    refused = await merger.merge(MergeRequest(deltas=(), out="consolidated_models/.night.part", last_base=""))
    assert isinstance(refused, MergeRefused), refused
    assert (refused.code, "No space left" in refused.why) == ("NF-MERGE-003", True)


def test_d3_d5_on_a_disk_that_somebody_fills_to_the_last_byte_head_and_status_are_written_in_the_room_of_the_reserve(
    tmp_path: Path,
) -> None:
    if not may_mount():
        pytest.skip("no small file system can be mounted here (unshare -Urm)")
    script = MOUNTS_A_SMALL_DISK.format(size="4m")
    played = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, str(tmp_path), sys.executable, "-m", "tests.real.small_disk", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (played.returncode, played.stderr) == (0, ""), played.stdout
    assert "HEAD is replaced on the full disk" in played.stdout
    assert played.stdout.endswith("it goes on\n")
