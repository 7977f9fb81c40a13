"""The Checkpointer: the one writer of ``state/`` and ``snapshots/``. It commits what it is handed and says so.

A commit is one I/O job, so nothing can come between its steps. A disk that refuses is news (``CommitFailed``), not a
crash: the generation before is still in force and the snapshot waits in the cloakroom. Between its messages it reads
everything that is kept, piece by piece, and heals what is damaged.
"""

from __future__ import annotations

import errno
from typing import Annotated

import msgspec

from actors.checkpointer.healing import Damage, Healer
from actors.checkpointer.store import Opened, Store
from actors.checkpointer.verification import Damaged
from messages import (
    CommitFailed,
    CommitFinally,
    CommitGeneration,
    CommitNight,
    DamageFound,
    DamageHealed,
    DiskRunningLow,
    GenerationCommitted,
    GenerationDamaged,
    LeftoversSwept,
    NightCommitted,
    NightNotCommitted,
    RetentionApplied,
    ScrubFinished,
    SnapshotKept,
    StateInForce,
    StateWanted,
)
from runtime import Actor, OperatorError, every, on
from runtime.errors import EXIT_DISK

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class CheckpointerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[checkpointer]``: how many of each kind are kept, and how gently all of it is read again.

    What is in force or pinned never goes. Every ``scrub_every_seconds`` the scrub reads as much as
    ``scrub_bytes_per_second`` allows, until all was read; ``scrub_round_every_seconds`` after it began it begins anew.
    """

    keep_generations: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 5
    keep_snapshots: Count = 7
    keep_nights: Count = 2
    retry_deletes_every_seconds: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    scrub_every_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = 1.0
    scrub_bytes_per_second: Annotated[int, msgspec.Meta(ge=4096)] = 32_000_000
    scrub_round_every_seconds: Annotated[float, msgspec.Meta(ge=1)] = 86_400.0


class Checkpointer(Actor):
    """See the module."""

    settings: CheckpointerSettings
    sends = (GenerationCommitted, CommitFailed, NightCommitted)
    _store: Store

    async def on_start(self) -> None:
        self._store = Store(
            self.disk,
            keep_generations=self.settings.keep_generations,
            keep_snapshots=self.settings.keep_snapshots,
            keep_nights=self.settings.keep_nights,
        )
        self._healer = Healer(self.disk, self._store, round_every_seconds=self.settings.scrub_round_every_seconds)
        self._scrub_at = self.clock.monotonic()
        await self._open()

    async def _open(self) -> None:
        try:
            opened = await self.blocking(self._store.open)
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
        if files is None:
            return CommitFailed(ticket=ticket, code="NF-STATE-005", why="its snapshot is gone", out_of_space=False)
        began = self.clock.monotonic()
        now = self.clock.now()
        try:
            kept = await self.blocking(
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
        return GenerationCommitted(
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

    async def _prune(self) -> None:
        pruned = await self.blocking(self._store.prune)
        if pruned.deleted or pruned.stuck:
            await self.send(RetentionApplied(deleted=pruned.deleted, stuck=pruned.stuck))

    @every("retry_deletes_every_seconds")
    async def retry_deletes(self) -> None:
        """What would not be deleted may go now."""
        await self._prune()

    @on(control=True)
    async def make_room(self, _: DiskRunningLow) -> None:
        """Retention now instead of at the next commit."""
        await self._prune()

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
            kept = await self.blocking(
                lambda: self._store.commit_night(
                    files,
                    request.state,
                    night=request.night,
                    due_date=request.due_date,
                    folded=request.delta_generation,
                    model_path=request.model_path,
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
