"""The real disk, with a deed before each thing it does: to refuse it, or to die in the middle of it.

``python -m tests.real.disturbed_disk PROTOCOL HOME FOLDER`` lives once for each operation of a protocol: it copies HOME
to ``FOLDER/N`` and is really killed at the N-th operation there, until one life comes to its end. It prints how many
were killed. It imports nothing that starts threads, so that it may fork.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from actors.checkpointer.store import Store
from actors.inbox_watcher.filing import claim, file_away, recover_claims
from messages import LearningState, Receipt
from runtime import durable
from runtime.disk import Disk, DiskPort

Deed = Callable[[int, str, str], None]
"""Told the number of the operation, what it is and on which path (``""`` for what is done to an open file)."""

FILES = ("adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "rng.safetensors")
LINES = b'{"text": "one"}\n{"text": "two"}\n' * 500


class DisturbedDisk(Disk):
    """``Disk``; a write meets the deed when half of it is done."""

    def __init__(self, home: Path, deed: Deed) -> None:
        super().__init__(home)
        self.operations = 0
        self._deed = deed

    def _meets(self, operation: str, path: str = "") -> None:
        self.operations += 1
        self._deed(self.operations, operation, path)

    def create(self, path: str) -> int:
        self._meets("create", path)
        return super().create(path)

    def open_append(self, path: str) -> int:
        self._meets("open_append", path)
        return super().open_append(path)

    def write(self, handle: int, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        super().write(handle, view[: len(view) // 2])
        self._meets("write")
        super().write(handle, view[len(view) // 2 :])

    def fsync(self, handle: int) -> None:
        self._meets("fsync")
        super().fsync(handle)

    def rename(self, old: str, new: str) -> None:
        self._meets("rename", new)
        super().rename(old, new)

    def symlink(self, target: str, path: str) -> None:
        self._meets("symlink", path)
        super().symlink(target, path)

    def unlink(self, path: str) -> None:
        self._meets("unlink", path)
        super().unlink(path)

    def mkdir(self, path: str) -> None:
        self._meets("mkdir", path)
        super().mkdir(path)

    def rmdir(self, path: str) -> None:
        self._meets("rmdir", path)
        super().rmdir(path)

    def fsync_dir(self, path: str) -> None:
        self._meets("fsync_dir", path)
        super().fsync_dir(path)


def dies_at(number: int) -> Deed:
    """``kill -9`` of this very process at its so-manieth operation."""

    def deed(count: int, _operation: str, _path: str) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return deed


def refused_at(number: int, error: int) -> Deed:
    """The so-manieth operation fails with this ``errno``; all others work."""

    def deed(count: int, operation: str, path: str) -> None:
        if count == number:
            raise OSError(error, os.strerror(error), path or operation)

    return deed


def store_on(disk: DiskPort, *, keep_generations: int = 2, keep_snapshots: int = 3, keep_nights: int = 2) -> Store:
    return Store(disk, keep_generations=keep_generations, keep_snapshots=keep_snapshots, keep_nights=keep_nights)


def commit_one(disk: DiskPort) -> None:
    """What a running daemon does at each checkpoint: one generation more, one that is old less."""
    store = store_on(disk)
    store.open()
    number = 1 + (store.head.generation if store.head else 0)
    store.commit(generation_files(number), state_of(number), "interval", "2026-11-23T12:00:00")
    store.prune()


def claim_one(disk: DiskPort) -> None:
    """A file leaves the inbox."""
    recover_claims(disk)
    claim(disk, "a.jsonl")


def file_one(disk: DiskPort) -> None:
    """A claimed file gets its receipt and its last place."""
    for claimed in recover_claims(disk):
        file_away(disk, claimed, "trained", receipt_of(claimed.batch))


PROTOCOLS: Mapping[str, Callable[[DiskPort], None]] = {"commit": commit_one, "claim": claim_one, "file": file_one}


def home_for(protocol: str, folder: Path) -> Path:
    """A home in which the protocol is the next thing to happen."""
    for name in ("inbox", "trained", "state/batches"):
        (folder / name).mkdir(parents=True)
    disk = Disk(folder)
    if protocol == "commit":
        commit_one(disk)
        commit_one(disk)
    else:
        (folder / "inbox/a.jsonl").write_bytes(LINES)
    if protocol == "file":
        claim_one(disk)
    return folder


def generation_files(number: int) -> dict[str, bytes]:
    return {name: f"{name} {number} ".encode() * 1000 for name in FILES}


def state_of(number: int) -> LearningState:
    return LearningState(global_step=10 * number, adapter_step=10 * number, base_fingerprint="f")


def receipt_of(batch: str) -> Receipt:
    digest = durable.digest_of_bytes(LINES)
    return Receipt(batch, "a.jsonl", digest, 1000, 1, 1, 1, 1, "a0001", 1, 0, 0, None, None, 1.0)


def main() -> None:
    protocol, home, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    number = 0
    while True:
        number += 1
        mine = shutil.copytree(home, folder / str(number), symlinks=True)
        pid = os.fork()
        if pid == 0:
            PROTOCOLS[protocol](DisturbedDisk(mine, dies_at(number)))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        ended = os.waitstatus_to_exitcode(status)
        if ended == 0:
            print(json.dumps(number - 1))
            return
        assert ended == -signal.SIGKILL, f"at operation {number} it ended with {ended}"


if __name__ == "__main__":
    main()
