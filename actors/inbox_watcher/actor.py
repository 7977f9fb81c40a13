"""The InboxWatcher: the one writer of the inbox and of every file that came through it.

The periodic scan is the truth; events only wake it sooner. A few files at a time are claimed and the rest left where
they are: the folder is the queue, and it is durable. What it cannot file now (a full disk) it files later.
"""

from __future__ import annotations

import errno
from typing import Annotated

import msgspec
from msgspec import Meta

from actors.inbox_watcher.filing import BATCHES, Claimed, claim, file_away, recover_claims
from actors.inbox_watcher.survey import INBOX, Seen, Survey, shown, survey
from actors.inbox_watcher.upkeep import forget_oldest
from messages import (
    BatchAccepted,
    BatchClaimed,
    BatchesWanted,
    BatchFailed,
    BatchFiled,
    BatchRejected,
    BatchTrained,
    FileWithdrawn,
    InboxChanged,
    InboxReplaced,
    InboxSurveyed,
    MessageDeadLettered,
    Receipt,
    Report,
    SurveyWanted,
    TrainedFilesDeleted,
    Trouble,
)
from runtime import Actor, OperatorError, durable, every, on
from runtime.errors import EXIT_DISK

FOLDERS = ("trained", "rejected", "failed")
NAMES_TOLD = 100
STRIKES_MAX = 2
TAKEN_BACK_KEPT = 1000
"""So many batches that a person took out of ``state/batches/`` are known, should one of them have an outcome all the
same; there are never more than ``claims_max`` on their way."""
VALIDATOR, TRAINER = "validator", "trainer"
"""Where a batch goes from here. Only the names: actors do not know each other."""


class InboxWatcherSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[inbox_watcher]``.

    Attributes:
        scan_every_seconds: the longest a file waits to be seen where events do not work.
        quiet_seconds: a file nobody has open for writing is taken after being unchanged so long.
        settle_seconds: the same where the system cannot tell who writes (network drives, other systems).
        claims_max: batches taken out of the inbox ahead of training.
        keep_trained_files, trained_bytes_max: bounds of ``trained/``, where its owner asks for them; see ``upkeep``.
    """

    scan_every_seconds: Annotated[float, Meta(ge=0.1, le=3600)] = 2.0
    quiet_seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.5
    settle_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    claims_max: Annotated[int, Meta(ge=1, le=1000)] = 4
    keep_trained_files: Annotated[int, Meta(ge=1)] | None = None
    trained_bytes_max: Annotated[int, Meta(ge=1)] | None = None


class InboxWatcher(Actor):
    """See the module."""

    settings: InboxWatcherSettings
    sends = (BatchRejected, BatchFailed, InboxSurveyed)

    async def on_start(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._claimed: dict[str, Claimed] = {}
        self._validated: set[str] = set()
        self._strikes: dict[str, int] = {}
        self._to_file: dict[str, tuple[str, Receipt | Report]] = {}
        self._taken_back: dict[str, Claimed] = {}
        self._inbox_inode = 0
        self._claim_unsure = False
        self._upkeep_due = True
        self._told: InboxSurveyed | None = None
        for found in await self.blocking(self._recover):
            self._claimed[found.batch] = found
        await self._announce()
        await self.scan()

    def _recover(self) -> tuple[Claimed, ...]:
        for folder in (INBOX, *FOLDERS, BATCHES):
            durable.ensure_directory(self.disk, folder)
        for folder in (*FOLDERS, BATCHES):
            durable.sweep(self.disk, folder)
        return recover_claims(self.disk)

    async def _announce(self) -> None:
        """Send every claimed batch on its way (again). Whoever has it already knows it by its number."""
        for found in list(self._claimed.values()):
            if found.batch not in self._to_file:
                await self._send_on(found)

    async def _send_on(self, found: Claimed) -> None:
        if found.kind == "file":
            await self.send(
                BatchClaimed(batch=found.batch, name=found.name, path=found.path, size_bytes=found.size_bytes)
            )
            return
        trouble = Trouble(
            "NF-DATA-004",
            f"{found.name} is a {found.kind if found.kind != 'other' else 'special file'}, not a file",
            "drop the file itself",
        )
        await self.send(
            BatchRejected(batch=found.batch, name=found.name, path=found.path, report=self._report(found, trouble))
        )

    def _report(self, found: Claimed, trouble: Trouble) -> Report:
        when = self.clock.now().isoformat(timespec="seconds")
        return Report(batch=found.batch, name=found.name, trouble=trouble, when=when)

    # The scan.

    @every("scan_every_seconds")
    async def scan(self) -> None:
        """Look, claim what is complete, file what is due."""
        for batch in list(self._to_file):
            await self._file(batch)
        await self._forget_taken_back()
        if self._claim_unsure:
            await self._take_up_claims()
        if self._upkeep_due:
            await self._keep_up()
        found = await self._look()
        if found is None:
            return
        claimed: list[str] = []
        for name in (*found.odd, *found.ready):
            if len(self._claimed) >= self.settings.claims_max or not await self._claim(name):
                break
            claimed.append(name)
        taken = set(claimed)
        waiting = tuple(name for name in (*found.ready, *found.later, *found.odd) if name not in taken)
        survey_told = InboxSurveyed(
            waiting=tuple(map(shown, waiting[:NAMES_TOLD])),
            waiting_count=len(waiting),
            unready=tuple(map(shown, found.unready[:NAMES_TOLD])),
            ignored=tuple(map(shown, found.ignored[:NAMES_TOLD])),
            claimed=tuple(one.name for one in self._claimed.values()),
        )
        if survey_told != self._told:
            self._told = survey_told
            await self.send(survey_told)

    async def _look(self) -> Survey | None:
        before, now, settings = self._seen, self.clock.monotonic(), self.settings
        wanted = max(0, settings.claims_max - len(self._claimed))
        try:
            found = await self.blocking(
                lambda: survey(
                    self.disk,
                    before,
                    now,
                    settle_seconds=settings.settle_seconds,
                    quiet_seconds=settings.quiet_seconds,
                    wanted=wanted,
                )
            )
        except OSError as error:
            self._refuse_if_lost(error)
            return None
        if found.inbox_inode == 0:
            await self._make_inbox()
            return None
        if self._inbox_inode not in (0, found.inbox_inode):
            await self.send(InboxReplaced(made_again=False))
        self._inbox_inode = found.inbox_inode
        here = {*found.seen, *found.odd}
        for name in sorted(set(before) - here):
            await self.send(FileWithdrawn(name=shown(name)))
        self._seen = dict(found.seen)
        return found

    async def _make_inbox(self) -> None:
        self._inbox_inode = 0
        try:
            home = await self.blocking(lambda: self.disk.stat("nightfold.toml") or self.disk.stat("state"))
            if home is None:
                raise FileNotFoundError(errno.ENOENT, "the home is gone")
            await self.blocking(lambda: durable.ensure_directory(self.disk, INBOX))
        except OSError as error:
            self._refuse_if_lost(error)
            return
        await self.send(InboxReplaced(made_again=True))

    async def _claim(self, name: str) -> bool:
        """Claim one; ``False`` if the disk refuses, so that this scan stops trying."""
        try:
            found = await self.blocking(lambda: claim(self.disk, name))
        except OSError as error:
            # It may have failed before or after the file was moved: the next scan looks.
            self._claim_unsure = True
            self._refuse_if_lost(error)
            return False
        self._seen.pop(name, None)
        if found is None:
            await self.send(FileWithdrawn(name=shown(name)))
        else:
            self._claimed[found.batch] = found
            await self._send_on(found)
        return True

    async def _take_up_claims(self) -> None:
        """Take up what an interrupted claim left under ``state/batches/``, as a start would."""
        try:
            left = await self.blocking(lambda: recover_claims(self.disk))
        except OSError as error:
            self._refuse_if_lost(error)
            return
        self._claim_unsure = False
        for found in left:
            if found.batch not in self._claimed:
                self._claimed[found.batch] = found
                await self._send_on(found)

    async def _forget_taken_back(self) -> None:
        """A person took a claimed file out of ``state/batches/``: nothing waits for its outcome any more.

        If it was in training the outcome comes all the same, and is still filed.
        """
        waiting = [found for found in self._claimed.values() if found.batch not in self._to_file]
        if not waiting:
            return
        gone = await self.blocking(lambda: [found for found in waiting if self._is_taken_back(found)])
        for found in gone:
            self._taken_back[found.batch] = self._claimed.pop(found.batch)
            self._forget(found.batch)
            await self.send(FileWithdrawn(name=found.name, batch=found.batch))
        for batch in list(self._taken_back)[:-TAKEN_BACK_KEPT]:
            del self._taken_back[batch]

    def _forget(self, batch: str) -> None:
        """It is out of our hands."""
        self._validated.discard(batch)
        self._strikes.pop(batch, None)

    def _is_taken_back(self, found: Claimed) -> bool:
        return self.disk.stat(found.path) is None and self.disk.stat(BATCHES) is not None

    def _refuse_if_lost(self, error: OSError) -> None:
        """A read-only or vanished file system is for a person to mend; anything else may pass."""
        if error.errno == errno.EROFS or (error.errno == errno.ENOENT and self.disk.stat(BATCHES) is None):
            raise OperatorError(
                "NF-DISK-002",
                f"the home cannot be written any more: {error}",
                hint="see that its file system is mounted and writable, then start again; nothing was lost",
                exit_code=EXIT_DISK,
            ) from error

    @on(control=True)
    async def wake(self, _: InboxChanged) -> None:
        """Something may have come."""
        await self.scan()

    @on
    async def wanted(self, _: BatchesWanted) -> None:
        """The Trainer starts without a memory."""
        await self._announce()

    @on
    async def survey_wanted(self, _: SurveyWanted) -> None:
        """Whoever asks has not heard the last survey, and the next one comes only when something changes."""
        self._told = None
        await self.scan()

    # Outcomes.

    @on
    async def accepted(self, batch: BatchAccepted) -> None:
        """It is past the Validator."""
        if batch.batch in self._claimed:
            self._validated.add(batch.batch)

    @on
    async def trained(self, done: BatchTrained) -> None:
        """Into ``trained/`` with its receipt."""
        await self._file_as(done.batch, done.name, "trained", done.receipt)

    @on
    async def rejected(self, done: BatchRejected) -> None:
        """Into ``rejected/`` with its report."""
        await self._file_as(done.batch, done.name, "rejected", done.report)

    @on
    async def failed(self, done: BatchFailed) -> None:
        """Into ``failed/`` with its report."""
        await self._file_as(done.batch, done.name, "failed", done.report)

    async def _file_as(self, batch: str, name: str, folder: str, paper: Receipt | Report) -> None:
        if batch in self._taken_back:
            self._claimed[batch] = self._taken_back.pop(batch)
        if batch not in self._claimed:
            # Filed before a crash that came before the Trainer could note it.
            await self.send(BatchFiled(batch=batch, name=name, folder=folder, path=""))
            return
        self._to_file[batch] = (folder, paper)
        await self._file(batch)
        await self.scan()

    async def _file(self, batch: str) -> None:
        found = self._claimed[batch]
        folder, paper = self._to_file[batch]
        try:
            path = await self.blocking(lambda: file_away(self.disk, found, folder, paper))
        except OSError as error:
            self._refuse_if_lost(error)
            return  # the next scan tries again
        del self._to_file[batch], self._claimed[batch]
        self._upkeep_due = True
        self._forget(batch)
        await self.send(BatchFiled(batch=batch, name=found.name, folder=folder, path=path))

    async def _keep_up(self) -> None:
        """Delete the oldest trained files, if the config bounds them. What would not go is tried at the next scan."""
        settings, on_their_way = self.settings, tuple(self._claimed)
        try:
            done = await self.blocking(
                lambda: forget_oldest(self.disk, settings.keep_trained_files, settings.trained_bytes_max, on_their_way)
            )
        except OSError as error:
            self._refuse_if_lost(error)
            return
        self._upkeep_due = bool(done.stuck)
        if done.names or done.stuck:
            names, stuck = tuple(map(shown, done.names)), tuple(map(shown, done.stuck))
            await self.send(TrainedFilesDeleted(names=names, size_bytes=done.size_bytes, stuck=stuck))

    @on
    async def letter_died(self, dead: MessageDeadLettered) -> None:
        """A batch's message was lost to a crash: send it again, but give up on a file that kills its reader.

        A plug-in that listens and crashes has lost its own copy: that is no fault of the file's.
        """
        if dead.message_type == BatchClaimed.__name__ and dead.actor == VALIDATOR:
            await self._strike(dead.subject)
        elif (dead.message_type, dead.actor) in (
            (BatchAccepted.__name__, TRAINER),
            (BatchesWanted.__name__, self.name),
        ):
            await self._announce()

    async def _strike(self, batch: str) -> None:
        """The Validator crashed over this batch. ``""``: over any, and it takes them in order, the oldest first."""
        lost = [one for one in self._claimed.values() if one.batch not in self._to_file and batch in ("", one.batch)]
        # What it has accepted before does not kill it, and may be half trained.
        blamed = next((one for one in lost if one.batch not in self._validated), None)
        for one in lost:
            if one is blamed:
                self._strikes[one.batch] = self._strikes.get(one.batch, 0) + 1
                if self._strikes[one.batch] >= STRIKES_MAX:
                    await self._give_up(one)
                    continue
            await self._send_on(one)

    async def _give_up(self, found: Claimed) -> None:
        trouble = Trouble(
            "NF-RUN-010", "the Validator crashed over this file, repeatedly", "nightfold explain NF-RUN-010"
        )
        await self.send(BatchFailed(batch=found.batch, name=found.name, report=self._report(found, trouble)))
