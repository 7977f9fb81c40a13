"""A merger for hash chains: it reads the deltas, writes the merged model through the disk port, and takes its time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import anyio
import msgspec

from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.consolidator.model_manifest import manifest_of
from messages.held_out import HELD_OUT, HeldOutLoss, read_held_out
from runtime import durable
from runtime.disk import DiskPort
from runtime.manifest import MANIFEST, FileEntry, table_digest
from runtime.worker import Workers
from tools.simulated_house.engine import ADAPTER, PRISTINE, WEIGHTS, Weights, link, merged

MERGE_SECONDS_MAX = 900
CONFIG = "config.json"
NO_CONFIG = b"{}\n"
WORSE = 1.5
"""The loss of a model in which the rounding lost something; that of base and adapter is 1."""


class SimMerger:
    """``Merger`` in virtual time. ``trouble`` may make a try fail, or its model a worse one than base and adapter."""

    def __init__(self, disk: DiskPort, workers: Workers, chance: random.Random, trouble: Callable[[], bool]) -> None:
        self._disk = disk
        self._workers = workers
        self._chance = chance
        self._trouble = trouble

    def forecast_bytes(self) -> int:
        return 4096

    async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
        await self._workers.call(lambda: self._begin(request.out))
        # The partial folder is there all the while: a crash in between must find and sweep it.
        seconds = self._chance.randint(1, MERGE_SECONDS_MAX)
        try:
            await anyio.sleep(seconds)
        except asyncio.CancelledError:
            # A merge that is called off takes its folder with it, as the real one does.
            durable.remove(self._disk, request.out)
            raise
        trouble = self._trouble()
        measured = await self._workers.call(lambda: self._held_out(request.deltas))
        # Which of the two troubles it is follows from what there is to measure on: no more chance is drawn for it.
        rounded = trouble and measured % 2 == 1
        if trouble and not rounded:
            await self._workers.call(lambda: durable.remove(self._disk, request.out))
            return MergeRefused("NF-MERGE-001", "the merge did not end in time")
        try:
            size, digest = await self._workers.call(lambda: self._finish(request, rounded=rounded))
        except msgspec.MsgspecError as error:  # a delta is not what it was
            await self._workers.call(lambda: durable.remove(self._disk, request.out))
            return MergeRefused("NF-MERGE-022", str(error))
        loss = HeldOutLoss(measured, measured, WORSE if rounded else 1.0, 1.0, 2.0) if measured else None
        return MergeDone(1, size, max_logit_difference=0.0, seconds=float(seconds), digest=digest, held_out=loss)

    def _held_out(self, deltas: tuple[str, ...]) -> int:
        """How many windows there are to measure on, in the generation whose adapter is the newest delta."""
        file = f"{deltas[-1]}/{HELD_OUT}" if deltas else ""
        if not file or self._disk.stat(file) is None:
            return 0
        kept = read_held_out(self._disk.read(file))
        return sum(len(one.windows) for one in kept.slices)

    def _begin(self, out: str) -> None:
        self._disk.mkdir(out)
        durable.write_new(self._disk, f"{out}/{CONFIG}", NO_CONFIG)

    def _finish(self, request: MergeRequest, *, rounded: bool) -> tuple[int, str]:
        deltas = [self._disk.read(f"{delta}/{ADAPTER}") for delta in request.deltas]
        chains = [msgspec.json.decode(delta, type=Weights).chain for delta in deltas]
        sums = merged(self._disk.read(PRISTINE).decode(), chains)
        content = (link(sums, "rounded away") if rounded else sums).encode()
        durable.write_new(self._disk, f"{request.out}/{WEIGHTS}", content)
        files = {name: _entry(data) for name, data in ((CONFIG, NO_CONFIG), (WEIGHTS, content))}
        made_of = tuple({ADAPTER: _entry(delta)} for delta in deltas)
        manifest = manifest_of(request.nights, request.base_fingerprint, made_of, files)
        durable.write_new(self._disk, f"{request.out}/{MANIFEST}", manifest)
        self._disk.fsync_dir(request.out)
        return len(content), table_digest(files)


def _entry(data: bytes) -> FileEntry:
    return FileEntry(len(data), durable.digest_of_bytes(data))
