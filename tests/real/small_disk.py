"""Those who write on a full disk, on a file system of a few megabytes: ``python -m tests.real.small_disk HOME``.

Run by ``test_tight_disk.py`` where HOME is a file system of its own. Prints what held, one line each; ends with 1 at
the first thing that does not.
"""

from __future__ import annotations

import asyncio
import errno
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.checkpointer.actor import Checkpointer, CheckpointerSettings
from actors.disk_guard.actor import DiskGuard, DiskGuardSettings
from actors.disk_guard.forecast import Keeps
from actors.status_reporter.actor import StatusReporter, StatusReporterSettings
from messages import CommitGeneration, LearningState
from runtime import ActorSystem, Branch, Child
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.worker import DeviceThread, ThreadWorkers

RESERVE = 1 << 20
MINIMUM = 256 << 10
WEIGHTS = 100_000
GIVE_UP_SECONDS = 30.0


def tree() -> Branch:
    """The three of them, with waits as short as the settings allow."""
    return Branch(
        "small_disk",
        (
            Child(
                "status_reporter",
                StatusReporter,
                settings=StatusReporterSettings(
                    write_every_seconds=0.1, heartbeat_every_seconds=1.0, trace_on_disk=False
                ),
            ),
            Child(
                "disk_guard",
                DiskGuard,
                make=lambda: DiskGuard(Keeps(2, 0), reserve_bytes=RESERVE),
                settings=DiskGuardSettings(free_bytes_min=MINIMUM, measure_every_seconds=1.0),
            ),
            Child(
                "checkpointer",
                Checkpointer,
                settings=CheckpointerSettings(keep_generations=2, keep_snapshots=1, reserve_bytes=RESERVE),
            ),
        ),
    )


class Play:
    """What is done to them, and looked for."""

    def __init__(self, home: Path, system: ActorSystem) -> None:
        self.home = home
        self.system = system
        self.step = 0

    def page(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "status/training_status.json").read_bytes())
        return found

    def told(self, kind: str) -> int:
        """How often an event of this type is in the log."""
        path = self.home / "status/events.jsonl"
        return sum(f'"type":"{kind}"' in line for line in path.read_text().splitlines()) if path.exists() else 0

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + GIVE_UP_SECONDS
        while not holds():
            if time.monotonic() > give_up_at:
                free = Disk(self.home).free_bytes()
                sys.exit(f"not within {GIVE_UP_SECONDS:g} s: {what}; {free} bytes free, {sorted(self.home.rglob('*'))}")
            await asyncio.sleep(0.05)
        print(what, flush=True)

    def in_force(self) -> int:
        head = self.home / "state/HEAD"
        return int(json.loads(head.read_bytes())["kept"][-1]["global_step"]) if head.exists() else 0

    async def commit(self) -> None:
        self.step += 1
        files = {"adapter_model.safetensors": bytes(WEIGHTS), "adapter_config.json": b"{}"}
        ticket = self.system.cloakroom.leave(files)
        state = LearningState(global_step=self.step, adapter_step=self.step)
        await self.system.send(CommitGeneration(ticket=ticket, state=state, why="test"))

    def fill(self) -> None:
        """Somebody else writes until nothing more goes in."""
        with (self.home / "somebody_elses").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    async def run(self) -> None:
        reserve = self.home / "state/RESERVE"
        await self.until("the reserve is made", lambda: reserve.exists() and reserve.stat().st_size == RESERVE)
        if reserve.stat().st_blocks * 512 < RESERVE:
            sys.exit("the reserve takes up less than its size")
        await self.commit()
        await self.until("a commit", lambda: self.in_force() == 1)
        self.fill()
        full = self.page()["heartbeat"]
        await self.commit()
        await self.until("HEAD is replaced on the full disk", lambda: self.in_force() == 2)
        await self.until("the reserve is released", lambda: not reserve.exists())
        await self.until("status is written on the full disk", lambda: self.page()["heartbeat"] > full)
        await self.until("status says that the disk is low", lambda: self.page()["disk"]["low"])
        await self.until("the alarm is told", lambda: self.told("DiskRunningLow") == 1)
        await asyncio.sleep(3)
        if reserve.exists() or self.told("DiskRecovered"):
            sys.exit("the release passed for room")
        (self.home / "somebody_elses").unlink()
        await self.until("the reserve is made again", lambda: reserve.exists() and self.told("ReserveMade") == 2)
        await self.until("the alarm is over", lambda: not self.page()["disk"]["low"])
        await self.commit()
        await self.until("it goes on", lambda: self.in_force() == 3)
        if self.told("CommitFailed") or self.told("ActorCrashed"):
            sys.exit("something failed meanwhile")


async def main(home: Path) -> None:
    """Live, play, stop."""
    system = ActorSystem(
        tree(),
        clock=SystemClock(),
        disk=Disk(home),
        workers=ThreadWorkers(),
        make_device=DeviceThread,
        strict=False,
    )
    living = asyncio.create_task(system.run())
    try:
        await Play(home, system).run()
    finally:
        system.stop("the play is over")
        await living


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
