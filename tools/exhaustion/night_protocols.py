"""Scenarios of the Consolidator: a merged model made, adopted and committed, and what no commit reaches removed."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from actors.checkpointer.head import HEAD_PATH, Head, decode
from actors.checkpointer.store import Store
from actors.consolidator.actor import MODELS, Consolidator, ConsolidatorSettings
from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.consolidator.model_manifest import manifest_of
from messages import (
    HealModel,
    Message,
    ModelNotHealed,
    ModelsNeeded,
    ModelsWanted,
    NightRefused,
    Question,
    SpaceGranted,
    StateInForce,
)
from runtime import durable
from runtime.clock import Clock
from runtime.disk import DiskPort
from runtime.manifest import MANIFEST, FileEntry, FolderDamaged, table_digest, verify_folder
from runtime.simulation import SimDisk
from tools.exhaustion.durable_protocols import folder_of
from tools.exhaustion.scenario import Broken, Scenario, Shown
from tools.exhaustion.store_protocols import (
    MODEL,
    NIGHT,
    WEIGHTS,
    commit_night,
    committed,
    night_shown,
    only_what_is_reached,
    store,
)

T = TypeVar("T")
R = TypeVar("R")

EARLIER = f"{MODELS}/20261122T030000"
CONFIG = b"{}\n"
FILES = {
    name: FileEntry(len(data), durable.digest_of_bytes(data))
    for name, data in (("config.json", CONFIG), ("weights", WEIGHTS))
}
DIGEST = table_digest(FILES)
SAYS = manifest_of((), "base", (), FILES)


class _Merger:
    """Writes a model as any merger does: its files synced, a manifest of them, then their folder."""

    def __init__(self, disk: DiskPort) -> None:
        self._disk = disk

    async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
        """At once."""
        self._disk.mkdir(request.out)
        durable.write_new(self._disk, f"{request.out}/config.json", CONFIG)
        durable.write_new(self._disk, f"{request.out}/weights", WEIGHTS)
        durable.write_new(self._disk, f"{request.out}/{MANIFEST}", SAYS)
        self._disk.fsync_dir(request.out)
        return MergeDone(tensors=1, size_bytes=len(WEIGHTS), max_logit_difference=0.0, seconds=0.0, digest=DIGEST)

    def forecast_bytes(self) -> int:
        """Enough."""
        return 1


class _Noon:
    """A clock that stands still: nothing on disk may depend on it."""

    def monotonic(self) -> float:
        """No time passes."""
        return 0.0

    def now(self) -> datetime:
        """Always the same moment."""
        return datetime(2026, 11, 23, 12, tzinfo=UTC)


class _Alone(Consolidator):
    """A Consolidator without a house around it: it does its work on the disk, and tells nobody."""

    def __init__(self, disk: DiskPort) -> None:
        super().__init__(lambda: _Merger(disk))
        self.settings = ConsolidatorSettings()
        self._merger = _Merger(disk)
        self.settings = ConsolidatorSettings()
        self.begin_care()
        self._alone_on = disk
        self.said: list[Message] = []

    @property
    def disk(self) -> DiskPort:
        return self._alone_on

    @property
    def clock(self) -> Clock:
        return _Noon()

    async def blocking(self, job: Callable[[], Any]) -> Any:
        """Here and now."""
        return job()

    async def send(self, message: Message) -> None:
        """Nobody listens."""
        self.said.append(message)

    async def ask(self, question: Question[R], *, timeout: float) -> R:  # noqa: ARG002
        """The Checkpointer reads HEAD; there is room enough."""
        head = decode(self.disk.read(HEAD_PATH), Head, HEAD_PATH)
        answer: Any = SpaceGranted(free_bytes=1 << 40)
        if isinstance(question, ModelsWanted):
            answer = ModelsNeeded(models=head.models(), base_fingerprint=head.base_fingerprint)
        found: R = answer
        return found

    def post_later(self, seconds: float, message: Message) -> None:
        """The next try is the sweep's to make."""


class _Night:
    """One night of both actors that write, from the merge to the commit, and what each start-up does."""

    def __init__(self, disk: DiskPort) -> None:
        self.store: Store = store(disk)
        self.consolidator = _Alone(disk)
        self.tidy()

    def tidy(self) -> None:
        """As after each night and at each start."""
        self.consolidator._remove_unneeded(set(self.store.in_force().models_needed))

    def fold(self) -> None:
        """The merge is adopted under its name, and then committed. A night that came through is not repeated.

        Raises:
            OSError: yesterday is in force, or only the last sync of the commit failed.
        """
        try:
            force = self.store.in_force()
            if not force.ledger:
                self._adopt(force)
                commit_night(self.store, DIGEST)
        finally:
            with contextlib.suppress(OSError):  # tried again after the next night
                self.tidy()

    def _adopt(self, force: StateInForce) -> None:
        if at_once(self.consolidator._merge(NIGHT, force)) is None:
            refused = self.consolidator.said[-1]
            assert isinstance(refused, NightRefused), "a night without a model is refused"
            # The disk's word reaches a person as a code, and here the sweep, which injected the error.
            raise OSError(SAID[refused.code], refused.why)


class _Healing:
    """A start, and then the damaged model in force is made anew, as the Trainer asks for it."""

    def __init__(self, disk: DiskPort) -> None:
        self.consolidator = _Alone(disk)
        self.consolidator._remove_unneeded(set(store(disk).in_force().models_needed))

    def heal(self) -> None:
        """Until it is healed, or refused.

        Raises:
            OSError: the disk refused.
        """
        at_once(self.consolidator.heal(HealModel(path=MODEL, why="test")))
        refused = self.consolidator.said[-1]
        if isinstance(refused, ModelNotHealed):
            raise OSError(SAID[refused.code], refused.why)


def _damaged_model(disk: DiskPort) -> None:
    """The night's model is in force, and a bit of it has turned."""
    committed(3, 5)(disk)
    night = _Night(disk)
    night.fold()
    assert isinstance(disk, SimDisk), "only a simulated disk can be damaged"
    disk.corrupt(f"{MODEL}/weights", random.Random(1))  # noqa: S311 - chance, not secrets


def _healed(disk: SimDisk) -> Shown:
    """The damaged one is there until the new one is whole, durable and beside it."""
    if _is_sound(disk, MODEL):
        return "new"
    whole = durable.hidden(MODEL, "whole")
    if disk.stat(whole) is not None:
        if not _is_sound(disk, whole):
            raise Broken("what is called whole is not")
        return "old"
    if set(folder_of(disk, MODEL) or ()) != {"config.json", "weights", MANIFEST}:
        raise Broken("the damaged model went before the new one was whole")
    return "old"


def _is_sound(disk: DiskPort, path: str) -> bool:
    try:
        verify_folder(disk, path, DIGEST)
    except FolderDamaged:
        return False
    return True


SAID = {"NF-DISK-001": errno.ENOSPC, "NF-DISK-003": errno.EIO}


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        done: T = end.value
        return done
    raise AssertionError("it waits for something")


def _folded(disk: SimDisk) -> Shown:
    """Yesterday, or the night with its model whole. A model that is there under its name is whole, committed or not."""
    model = folder_of(disk, MODEL)
    if model not in (None, {"config.json": CONFIG, "weights": WEIGHTS, MANIFEST: SAYS}):
        raise Broken(f"{MODEL} holds {sorted(model or ())}")
    return night_shown(disk)


def _only_models_in_use(disk: SimDisk) -> None:
    only_what_is_reached(disk)
    models = [path for path in disk.tree() if path.startswith(f"{MODELS}/") and path.count("/") == 1]
    wanted = [MODEL] if night_shown(disk) == "new" else []
    if models != wanted:
        raise Broken(f"merged models after start-up: {', '.join(models) or 'none'}")


def _prepare_models(disk: DiskPort) -> None:
    """One model that is needed, one that is not, and what a killed merge left."""
    for path in (EARLIER, MODEL, durable.hidden(f"{MODELS}/20261124T030000", "part")):
        durable.ensure_directory(disk, path)
        durable.write_file(disk, f"{path}/config.json", CONFIG)
        durable.write_file(disk, f"{path}/weights", WEIGHTS)


def _tidied(disk: SimDisk) -> Shown:
    """Models are whole or gone, and the one that is needed is never gone."""
    whole = {"config.json": CONFIG, "weights": WEIGHTS}
    if folder_of(disk, MODEL) != whole:
        raise Broken("a model that HEAD needs was removed")
    earlier = folder_of(disk, EARLIER)
    if earlier not in (None, whole):
        raise Broken("a model is there in part")
    return "new"  # one that a power cut brings back is removed by the next start


def _one_model(disk: SimDisk) -> None:
    """After start-up only what is needed lies there."""
    if folder_of(disk, EARLIER) is not None:
        raise Broken("a model that nothing needs is left")


NIGHTS: tuple[Scenario, ...] = (
    Scenario(
        name="night: merged, adopted and committed",
        prepare=committed(3, 5),
        recover=_Night,
        act=lambda _, night: night.fold(),
        shown=_folded,
        tidy=_only_models_in_use,
    ),
    Scenario(
        name="night: what no commit reaches is removed",
        prepare=_prepare_models,
        recover=lambda disk: _Alone(disk)._remove_unneeded({MODEL}),
        act=lambda disk, _: _Alone(disk)._remove_unneeded({MODEL}),
        shown=_tidied,
        tidy=_one_model,
    ),
    Scenario(
        name="night: a damaged model in force is made anew",
        prepare=_damaged_model,
        recover=_Healing,
        act=lambda _, healing: healing.heal(),
        shown=_healed,
    ),
)
