"""The whole house on simulated time, in which one actor fails over the same kind of message again and again."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from messages import InboxChanged
from runtime import ActorSystem, GaveUp
from runtime.hot.envelope import Envelope
from runtime.settings import compose
from runtime.simulation import SimClock, SimDevice, SimDisk, SimWorkers, simulate
from runtime.simulation.loop import SimLoop
from tests.tools.simulated_home import CONFIG, GOOD
from tools.house import SECTIONS, house, silent_parts
from tools.simulated_house.engine import PRISTINE, HashChainEngine
from tools.simulated_house.merger import SimMerger

OFTEN = CONFIG.replace("[checkpointer]", "[checkpointer]\nretry_deletes_every_seconds = 1.0")
"""So that it has something in hand more often than its restarts are forgiven."""

# Who fails, over what, and what that came from.
FAILING = (
    ("inbox_watcher", "InboxChanged", "outside to inbox_watcher"),
    ("validator", "BatchClaimed", "BatchClaimed from inbox_watcher to validator"),
    ("trainer", "BatchAccepted", "BatchAccepted from validator to trainer"),
    ("checkpointer", "Tick", "Tick from checkpointer to checkpointer"),
    ("checkpointer", "CommitGeneration", "CommitGeneration from trainer to checkpointer"),
    ("disk_guard", "SpaceNeeded", "SpaceNeeded from checkpointer to disk_guard"),
    ("status_reporter", "InboxSurveyed", "InboxSurveyed from inbox_watcher to status_reporter"),
    ("consolidator", "InboxSurveyed", "InboxSurveyed from inbox_watcher to consolidator"),
)


class KeepsFailingError(Exception):
    """What the one actor raises, whenever that message comes."""


@pytest.mark.parametrize(("actor", "message", "cause"), FAILING, ids=[f"{name}-{over}" for name, over, _ in FAILING])
@pytest.mark.timeout(60)
def test_a2_an_actor_that_keeps_failing_ends_the_daemon_naming_actor_message_and_cause(
    actor: str, message: str, cause: str
) -> None:
    failing = actor
    disk = SimDisk()
    for name in ("model", "inbox", "state", "status"):
        disk.person_mkdir(name)
    disk.person_put(PRISTINE, b"pristine")
    disk.person_put("nightfold.toml", CONFIG.encode())

    def probe(actor: str, envelope: Envelope, moment: Literal["before", "after"]) -> None:
        if (actor, type(envelope.message).__name__, moment) == (failing, message, "before"):
            raise KeepsFailingError

    async def live(loop: SimLoop) -> GaveUp:
        workers, chance = SimWorkers(loop), loop.random("engine")
        parts = silent_parts(
            lambda: HashChainEngine(disk, chance, lambda: False),
            lambda: SimMerger(disk, workers, chance, lambda: False),
        )
        system = ActorSystem(
            house(compose(OFTEN, SECTIONS, file="simulation"), parts),
            clock=SimClock(loop),
            disk=disk,
            workers=workers,
            make_device=lambda name: SimDevice(loop, name=name),
            probe=probe,
        )
        people = asyncio.create_task(drop_files(system, disk))
        try:
            with pytest.raises(GaveUp) as gave_up:
                await system.run()
        finally:
            people.cancel()
        assert loop.time() < 600
        return gave_up.value

    report = simulate(live, seed=3, horizon=2 * 86_400.0).report
    assert report.startswith(f"{failing} kept failing over {message}")
    assert "KeepsFailingError" in report
    assert cause in report


async def drop_files(system: ActorSystem, disk: SimDisk) -> None:
    for number in range(200):
        await asyncio.sleep(5.0)
        disk.person_put(f"inbox/{number}.jsonl", GOOD)
        await system.send(InboxChanged())
