"""The Checkpointer: the one writer of ``state/`` and ``snapshots/``. It commits what it is handed and says so.

A commit is one I/O job, so nothing can come between its steps. A disk that refuses is news (``CommitFailed``), not a
crash: the generation before is still in force and the snapshot waits in the cloakroom. Where it refuses for want of
space, the reserve is released and retention runs, and the commit is tried once more in their room. The reserve is
renewed when the DiskGuard grants it: at the start, when there is room again, and by the clock, but then not before a
commit needed none of it, or an hour has passed: it is never made and released in turn.
Between its messages it reads everything that is kept, piece by piece, and heals what is damaged.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from actors.checkpointer.healing import Damage, Healer
from actors.checkpointer.pinning import pin
from actors.checkpointer.reserve import Reserve
from actors.checkpointer.store import Opened, Store
from actors.checkpointer.verification import Damaged
from messages import (
    CommitFailed,
    CommitFinally,
    CommitGeneration,
    CommitNight,
    DamageFound,
    DamageHealed,
    DiskRecovered,
    DiskRunningLow,
    GenerationCommitted,
    GenerationDamaged,
    LeaveModels,
    LeftoversSwept,
    ModelsLeft,
    ModelsNeeded,
    ModelsWanted,
    NightCommitted,
    NightNotCommitted,
    NoOtherModel,
    PinRefused,
    PinSet,
    PinWanted,
    ReserveMade,
    ReserveReleased,
    RetentionApplied,
    ScrubFinished,
    SnapshotKept,
    SpaceGranted,
    SpaceNeeded,
    StateInForce,
    StateWanted,
)
from runtime import Actor, AskFailed, OperatorError, every, on
from runtime.disk import DiskPort
from runtime.errors import EXIT_DISK

Bytes = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
T = TypeVar("T")
ASK_SECONDS = 30.0
RENEWED_AFTER_SECONDS = 3600.0
"""A file system that calls itself free and refuses (a quota, a lack of inodes) is not asked for a reserve before."""


class CheckpointerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[checkpointer]``: how many of each kind are kept, and how many bytes of it; see ``retention``.

    Every ``scrub_every_seconds`` the scrub reads as much as ``scrub_bytes_per_second`` allows, until all was read;
    ``scrub_round_every_seconds`` after it began it begins anew. ``reserve_bytes`` are taken up in good times and given
    back on a full disk; 0: none.
    """

    keep_generations: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 5
    keep_snapshots: Count = 7
    keep_nights: Count = 2
    generations_bytes_max: Bytes | None = None
    snapshots_bytes_max: Bytes | None = None
    nights_bytes_max: Bytes | None = None
    set_aside_bytes_max: Bytes | None = None
    retry_deletes_every_seconds: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    scrub_every_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = 1.0
    scrub_bytes_per_second: Annotated[int, msgspec.Meta(ge=4096)] = 32_000_000
    scrub_round_every_seconds: Annotated[float, msgspec.Meta(ge=1)] = 86_400.0
    reserve_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 16 << 20


def store_as_configured(disk: DiskPort, settings: CheckpointerSettings) -> Store:
    """The store that the daemon has on this home, not yet opened."""
    return Store(
        disk,
        keep_generations=settings.keep_generations,
        keep_snapshots=settings.keep_snapshots,
        keep_nights=settings.keep_nights,
        generations_bytes_max=settings.generations_bytes_max,
        snapshots_bytes_max=settings.snapshots_bytes_max,
        nights_bytes_max=settings.nights_bytes_max,
        set_aside_bytes_max=settings.set_aside_bytes_max,
    )


class Checkpointer(Actor):
    """See the module."""

    settings: CheckpointerSettings
    sends = (GenerationCommitted, CommitFailed, NightCommitted)
    _store: Store

    async def on_start(self) -> None:
        self._store = store_as_configured(self.disk, self.settings)
        self._healer = Healer(self.disk, self._store, round_every_seconds=self.settings.scrub_round_every_seconds)
        self._scrub_at = self.clock.monotonic()
        self._reserve = Reserve(self.disk, self.settings.reserve_bytes)
        self._released_at: float | None = None
        await self._open()
        await self._renew_reserve()

    async def _open(self) -> None:
        self._newest: GenerationCommitted | None = None
        try:
            opened = await self._in_any_room(self._store.open)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.ENOENT, errno.ENOTDIR):
                raise OperatorError(
                    "NF-DISK-002",
                    f"the home cannot be written: {error}",
                    hint="see that its file system is mounted and writable, then start again; nothing was changed",
                    exit_code=EXIT_DISK,
                ) from error
            raise
        await self._tell_opened(opened)

    async def _tell_opened(self, opened: Opened) -> None:
        if opened.removed or opened.set_aside:
            await self.send(LeftoversSwept(removed=opened.removed, set_aside=opened.set_aside))
        for what, why, instead in opened.damage:
            await self.send(DamageFound(what=what, why=why, instead=instead))

    @on
    async def commit(self, request: CommitGeneration) -> None:
        """Commit in the background of training; the outcome goes to all."""
        await self.send(await self._commit(request.ticket, request))

    @on
    async def commit_finally(self, request: CommitFinally) -> GenerationCommitted | CommitFailed:
        """Commit for an actor that is stopping."""
        outcome = await self._commit(request.ticket, request)
        await self.send(outcome)
        return outcome

    async def _commit(
        self, ticket: str, request: CommitGeneration | CommitFinally
    ) -> GenerationCommitted | CommitFailed:
        files = self.cloakroom.look(ticket)
        if files is None and self._newest is not None and self._newest.ticket == ticket:
            return self._newest  # asked for again while the first request still waited: it is what it was
        if files is None:
            return CommitFailed(ticket=ticket, code="NF-STATE-005", why="its snapshot is gone", out_of_space=False)
        began = self.clock.monotonic()
        now = self.clock.now()
        try:
            kept = await self._in_any_room(
                lambda: self._store.commit(files, request.state, request.why, now.isoformat(timespec="seconds"))
            )
        except OSError as error:
            return CommitFailed(
                ticket=ticket,
                code="NF-DISK-001" if error.errno == errno.ENOSPC else "NF-DISK-003",
                why=str(error),
                out_of_space=error.errno == errno.ENOSPC,
            )
        self.cloakroom.hand_back(ticket)
        await self._after_commit(now.date().isoformat(), kept.generation)
        self._newest = GenerationCommitted(
            ticket=ticket,
            generation=kept.generation,
            path=kept.path,
            why=request.why,
            global_step=kept.global_step,
            adapter_id=kept.adapter_id,
            adapter_step=kept.adapter_step,
            size_bytes=kept.size_bytes,
            seconds=round(self.clock.monotonic() - began, 4),
        )
        return self._newest

    async def _after_commit(self, day: str, generation: int) -> None:
        """Snapshot of the day, and retention. Neither may fail the commit, which has already happened."""
        try:
            path = await self.blocking(lambda: self._store.snapshot(day))
        except OSError as error:
            await self.send(DamageFound(what=f"snapshots/{day}", why=str(error), instead="tried at the next commit"))
        else:
            if path:
                await self.send(SnapshotKept(path=path, generation=generation))
        await self._prune()

    async def _prune(self) -> bool:
        """Is anything gone? What retention spared for a damaged delta goes the next time, once that is healed."""
        pruned = await self.blocking(self._store.prune)
        if pruned.damaged:
            for damage in await self.blocking(lambda: self._healer.deltas(pruned.damaged)):
                await self._tell_damage(damage)
        if pruned.deleted or pruned.stuck:
            await self.send(RetentionApplied(pruned.deleted, pruned.stuck, pruned.models_needed))
        return bool(pruned.deleted)

    @every("retry_deletes_every_seconds")
    async def retry_deletes(self) -> None:
        """What would not be deleted may go now; and what the reserve was released for may be over."""
        await self._prune()
        if self._released_at is None or self.clock.monotonic() - self._released_at >= RENEWED_AFTER_SECONDS:
            await self._renew_reserve()

    # Room for HEAD and status.

    @on(control=True)
    async def make_room(self, _: DiskRunningLow) -> None:
        """The reserve and retention now, instead of at the next commit."""
        await self._release_reserve("the disk is running low")
        await self._prune()

    @on
    async def pin(self, wanted: PinWanted) -> PinSet | PinRefused:
        """A person's wish: one replacement of HEAD. What is unpinned goes when retention comes next."""
        answer = await self.blocking(lambda: pin(self._store, wanted.target, pinned=wanted.pinned))
        if isinstance(answer, PinSet) and answer.was != answer.pinned:
            await self.send(answer)
        return answer

    @on
    async def room_again(self, _: DiskRecovered) -> None:
        """Room for the next time, too."""
        await self._renew_reserve()

    async def _in_any_room(self, job: Callable[[], T]) -> T:
        """Do it; if the disk is full, once more in the room of the reserve and of what retention takes."""
        try:
            done = await self.blocking(job)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            released = await self._release_reserve(error.strerror or str(error))
            pruned = await self._prune()
            if not released and not pruned:
                raise
            return await self.blocking(job)
        self._released_at = None
        return done

    async def _release_reserve(self, why: str) -> bool:
        """Are its bytes free now?"""
        self._released_at = self.clock.monotonic()
        try:
            size_bytes = await self.blocking(self._reserve.release)
        except OSError:
            return False  # a disk that refuses even this has other trouble, which is told by whoever meets it
        if size_bytes:
            await self.send(ReserveReleased(size_bytes=size_bytes, why=why))
        return size_bytes > 0

    async def _renew_reserve(self) -> None:
        """Make it unless it lies there, if there is room for it and for the upper mark; tried again by the clock."""
        if await self.blocking(self._reserve.fits) or not await self._is_granted():
            return
        try:
            size_bytes = await self.blocking(self._reserve.make)
        except OSError:
            return
        if size_bytes:
            await self.send(ReserveMade(size_bytes=size_bytes))

    async def _is_granted(self) -> bool:
        if self.settings.reserve_bytes == 0:
            return True  # what lies there is of an earlier config, and goes
        try:
            answer = await self.ask(SpaceNeeded(purpose="reserve"), timeout=ASK_SECONDS)
        except AskFailed:
            return False
        return isinstance(answer, SpaceGranted)

    @every("scrub_every_seconds")
    async def scrub(self) -> None:
        """One piece of the round. It is over before the next message, so a commit waits for one piece at most."""
        now = self.clock.monotonic()
        if now < self._scrub_at:
            return  # the last round is done and the next one not due
        size_bytes = int(self.settings.scrub_bytes_per_second * self.settings.scrub_every_seconds)
        try:
            found = await self.blocking(lambda: self._healer.piece(size_bytes, now))
        except OSError:
            return  # the folders cannot be read now; a disk that is gone is told by whoever must write
        if found.damage is not None:
            await self._tell_damage(found.damage)
        if found.sound_again:
            await self.send(DamageHealed(what=found.sound_again, how="it was restored"))
        if found.finished is not None:
            self._scrub_at = found.next_at
            self.snooze("scrub", found.next_at - now)
            tally, seconds = found.finished, round(found.seconds, 1)
            await self.send(ScrubFinished(tally.things, tally.size_bytes, tally.damaged, seconds))

    async def _tell_damage(self, damage: Damage) -> None:
        if damage.news:
            await self.send(DamageFound(what=damage.what, why=damage.why, instead=damage.instead))
        if damage.in_force:
            await self.send(GenerationDamaged(generation=damage.in_force, path=damage.what))

    async def _heal_ledger(self) -> tuple[Damage, ...]:
        """Before and after a merge reads them, every delta of the ledger is verified."""
        damage = await self.blocking(self._healer.ledger)
        for one in damage:
            await self._tell_damage(one)
        return damage

    @on
    async def wanted(self, wish: StateWanted) -> StateInForce:
        """Verify and tell; damage found here is healed as at start-up."""
        damage = await self._heal_ledger() if wish.ledger else ()
        unhealed = tuple(f"{one.why}; in its place: {one.instead}" for one in damage if not one.healed)
        if wish.only_look:
            # Whoever trains may still hold it; going back to an older generation would lose what came after that.
            found, force = await self.blocking(self._healer.look)
            if found is not None:
                await self._tell_damage(found)
        else:
            try:
                force = await self.blocking(self._store.in_force)
            except Damaged:
                await self._open()
                force = await self.blocking(self._store.in_force)
        return msgspec.structs.replace(force, ledger_damage=unhealed)

    @on
    async def models_wanted(self, _: ModelsWanted) -> ModelsNeeded:
        """Read off HEAD; nothing is verified for it."""
        return await self.blocking(self._store.models_needed)

    @on
    async def leave_models(self, wish: LeaveModels) -> ModelsLeft | NoOtherModel:
        """Go back to what stands on another model. It is a commit like any: one replacement of HEAD."""
        try:
            kept = await self.blocking(lambda: self._store.leave_models(wish.paths))
        except OSError as error:
            return NoOtherModel(why=str(error))
        if kept is None:
            return NoOtherModel(why="every sound generation that is kept stands on a lost model")
        return ModelsLeft(generation=kept.generation, path=kept.path, model_path=kept.model_path)

    @on
    async def night(self, request: CommitNight) -> NightCommitted | NightNotCommitted:
        """One commit for the delta, the merged model and the fresh adapter together."""
        files = self.cloakroom.look(request.ticket)
        if files is None:
            return NightNotCommitted(why="the fresh adapter's snapshot is gone")
        damage = await self._heal_ledger()
        if damage:
            for one in damage:
                if one.healed:  # whoever waits before the next try need not
                    await self.send(DamageHealed(what=one.what, how=one.instead))
            return NightNotCommitted(why=f"{damage[0].why}, while the merge read it; it is made anew")
        now = self.clock.now()
        try:
            kept = await self._in_any_room(
                lambda: self._store.commit_night(
                    files,
                    request.state,
                    night=request.night,
                    due_date=request.due_date,
                    folded=request.delta_generation,
                    model_path=request.model_path,
                    model_digest=request.model_digest,
                    now=now.isoformat(timespec="seconds"),
                )
            )
        except (OSError, Damaged) as error:
            return NightNotCommitted(why=str(error))
        self.cloakroom.hand_back(request.ticket)
        await self._after_commit(now.date().isoformat(), kept.generation)
        committed = NightCommitted(
            night=request.night,
            generation=kept.generation,
            model_path=request.model_path,
            global_step=kept.global_step,
            adapter_id=kept.adapter_id,
        )
        await self.send(committed)
        return committed
