"""Keeps the merged models sound: reads them through by and by, and makes a damaged one anew from base and ledger.

Guarantees:
    * A model that was made anew takes the place of the damaged one only once it is whole, durable, read back, and has
      the digest that was committed: the bytes that the adapters above it were trained on, or none.
    * Whoever waits for a model gets an answer: it is sound, something else is in force, or the daemon ends in words.
    * What may pass by itself (space, memory, time) is tried again and gives nothing up.
Knows nothing of when nights are due; a night and a healing never run at once, for one actor does both.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from actors.consolidator.merger import MergeDone, Merger, MergeRefused, MergeRequest
from actors.consolidator.model_manifest import verify_model
from messages import (
    DamageFound,
    HealAgain,
    HealModel,
    LeaveModels,
    MergedModel,
    ModelGivenUp,
    ModelHealed,
    ModelNotHealed,
    ModelsLeft,
    ModelsWanted,
    SpaceGranted,
    SpaceNeeded,
    StateWanted,
)
from runtime import Actor, OperatorError, durable, every, on
from runtime.disk import DiskPort
from runtime.errors import EXIT_CONFIG
from runtime.manifest import FolderDamaged, reading

ASK_SECONDS = 120.0
AGAIN_SECONDS, AGAIN_SECONDS_MAX = 60.0, 3600.0
"""The pause after the first try that failed for a passing reason, doubling, and the longest."""
NOT_THE_SAME = "NF-MERGE-050"
NOTHING_ELSE = "NF-MERGE-051"
PASSES = ("NF-MERGE-001", "NF-MERGE-002", "NF-MERGE-003", "NF-MERGE-004", "NF-MERGE-005", "NF-DISK-001", "NF-DISK-003")
"""Refusals that say nothing about base and deltas. All others would come again."""


class CareSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of ``[consolidator]`` that keeps models sound.

    Attributes:
        scrub_every_seconds: how often a piece of the merged models is read and compared with what was committed.
        scrub_bytes_per_second: how large the pieces are: on average no more than this is read. 0 turns it off.
        scrub_round_every_seconds: from the beginning of one whole round to the beginning of the next.
    """

    scrub_every_seconds: Annotated[float, Meta(ge=0.05, le=3600)] = 5.0
    scrub_bytes_per_second: Annotated[int, Meta(ge=0)] = 16_000_000
    scrub_round_every_seconds: Annotated[float, Meta(ge=1)] = 86_400.0


class Scrub:
    """One round through all models that have a digest; ``read`` goes on where the piece before ended.

    What it has come to is in what ``read`` returns, for a job's result can be replayed, and what it did cannot.
    """

    def __init__(self, disk: DiskPort, models: tuple[MergedModel, ...]) -> None:
        self._disk = disk
        self._waiting = deque(model for model in models if model.digest)
        self._reader: Iterator[int] | None = None

    def read(self, size: int) -> tuple[str, bool]:
        """About ``size`` bytes more; returns a model that was found damaged, or ``""``, and whether all were read."""
        while size > 0 and self._waiting:
            model = self._waiting[0]
            self._reader = self._reader or reading(self._disk, model.path, model.digest)
            try:
                size -= next(self._reader)
            except (StopIteration, FolderDamaged) as end:
                self._waiting.popleft()
                self._reader = None
                if isinstance(end, FolderDamaged):
                    return model.path, not self._waiting
        return "", not self._waiting


def damage_of(disk: DiskPort, model: MergedModel) -> str:
    """What is wrong with a model, after a replacement that was interrupted is gone on with; ``""``: it is sound."""
    durable.finish_replacing(disk, model.path)
    try:
        verify_model(disk, model.path, model.digest)
    except FolderDamaged as damage:
        return str(damage)
    return ""


def put_in_place(disk: DiskPort, staged: str, model: MergedModel) -> None:
    """A model that was merged anew takes its place, once it reads back as what was committed.

    Raises:
        OSError: the disk refused, or gave back something else; the old one is there, or the new one is.
    """
    try:
        verify_model(disk, staged, model.digest)
    except FolderDamaged as damage:
        raise OSError(errno.EIO, f"read back differently from what was written: {damage}", staged) from damage
    durable.replace_directory(disk, staged, model.path)


def _of_the_disk(error: OSError) -> MergeRefused:
    return MergeRefused("NF-DISK-001" if error.errno == errno.ENOSPC else "NF-DISK-003", str(error))


class ModelCare(Actor):
    """See the module. The half of the Consolidator that is there for the models that are made already."""

    settings: CareSettings
    _merger: Merger

    def begin_care(self) -> None:
        """Called as the actor starts."""
        self._scrub: Scrub | None = None
        self._scrub_began: float | None = None
        self._lost: set[str] = set()  # models that cannot be made again
        self._tries: dict[str, int] = {}

    @every("scrub_every_seconds")
    async def scrub(self) -> None:
        """Read a piece more of the models that kept generations stand on."""
        size = int(self.settings.scrub_bytes_per_second * self.settings.scrub_every_seconds)
        if size == 0:
            return
        if self._scrub is None:
            now = self.clock.monotonic()
            if self._scrub_began is not None:
                rest = self._scrub_began + self.settings.scrub_round_every_seconds - now
                if rest > 0:
                    self.snooze("scrub", rest)
                    return
            self._scrub_began = now
            self._scrub = Scrub(self.disk, (await self.ask(ModelsWanted(), timeout=ASK_SECONDS)).models)
        scrub = self._scrub
        path, done = await self.blocking(lambda: scrub.read(size))
        if done:
            self._scrub = None
        if path:
            await self._heal(path, waited=False)

    @on
    async def heal(self, wish: HealModel) -> None:
        """The Trainer was to load it and did not."""
        await self._heal(wish.path, waited=True)

    @on
    async def heal_again(self, again: HealAgain) -> None:
        """The pause is over."""
        await self._heal(again.path, waited=again.waited)

    async def _heal(self, path: str, *, waited: bool) -> None:
        """See to it that the model is sound. ``waited``: nothing is loaded until it is, or until it is given up."""
        began = self.clock.monotonic()
        needed = await self.ask(ModelsWanted(), timeout=ASK_SECONDS)
        model = next((one for one in needed.models if one.path == path), None)
        # What nothing stands on any more need not be sound; whoever waits for it loads what is in force now.
        try:
            why = await self.blocking(lambda: damage_of(self.disk, model)) if model is not None else ""
        except OSError as error:
            await self._put_off(path, _of_the_disk(error), waited=waited)
            return
        if model is None or not why:
            self._tries.pop(path, None)
            await self.send(ModelHealed(path=path, anew=False, seconds=0.0))
            return
        if path not in self._tries:
            instead = "it is merged anew from the pristine base and its deltas"
            await self.send(DamageFound(what=path, why=why, instead=instead))
        refused = await self._made_sound(model)
        if refused is None:
            self._tries.pop(path, None)
            self._lost.discard(path)
            seconds = round(self.clock.monotonic() - began, 2)
            await self.send(ModelHealed(path=path, anew=True, seconds=seconds))
        elif refused.code in PASSES or not waited:
            await self._put_off(path, refused, waited=waited)
        else:
            await self._give_up(path, refused)

    async def _made_sound(self, model: MergedModel) -> MergeRefused | None:
        """Merge it anew, and again where a delta was damaged meanwhile and healed; or say why not."""
        # It is made of the deltas: one that is damaged, too, is first healed from a copy, and lies elsewhere then.
        made_of, base_fingerprint = await self._with_sound_deltas(model)
        while True:
            refused = await self._merge_anew(made_of, base_fingerprint)
            if refused is None or refused.code in PASSES:
                return refused
            merged_of = made_of.deltas
            made_of, base_fingerprint = await self._with_sound_deltas(made_of)
            if made_of.deltas == merged_of:
                return refused

    async def _with_sound_deltas(self, model: MergedModel) -> tuple[MergedModel, str]:
        """The model and the base's fingerprint, after its deltas were verified and healed as far as can be."""
        await self.ask(StateWanted(ledger=True, only_look=True), timeout=ASK_SECONDS)
        needed = await self.ask(ModelsWanted(), timeout=ASK_SECONDS)
        return next((one for one in needed.models if one.path == model.path), model), needed.base_fingerprint

    async def _merge_anew(self, model: MergedModel, base_fingerprint: str) -> MergeRefused | None:
        """Make it again and put it in its place; or say why not, and leave what is there as it is."""
        space = await self.ask(SpaceNeeded(purpose="night"), timeout=ASK_SECONDS)
        if not isinstance(space, SpaceGranted):
            return MergeRefused("NF-DISK-001", f"{space.missing_bytes} bytes more must be free to merge it anew")
        staged = durable.hidden(model.path, "part")
        request = MergeRequest(
            deltas=tuple(delta.path for delta in model.deltas),
            out=staged,
            last_base="",
            nights=tuple(delta.night for delta in model.deltas),
            base_fingerprint=base_fingerprint,
            # Where the digest is known it says more than any proof: these are the bytes that were proven then.
            proof="none" if model.digest else "tensors",
        )
        try:
            await self.blocking(lambda: self._make_way(staged))
            outcome = await self._merger.merge(request)
            if isinstance(outcome, MergeDone) and model.digest and outcome.digest != model.digest:
                await self.blocking(lambda: durable.remove(self.disk, staged))
                words = "merged anew it is not what was committed: the base or a delta is damaged, or was exchanged"
                return MergeRefused(NOT_THE_SAME, f"{words}; or other libraries round otherwise")
            if isinstance(outcome, MergeDone):
                await self.blocking(lambda: put_in_place(self.disk, staged, model))
        except OSError as error:
            return _of_the_disk(error)
        return outcome if isinstance(outcome, MergeRefused) else None

    def _make_way(self, staged: str) -> None:
        durable.ensure_directory(self.disk, durable.parent_of(staged))
        durable.remove(self.disk, staged)

    async def _put_off(self, path: str, refused: MergeRefused, *, waited: bool) -> None:
        """Try again later. What nobody waits for is in the engine's memory, or in nobody's: the next round will do."""
        tries = self._tries[path] = self._tries.get(path, 0) + 1
        again = self.settings.scrub_round_every_seconds
        if waited or refused.code in PASSES:
            again = min(AGAIN_SECONDS * 2.0 ** (tries - 1), AGAIN_SECONDS_MAX)
            self.post_later(again, HealAgain(path=path, waited=waited))
        await self.send(ModelNotHealed(path=path, code=refused.code, why=refused.why, again_in_s=again))

    async def _give_up(self, path: str, refused: MergeRefused) -> None:
        """What HEAD names stands on a model that cannot be had: the newest sound generation on another one instead."""
        self._lost.add(path)
        self._tries.pop(path, None)
        left = await self.ask(LeaveModels(paths=tuple(sorted(self._lost))), timeout=ASK_SECONDS)
        if not isinstance(left, ModelsLeft):
            raise OperatorError(
                NOTHING_ELSE,
                f"{path} is damaged and cannot be made again ({refused.why} [{refused.code}]), and {left.why}",
                hint="nothing was deleted; restore the model, the base or state/deltas/ from a backup, and start again",
                exit_code=EXIT_CONFIG,
            )
        await self.send(ModelGivenUp(path=path, code=refused.code, why=refused.why, instead=left.path))
