"""The same seed gives the same run, byte for byte, in another process and under another hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Fifty tasks cancelled together are what a positional shuffle does not survive: anyio keeps them in sets ordered by
# address. The ballast moves addresses about, so that two processes do not agree by luck.
PROGRAM = """
import asyncio, os, sys
import anyio
from runtime.simulation import SimDevice, SimDisk, SimLoop, SimWorkers, PowerLost

ballast = [object() for _ in range(int.from_bytes(os.urandom(2), "little"))]
if ballast:
    del ballast[::2]

async def cancelled_together(loop):
    order = []

    async def works(number):
        try:
            await anyio.sleep_forever()
        finally:
            order.append(number)
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.25)
            order.append(-number)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(works, number)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    loop.note(repr(order))

async def busy(loop):
    disk = SimDisk(loop.wall_ns)
    workers, device = SimWorkers(loop), SimDevice(loop)

    async def writes(number):
        for turn in range(5):
            await workers.call(lambda: disk.mkdir(f"{number}-{turn}"))
            await asyncio.to_thread(disk.listdir, ".")

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(writes, number)
        for turn in range(5):
            device.start(device.interrupted, lambda result: loop.note(str(result)))
            await device.join()
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
    loop.note(repr(list(disk.log)))

for program in (cancelled_together, busy):
    prints = []
    for seed in (1, 2, 3, 4):
        loop = SimLoop(seed)
        loop.run(program(loop))
        prints.append(loop.fingerprint())
    print(program.__name__, *prints)
"""


def fingerprints(hash_seed: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {name: prints for name, *prints in map(str.split, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def runs() -> list[dict[str, list[str]]]:
    return [fingerprints(hash_seed) for hash_seed in ("0", "0", "0", "1", "1", "random", "random")]


@pytest.mark.parametrize("program", ["cancelled_together", "busy"])
def test_the_same_seed_is_the_same_run_in_every_process(program: str, runs: list[dict[str, list[str]]]) -> None:
    assert len({tuple(run[program]) for run in runs}) == 1


@pytest.mark.parametrize("program", ["cancelled_together", "busy"])
def test_different_seeds_are_different_runs(program: str, runs: list[dict[str, list[str]]]) -> None:
    assert len(set(runs[0][program])) == 4
