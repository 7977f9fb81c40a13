"""The StatusReporter: the one writer of ``status/``. It only listens, and can never slow the others.

It keeps ``training_status.json`` true by atomic replacement, appends every event to ``events.jsonl``, writes the trace
to disk, and hands readable lines to the console.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from actors.status_reporter.lines import line_for
from actors.status_reporter.page import Counts, Folder, Page
from messages import (
    ActorCrashed,
    ActorGaveUp,
    ActorStarted,
    ActorStuck,
    BatchAccepted,
    BatchClaimed,
    BatchFailed,
    BatchFiled,
    BatchRejected,
    BatchStarted,
    BatchTrained,
    CommitFailed,
    DamageFound,
    DamageHealed,
    DiskMeasured,
    DiskRecovered,
    DiskRunningLow,
    FileWithdrawn,
    GenerationCommitted,
    InboxReplaced,
    InboxSurveyed,
    LeftoversSwept,
    Message,
    MessageDeadLettered,
    MessagesDropped,
    MicroBatchHalved,
    ModelGivenUp,
    ModelHealed,
    ModelNotHealed,
    NightClosed,
    NightCommitted,
    NightFinished,
    NightRefused,
    NightStarted,
    NightVerified,
    PinSet,
    PluginNoted,
    RecordTrace,
    ReserveMade,
    ReserveReleased,
    RetentionApplied,
    ScrubFinished,
    SnapshotKept,
    StepSkipped,
    TraceRecording,
    TrainedFilesDeleted,
    TrainerReady,
    TrainingIdle,
    TrainingPaused,
    TrainingProgress,
    TrainingResumed,
    TrainingWaits,
)
from runtime import Actor, durable, every, on
from runtime.trace_files import TraceWriter

FOLDER = "status"
STATUS = f"{FOLDER}/training_status.json"
ACTORS = f"{FOLDER}/actors.json"
EVENTS = f"{FOLDER}/events.jsonl"
EVENTS_BEFORE = f"{FOLDER}/events.1.jsonl"
EVENTS_HELD_MAX = 10_000
"""Events waiting for a disk that refuses; beyond that the oldest are given up."""
SAID_KEPT = 1000
"""Batches of which it is known what was said last. One that is filed is forgotten; some are said of once more."""
TRACE_RECORDS_AT_ONCE = 4096
"""Records that go to disk in one piece: what a file of the trace may be too long by."""


class Console(Protocol):
    """Where lines for a person go."""

    def line(self, text: str) -> None:
        """One event."""

    def progress(self, batch: TrainingProgress | None) -> None:
        """The batch in training moved on, or there is none any more."""


class SilentConsole:
    """For daemons that nobody watches."""

    def line(self, text: str) -> None:
        """Nobody watches."""

    def progress(self, batch: TrainingProgress | None) -> None:
        """Nobody watches."""


class StatusReporterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[status_reporter]``.

    Attributes:
        write_every_seconds: how old the status file may be while something changes.
        heartbeat_every_seconds: how old it may be while nothing does.
        events_bytes_max: ``events.jsonl`` is set aside once at this size; so at most twice as much is kept.
        trace_on_disk: begin with writing every message's path to ``status/trace/``; ``RecordTrace`` switches it.
        trace_file_bytes, trace_files: bound what the trace takes.
    """

    write_every_seconds: Annotated[float, Meta(ge=0.1, le=3600)] = 1.0
    heartbeat_every_seconds: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    events_bytes_max: Annotated[int, Meta(ge=1024)] = 16 << 20
    trace_on_disk: bool = True
    trace_file_bytes: Annotated[int, Meta(ge=4096)] = 4 << 20
    trace_files: Annotated[int, Meta(ge=2, le=1000)] = 8


class StatusReporter(Actor):
    """See the module."""

    settings: StatusReporterSettings

    def __init__(self, console: Console | None = None, pid: int | None = None) -> None:
        self._console = console or SilentConsole()
        self._pid = os.getpid() if pid is None else pid

    async def on_start(self) -> None:
        now = self._now()
        self._folder = Folder(Page(pid=self._pid, started=now, heartbeat=now))
        self._folder.page.counts = await self.blocking(self._prepare)
        self._events: list[bytes] = []
        self._torn = False
        self._said: dict[str, type[Message]] = {}
        self._changed = True
        self._written_at = self.clock.monotonic()
        self._traced = 0
        self._recording = self.settings.trace_on_disk
        self._trace = self._trace_writer()
        await self.write()

    def _trace_writer(self) -> TraceWriter:
        return TraceWriter(
            self.disk,
            f"{FOLDER}/trace",
            file_bytes=self.settings.trace_file_bytes,
            keep=self.settings.trace_files,
        )

    def _prepare(self) -> Counts:
        with contextlib.suppress(OSError):  # a full disk must not keep the daemon from starting
            durable.ensure_directory(self.disk, FOLDER)
            durable.sweep(self.disk, FOLDER)
        return self._count()

    def _count(self) -> Counts:
        """How many files lie in each last place."""
        found = Counts()
        for folder in Counts.__struct_fields__:
            if self.disk.stat(folder) is not None:
                names = self.disk.listdir(folder)
                papers = sum(name.endswith((".receipt.json", ".report.json")) for name in names)
                setattr(found, folder, len(names) - papers - sum(map(durable.is_leftover, names)))
        return found

    async def on_stop(self) -> None:
        page = self._folder.page
        page.state, page.reason, page.batch = "stopped", self.system.stop_reason, None
        self._changed = True
        self._console.progress(None)
        await self.write()

    @on
    async def heard(
        self,
        message: ActorCrashed
        | ActorGaveUp
        | ActorStarted
        | ActorStuck
        | BatchAccepted
        | BatchClaimed
        | BatchFailed
        | BatchFiled
        | BatchRejected
        | BatchStarted
        | BatchTrained
        | CommitFailed
        | DamageFound
        | DamageHealed
        | DiskRecovered
        | DiskRunningLow
        | FileWithdrawn
        | GenerationCommitted
        | InboxReplaced
        | LeftoversSwept
        | MessageDeadLettered
        | MessagesDropped
        | MicroBatchHalved
        | ModelGivenUp
        | ModelHealed
        | ModelNotHealed
        | NightClosed
        | NightCommitted
        | NightFinished
        | NightRefused
        | NightStarted
        | NightVerified
        | PinSet
        | PluginNoted
        | ReserveMade
        | ReserveReleased
        | RetentionApplied
        | ScrubFinished
        | SnapshotKept
        | StepSkipped
        | TrainedFilesDeleted
        | TrainerReady
        | TrainingIdle
        | TrainingPaused
        | TrainingResumed
        | TrainingWaits,
    ) -> None:
        """An event: into the page, the log and the console."""
        self._fold(message)
        if isinstance(message, BatchFiled | TrainedFilesDeleted) or (
            isinstance(message, ActorStarted) and message.incarnation > 1
        ):
            # Counted anew, not one more: around a crash a filing may be told twice, or never.
            self._folder.page.counts = await self.blocking(self._count)
        event = {"at": self._now(), **msgspec.to_builtins(message)}
        self._events.append(msgspec.json.encode(event) + b"\n")
        if len(self._events) > EVENTS_HELD_MAX:
            del self._events[1]  # the first may be the rest of a line whose beginning is written
        if isinstance(message, BatchTrained | BatchFailed | TrainingPaused):
            self._console.progress(None)
        line = line_for(message)
        if line is not None and not self._is_repeat(message):
            self._console.line(line)

    def _is_repeat(self, message: Message) -> bool:
        """What is said of a batch may be said again after a restart; a person is told once."""
        match message:
            case BatchFiled():
                self._said.pop(message.batch, None)
            case BatchAccepted() | BatchRejected() | BatchTrained() | BatchFailed():
                if self._said.get(message.batch) is type(message):
                    return True
                self._said[message.batch] = type(message)
                if len(self._said) > SAID_KEPT:
                    del self._said[next(iter(self._said))]
        return False

    @on
    async def seen(self, message: InboxSurveyed | DiskMeasured) -> None:
        """A measurement: into the page alone."""
        self._fold(message)

    @on
    async def progressed(self, progress: TrainingProgress) -> None:
        """How training gets on."""
        self._fold(progress)
        self._console.progress(progress)

    @on
    async def record(self, wish: RecordTrace) -> TraceRecording:
        """Switch the trace on disk. On: what memory still holds is written at once. Off: what happened up to now."""
        was = self._recording
        if wish.on and not was:
            self._trace = self._trace_writer()  # a new file, and its folder if a person has cleared it away meanwhile
        self._recording = was if wish.on is None else wish.on
        trouble = ""
        if was or self._recording:
            try:
                await self._write_trace()
            except OSError as error:
                trouble = error.strerror or str(error)
        return TraceRecording(on=self._recording, was=was, trouble=trouble)

    def _fold(self, message: Message) -> None:
        self._folder.fold(message, self._now())
        self._changed = True

    def _now(self) -> str:
        return self.clock.now().isoformat(timespec="seconds")

    @every("write_every_seconds")
    async def write(self) -> None:
        """Bring ``status/`` up to date. A disk that refuses costs this write, not the daemon: the next one tries."""
        now = self.clock.monotonic()
        if not self._changed and now - self._written_at < self.settings.heartbeat_every_seconds:
            return
        self._folder.page.heartbeat = self._now()
        page = msgspec.json.format(msgspec.json.encode(self._folder.page), indent=2) + b"\n"
        actors = msgspec.json.encode({"at": self._now(), "actors": self.system.describe()}) + b"\n"
        events = b"".join(self._events)
        try:
            await self.blocking(lambda: self._write_files(page, actors, events))
            self._events.clear()
            # The rest of a full disk is for the status itself.
            if self._recording and not self._folder.page.disk.low:
                await self._write_trace()
        except OSError:
            return
        self._changed = False
        self._written_at = now

    async def _write_trace(self) -> None:
        """Append what is not on disk yet, in pieces, so that files are rotated in between."""
        records = self.system.trace.since(self._traced)
        for start in range(0, len(records), TRACE_RECORDS_AT_ONCE):
            piece = records[start : start + TRACE_RECORDS_AT_ONCE]
            await self.blocking(partial(self._trace.append, piece))
            self._traced = piece[-1].number

    def _write_files(self, page: bytes, actors: bytes, events: bytes) -> None:
        if self.disk.stat(FOLDER) is None:  # the disk refused it at the start
            durable.ensure_directory(self.disk, FOLDER)
        durable.write_file(self.disk, STATUS, page)
        durable.write_file(self.disk, ACTORS, actors)
        if events:
            self._append_events(events)

    def _append_events(self, events: bytes) -> None:
        """What a disk takes only in part is gone on with where it stopped, so that each line stands whole, and once."""
        found = self.disk.stat(EVENTS)
        if found is not None and found.size > self.settings.events_bytes_max and not self._torn:
            self.disk.rename(EVENTS, EVENTS_BEFORE)
            found = None
        before = found.size if found is not None else 0
        handle = self.disk.open_append(EVENTS)
        try:
            self.disk.write(handle, events)
        except OSError:
            after = self.disk.stat(EVENTS)
            taken = after.size - before if after is not None else 0
            self._torn = self._torn or taken > 0
            self._events = [events[taken:]]
            raise
        finally:
            self.disk.close(handle)
        self._torn = False
