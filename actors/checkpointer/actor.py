"""The Checkpointer: the one writer of ``state/`` and ``snapshots/``. It commits what it is handed and says so.

A commit is one I/O job, so nothing can come between its steps. A disk that refuses is news (``CommitFailed``), not a
crash: the generation before is still in force and the snapshot waits in the cloakroom.
"""

from __future__ import annotations

import errno
from typing import Annotated

import msgspec

from actors.checkpointer.pinning import pin
from actors.checkpointer.store import Damaged, Opened, Store
from messages import (
    CommitFailed,
    CommitFinally,
    CommitGeneration,
    CommitNight,
    DamageFound,
    DiskRunningLow,
    GenerationCommitted,
    LeftoversSwept,
    NightCommitted,
    NightNotCommitted,
    PinRefused,
    PinSet,
    PinWanted,
    RetentionApplied,
    SnapshotKept,
    StateInForce,
    StateWanted,
)
from runtime import Actor, OperatorError, every, on
from runtime.disk import DiskPort
from runtime.errors import EXIT_DISK

Bytes = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class CheckpointerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[checkpointer]``: how many of each kind are kept, and how many bytes of it. See ``retention``."""

    keep_generations: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 5
    keep_snapshots: Count = 7
    keep_nights: Count = 2
    generations_bytes_max: Bytes | None = None
    snapshots_bytes_max: Bytes | None = None
    nights_bytes_max: Bytes | None = None
    set_aside_bytes_max: Bytes | None = None
    retry_deletes_every_seconds: Annotated[float, msgspec.Meta(ge=1)] = 300.0


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
            needed = self._store.head.models_needed() if self._store.head else ()
            await self.send(RetentionApplied(deleted=pruned.deleted, stuck=pruned.stuck, models_needed=needed))

    @every("retry_deletes_every_seconds")
    async def retry_deletes(self) -> None:
        """What would not be deleted may go now."""
        await self._prune()

    @on(control=True)
    async def make_room(self, _: DiskRunningLow) -> None:
        """Retention now instead of at the next commit."""
        await self._prune()

    @on
    async def pin(self, wanted: PinWanted) -> PinSet | PinRefused:
        """A person's wish: one replacement of HEAD. What is unpinned goes when retention comes next."""
        answer = await self.blocking(lambda: pin(self._store, wanted.target, pinned=wanted.pinned))
        if isinstance(answer, PinSet) and answer.was != answer.pinned:
            await self.send(answer)
        return answer

    @on
    async def wanted(self, _: StateWanted) -> StateInForce:
        """Verify and tell; damage found here is healed as at start-up."""
        try:
            return await self.blocking(self._store.in_force)
        except Damaged:
            await self._open()
            return await self.blocking(self._store.in_force)

    @on
    async def night(self, request: CommitNight) -> NightCommitted | NightNotCommitted:
        """One commit for the delta, the merged model and the fresh adapter together."""
        files = self.cloakroom.look(request.ticket)
        if files is None:
            return NightNotCommitted(why="the fresh adapter's snapshot is gone")
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
