"""A home that has really been lived in: the whole house ran in it on virtual time, with an engine of hash chains.

Two files were trained, one was rejected, one night was committed, one more file was trained on top, and the daemon was
stopped in order. It is made once for each test process and then copied, so a test may break its own.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

from messages import ConsolidateNow, InboxChanged
from runtime import ActorSystem
from runtime.settings import compose
from runtime.simulation import SimClock, SimDevice, SimDisk, SimWorkers, simulate
from runtime.simulation.delivery import SeededDelivery
from runtime.simulation.loop import SimLoop
from tools.house import SECTIONS, house, silent_parts
from tools.simulated_house.engine import PRISTINE, HashChainEngine
from tools.simulated_house.merger import SimMerger

CONFIG = """\
[trainer]
model = "model"
slice_steps = 1
checkpoint_every_steps = 3
[inbox_watcher]
scan_every_seconds = 5.0
[checkpointer]
keep_generations = 4
reserve_bytes = 8192
[consolidator]
look_every_seconds = 30.0
[disk_guard]
free_bytes_min = 4096
[status_reporter]
trace_on_disk = true
"""
GOOD = "".join(f'{{"prompt": "what is {n}?", "completion": "it is {n}"}}\n' for n in range(20)).encode()
MORE = "".join(f'{{"prompt": "and {n}?", "completion": "also {n}"}}\n' for n in range(8)).encode()


def lived_in_home(folder: Path) -> Path:
    """Make ``folder`` such a home."""
    for path, content in sorted(_tree().items()):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            target.mkdir(exist_ok=True)
        elif isinstance(content, str):
            target.symlink_to(content)
        else:
            target.write_bytes(content)
    (folder / "status" / "trace").mkdir(exist_ok=True)
    return folder


@cache
def _tree() -> dict[str, bytes | str | None]:
    disk = SimDisk()
    for name in ("model", "inbox", "state", "status"):
        disk.person_mkdir(name)
    disk.person_put(PRISTINE, b"pristine")
    disk.person_put("model/config.json", b"{}\n")
    disk.person_put("model/model.safetensors", b"\x02\0\0\0\0\0\0\0{}")
    disk.person_put("nightfold.toml", CONFIG.encode())
    simulate(lambda loop: _live(loop, disk), seed=7, horizon=4 * 86_400.0)
    return disk.tree()


async def _live(loop: SimLoop, disk: SimDisk) -> None:
    workers = SimWorkers(loop)
    chance = loop.random("engine")
    parts = silent_parts(
        lambda: HashChainEngine(disk, chance, lambda: False), lambda: SimMerger(disk, workers, chance, lambda: False)
    )
    system = ActorSystem(
        house(compose(CONFIG, SECTIONS, file="simulation"), parts),
        clock=SimClock(loop),
        disk=disk,
        workers=workers,
        make_device=lambda name: SimDevice(loop, name=name),
        delivery=SeededDelivery(loop),
    )
    person = asyncio.get_running_loop().create_task(_person(system, disk))
    await system.run()
    await person


async def _person(system: ActorSystem, disk: SimDisk) -> None:
    await asyncio.sleep(5.0)
    disk.person_put("inbox/chats.jsonl", GOOD)
    await system.send(InboxChanged())
    await asyncio.sleep(1.0)
    disk.person_put("inbox/more.jsonl", MORE)
    disk.person_put("inbox/broken.jsonl", b"{nothing\n")
    await _all_filed(disk, 3)
    await system.send(ConsolidateNow())
    while not disk.stat("state/deltas") or not disk.listdir("state/deltas"):
        await asyncio.sleep(10.0)
    await asyncio.sleep(120.0)
    disk.person_put("inbox/last.jsonl", MORE + GOOD)
    await _all_filed(disk, 4)
    await asyncio.sleep(60.0)
    system.stop("the test is over")


async def _all_filed(disk: SimDisk, count: int) -> None:
    papers = 0
    while papers < count:
        await asyncio.sleep(5.0)
        places = [name for name in ("trained", "rejected", "failed") if disk.stat(name)]
        papers = sum(name.endswith(".json") for place in places for name in disk.listdir(place))
