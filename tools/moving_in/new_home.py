"""Writes the new home: whole or not at all, in a staged folder beside it if it does not exist yet.

Guarantees: a home that does not exist appears under its name only when all of it is durable; one that exists has learnt
nothing until the one replacement of HEAD that puts the old adapter in force. The old home is only read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from blake3 import blake3

from actors.checkpointer.actor import CheckpointerSettings
from actors.checkpointer.head import DELTAS, GENERATIONS, HEAD_PATH, SNAPSHOTS, Kept, generation_path
from actors.checkpointer.store import Store
from actors.disk_guard.actor import DiskGuardSettings
from actors.trainer.base_model import base_folder, fingerprint
from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings
from messages import LearningState
from runtime import OperatorError, durable
from runtime.disk import Disk
from runtime.settings import Composed
from tools.commands.home import CONFIG
from tools.commands.init import FOLDERS
from tools.house import default_config, read_config
from tools.moving_in.notes import Notes
from tools.moving_in.which_base import Base

WHY = "moved in from an older trainer"
SCRATCH = ".moving_in.part"
"""A name that every start sweeps, should the import be killed."""
CHUNK_BYTES = 1 << 22
OVERHEAD_BYTES = 4 << 20
"""Manifests, configs, counters and folders."""


class Learnt(msgspec.Struct, frozen=True):
    """One generation to be written: its files, its counters, and the moment it is from."""

    files: Mapping[str, bytes]
    state: LearningState
    when: str

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.files.values()))


Snapshots = Mapping[str, Callable[[], Learnt]]
"""By day. Each is read only when it is written, for all of them together may be more than the memory holds."""


class Destination:
    """The folder the home is to be in, and what is there already."""

    def __init__(self, home: Path, old: Path, notes: Notes) -> None:
        self.home = home.resolve()
        self.exists = (home / CONFIG).exists()
        self.config: Composed = default_config()
        old = old.resolve()
        if self.home.is_relative_to(old) or old.is_relative_to(self.home):
            found, expected = f"it and {old} lie in one another", "a place apart, for the old home is not changed"
            notes.problem("NF-CONF-013", str(home), found, expected, "name another folder")
        elif self.exists:
            self._read_config(notes)
            self._refuse_what_has_learnt(notes)
        elif home.exists() and (not home.is_dir() or any(home.iterdir())):
            found = "it is no home, and not empty" if home.is_dir() else "it is no folder"
            expected = "a folder that does not exist or is empty, or a home that has learnt nothing"
            notes.problem("NF-CONF-013", str(home), found, expected, "name another folder")

    def _read_config(self, notes: Notes) -> None:
        try:
            self.config = read_config(self.home)
        except OperatorError as error:
            found = f"it is not right: {error.what}"
            notes.problem("NF-CONF-013", str(self.home / CONFIG), found, "a config without errors", "mend it first")

    def _refuse_what_has_learnt(self, notes: Notes) -> None:
        learnt = [HEAD_PATH] if (self.home / HEAD_PATH).exists() else []
        for folder in (GENERATIONS, DELTAS, SNAPSHOTS):
            if (self.home / folder).is_dir():
                names = (path.name for path in (self.home / folder).iterdir())
                learnt += [f"{folder}/{name}" for name in sorted(names) if not durable.is_leftover(name)]
        if learnt:
            notes.problem(
                "NF-CONF-013",
                str(self.home),
                f"it holds learning already ({learnt[0]})",
                "a folder that does not exist, or a home that has learnt nothing",
                "name another folder; two adapters cannot be made one",
            )

    def check_base(self, base: Base, notes: Notes) -> None:
        """The config of a home that exists is its owner's: it must name the base already."""
        if not self.exists:
            return
        named = self.config.take("trainer", TrainerSettings).model
        todo = f"set model to the folder {base.folder}, or import into a folder that does not exist yet"
        try:
            folder = base_folder(Disk(self.home), named)
            found = fingerprint(folder)
        except (EngineError, OSError) as error:
            notes.problem("NF-CONF-013", str(self.home / CONFIG), f"[trainer] model: {error}", str(base.folder), todo)
            return
        if found != base.fingerprint:
            words = f"[trainer] model = {named!r} is another model"
            notes.problem("NF-CONF-013", str(self.home / CONFIG), words, str(base.folder), todo)
        elif base.files and folder.resolve() == base.folder.resolve():
            notes.tell("base: it stays in the old home, where your nightfold.toml looks for it; do not delete it there")

    def check_space(self, base: Base, current: Learnt, snapshots: int, notes: Notes) -> None:
        """All that will be written, and the reserve without which nothing could be trained afterwards."""
        reserve = self.config.take("disk_guard", DiskGuardSettings).free_bytes_min
        # Every snapshot has the shapes of the current one; each in turn is written twice, aside and in its place.
        learning = current.size_bytes * (1 + snapshots + min(1, snapshots))
        needed = learning + (0 if self.exists else base.copied_bytes) + OVERHEAD_BYTES + reserve
        there = next(folder for folder in (self.home, *self.home.parents) if folder.is_dir())
        free = Disk(there).free_bytes()
        if free < needed:
            notes.problem(
                "NF-CONF-014",
                str(there),
                f"{free:,} bytes are free",
                f"{needed:,} bytes, of which {reserve:,} are the reserve that is never used up",
                f"make room for {needed - free:,} bytes more, or import to another disk",
            )

    def write(self, text: str, base: Base, current: Learnt, snapshots: Snapshots, notes: Notes) -> Kept:
        """Make the home. The caller holds the lock of one that exists.

        Raises:
            OSError: the disk refused; there is no home, or the one that exists has learnt nothing.
        """
        if self.exists:
            again = Notes()
            self._refuse_what_has_learnt(again)  # a daemon may have lived here until the lock was taken
            again.raise_problems()
            return self._fill_existing(current, snapshots, notes)
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with _staging(self.home) as staged:
            for folder in FOLDERS:
                (staged / folder).mkdir()
            disk = Disk(staged)
            fingerprint_now = base.fingerprint
            if base.files:
                fingerprint_now = _copy_model(base, disk)
            durable.write_file(disk, CONFIG, text.encode())
            read_config(staged)  # what is wrong with it is a mistake of this program, and must not be shown as a home
            kept = _commit(disk, _on(fingerprint_now, current))
            for day, read in sorted(snapshots.items()):
                _keep_snapshot(disk, day, _on(fingerprint_now, read()))
            disk.fsync_dir(".")
            staged.rename(self.home)
            Disk(self.home.parent).fsync_dir(".")
        return kept

    def _fill_existing(self, current: Learnt, snapshots: Snapshots, notes: Notes) -> Kept:
        """The commit first: from then on the home is whole, and a snapshot less does not change what it has learnt."""
        disk = Disk(self.home)
        try:
            kept = _commit(disk, current)
        except OSError:
            if not (self.home / HEAD_PATH).exists():
                with contextlib.suppress(OSError):  # so that the next try finds a home that has learnt nothing
                    durable.remove(disk, generation_path(1))
            raise
        for day, read in sorted(snapshots.items()):
            try:
                _keep_snapshot(disk, day, read())
            except OSError as error:
                notes.leave(f"{SNAPSHOTS}/{day}", f"the disk refused it: {error}", "it stays in the old home")
        return kept


def _on(fingerprint_of_base: str, learnt: Learnt) -> Learnt:
    state = msgspec.structs.replace(learnt.state, base_fingerprint=fingerprint_of_base)
    return msgspec.structs.replace(learnt, state=state)


def _commit(disk: Disk, learnt: Learnt) -> Kept:
    store = _store(disk)
    store.open()
    return store.commit(learnt.files, learnt.state, WHY, learnt.when)


def _keep_snapshot(disk: Disk, day: str, learnt: Learnt) -> None:
    """A snapshot is a copy of a generation: one is committed aside by the same Store, so that its manifest is right."""
    durable.remove(disk, SCRATCH)
    disk.mkdir(SCRATCH)
    made = _commit(Disk(disk.real_path(SCRATCH)), learnt)
    durable.write_directory(disk, f"{SNAPSHOTS}/{day}", durable.copy_files(disk, f"{SCRATCH}/{made.path}"))
    durable.remove(disk, SCRATCH)


def _store(disk: Disk) -> Store:
    keep = CheckpointerSettings()
    return Store(
        disk,
        keep_generations=keep.keep_generations,
        keep_snapshots=keep.keep_snapshots,
        keep_nights=keep.keep_nights,
    )


def _copy_model(base: Base, disk: Disk) -> str:
    """Into ``model/``; what was written is read back and compared. Returns the fingerprint of what is there now."""
    disk.mkdir("model")
    for file, source in sorted(base.files.items()):
        name = f"model/{file}"
        durable.ensure_directory(disk, durable.parent_of(name))
        digest = blake3()
        handle = disk.create(name)
        try:
            with source.open("rb") as opened:
                while piece := opened.read(CHUNK_BYTES):
                    digest.update(piece)
                    disk.write(handle, piece)
            disk.fsync(handle)
        finally:
            disk.close(handle)
        if durable.digest_of(disk, name) != f"blake3:{digest.hexdigest()}":
            raise OSError(5, "read back differently from what was written", name)
    for folder in sorted({durable.parent_of(f"model/{file}") for file in base.files}):
        disk.fsync_dir(folder)
    found = fingerprint(disk.real_path("model"))
    if found != base.fingerprint and not base.completed:
        raise OSError(5, "the model changed while it was copied", str(base.folder))
    return found


@contextlib.contextmanager
def _staging(home: Path) -> Iterator[Path]:
    """A place beside ``home`` to write in, locked; one that a killed import left is used again."""
    part = home.parent / f".{home.name}.importing"
    part.mkdir(exist_ok=True)
    handle = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                "NF-CONF-013", f"another import is writing {home}", hint="wait for it, or name another folder"
            ) from None
        staged = part / home.name
        if staged.exists():
            shutil.rmtree(staged)
        try:
            staged.mkdir()
            yield staged
        finally:
            shutil.rmtree(part)
    finally:
        os.close(handle)
