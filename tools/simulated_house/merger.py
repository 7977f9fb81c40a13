"""A merger for hash chains: it reads the deltas, writes the merged model through the disk port, and takes its time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import anyio
import msgspec

from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.consolidator.model_manifest import manifest_of
from runtime import durable
from runtime.disk import DiskPort
from runtime.manifest import MANIFEST, FileEntry, table_digest
from runtime.worker import Workers
from tools.simulated_house.engine import ADAPTER, PRISTINE, WEIGHTS, Weights, merged

MERGE_SECONDS_MAX = 900
CONFIG = "config.json"
NO_CONFIG = b"{}\n"


class SimMerger:
    """``Merger`` in virtual time. ``trouble`` may make a try fail."""

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
        if self._trouble():
            await self._workers.call(lambda: durable.remove(self._disk, request.out))
            return MergeRefused("NF-MERGE-001", "the merge did not end in time")
        try:
            size, digest = await self._workers.call(lambda: self._finish(request))
        except msgspec.MsgspecError as error:  # a delta is not what it was
            await self._workers.call(lambda: durable.remove(self._disk, request.out))
            return MergeRefused("NF-MERGE-022", str(error))
        return MergeDone(1, size, max_logit_difference=0.0, seconds=float(seconds), digest=digest)

    def _begin(self, out: str) -> None:
        self._disk.mkdir(out)
        durable.write_new(self._disk, f"{out}/{CONFIG}", NO_CONFIG)

    def _finish(self, request: MergeRequest) -> tuple[int, str]:
        deltas = [self._disk.read(f"{delta}/{ADAPTER}") for delta in request.deltas]
        chains = [msgspec.json.decode(delta, type=Weights).chain for delta in deltas]
        content = merged(self._disk.read(PRISTINE).decode(), chains).encode()
        durable.write_new(self._disk, f"{request.out}/{WEIGHTS}", content)
        files = {name: _entry(data) for name, data in ((CONFIG, NO_CONFIG), (WEIGHTS, content))}
        made_of = tuple({ADAPTER: _entry(delta)} for delta in deltas)
        manifest = manifest_of(request.nights, request.base_fingerprint, made_of, files)
        durable.write_new(self._disk, f"{request.out}/{MANIFEST}", manifest)
        self._disk.fsync_dir(request.out)
        return len(content), table_digest(files)


def _entry(data: bytes) -> FileEntry:
    return FileEntry(len(data), durable.digest_of_bytes(data))
