"""The Notifier: a plug-in that tells people what they want to know at once, over whatever service they read.

Guarantees:
    * Each address gets its notices in order; one that does not answer is tried again, later and later, and holds up no
      other. What waits is on disk, and goes on after a restart.
    * A storm of one kind is one notice, and one more for each quiet time, which says how many there were.
    * No address is ever said to anybody: neither in a trace, nor in a log, nor in an error.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from actors.notifier.apprise_post import Address, ApprisePost, Post
from actors.notifier.words import BAD_NEWS, Kind, Notice, collapsed, notice_of
from messages import (
    ActorCrashed,
    ActorGaveUp,
    ActorStuck,
    BatchFailed,
    BatchRejected,
    BatchTrained,
    CommitFailed,
    DamageFound,
    DiskRecovered,
    DiskRunningLow,
    Message,
    NightFinished,
    NightRefused,
    PluginNoted,
)
from runtime import Actor, OperatorError, durable, on

REMEMBERED = 1000
"""Files and nights of which it is known that they were told: some news is said again after a restart."""
HELD_MAX = 500
"""Notices that wait for one address; beyond that the oldest are let go, and their number is told."""


class NotifierSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[plugins.NAME]`` with ``actor = "notifier"``.

    Attributes:
        urls: one address as apprise reads it, or a list of them. Loosely typed, and checked below, because the finding
            of a wrong type would show the value.
        urls_env: an environment variable that holds addresses, separated by white space; they are added to ``urls``.
        on: which news are told.
        title: what each title begins with; the name of the machine, for instance.
        quiet_seconds: of one kind, at most one notice in this time.
        retry_first_seconds, retry_most_seconds: the waits after a failed delivery, doubling.
    """

    urls: str | list[Any] = []
    urls_env: str = ""
    on: tuple[Kind, ...] = (*BAD_NEWS, "night_done")
    title: str = "Nightfold"
    quiet_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 600.0
    retry_first_seconds: Annotated[float, Meta(gt=0, le=3600)] = 5.0
    retry_most_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 900.0

    def __post_init__(self) -> None:
        listed = [self.urls] if isinstance(self.urls, str) else self.urls
        if not all(isinstance(url, str) and url.strip() for url in listed):
            raise ValueError("urls: expected addresses, each a text in quotes; what stands there is not shown")
        if not listed and not self.urls_env:
            raise ValueError('expected an address, as in urls = "ntfy://topic", or urls_env')


class Deliver(Message, frozen=True):
    """Hand over what waits and is due."""


class QuietTimeOver(Message, frozen=True):
    """What was held back of this kind may be told."""

    kind: Kind


class _Outbox:
    """What waits for one address."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.waiting: deque[Notice] = deque()
        self.failures = 0
        self.not_before = 0.0
        self.let_go = 0

    def add(self, notice: Notice) -> None:
        self.waiting.append(notice)
        if len(self.waiting) > HELD_MAX:
            self.waiting.popleft()
            self.let_go += 1


class Notifier(Actor):
    """See the module."""

    settings: NotifierSettings

    def __init__(self, post: Post | None = None) -> None:
        self._post = post or ApprisePost()

    async def on_start(self) -> None:
        self._file = f"{self.name.replace('.', '/')}/outbox.json"
        self._told: deque[tuple[Kind, str]] = deque(maxlen=REMEMBERED)
        self._held: dict[Kind, list[Notice]] = {}
        self._since_the_night = dict.fromkeys(("learnt", "rejected", "failed"), 0)
        self._due_posted = False
        addresses = await self.blocking(self._open)
        self._outboxes = [_Outbox(address) for address in addresses]
        kept = await self.blocking(self._read)
        for outbox in self._outboxes:
            for waiting in kept.get(outbox.address.key, ()):
                outbox.add(msgspec.convert(waiting, Notice))
        self._on_disk = bool(kept)
        self._deliver_soon()

    def _open(self) -> tuple[Address, ...]:
        listed = [self.settings.urls] if isinstance(self.settings.urls, str) else list(self.settings.urls)
        if self.settings.urls_env:
            listed += os.environ.get(self.settings.urls_env, "").split()
        if not listed:
            raise OperatorError(
                "NF-PLUGIN-002",
                f"the notifier has no address: the environment variable {self.settings.urls_env} is not set",
                hint="set it where the daemon is started, or write urls in the notifier's section",
            )
        return self._post.open(listed)

    # What is told.

    @on
    async def heard(
        self,
        message: ActorCrashed
        | ActorGaveUp
        | ActorStuck
        | BatchFailed
        | BatchRejected
        | BatchTrained
        | CommitFailed
        | DamageFound
        | DiskRecovered
        | DiskRunningLow
        | NightFinished
        | NightRefused
        | PluginNoted,
    ) -> None:
        """News: told at once, or held back while its kind is quiet."""
        if isinstance(message, PluginNoted) and message.plugin == self.name:
            return  # that it cannot tell is the one thing it cannot tell
        notice = notice_of(message)
        if notice is None or (notice.about and (notice.kind, notice.about) in self._told):
            return
        if notice.about:
            self._told.append((notice.kind, notice.about))
        notice = self._counted(notice)
        if notice.kind not in self.settings.on:
            return
        held = self._held.get(notice.kind)
        if held is not None:
            # Of a storm only its two ends and its number are told, so nothing between them needs keeping.
            held.append(notice)
            return
        self._begin_quiet_time(notice.kind)
        self._tell(notice)

    def _counted(self, notice: Notice) -> Notice:
        """The night's own notice says what the day brought."""
        match notice.kind:
            case "batch_trained":
                self._since_the_night["learnt"] += 1
            case "batch_rejected":
                self._since_the_night["rejected"] += 1
            case "batch_failed":
                self._since_the_night["failed"] += 1
            case "night_done":
                said = ", ".join(f"{count} {word}" for word, count in self._since_the_night.items())
                self._since_the_night = dict.fromkeys(self._since_the_night, 0)
                return msgspec.structs.replace(notice, body=f"{notice.body}\n\nFiles since the last: {said}.")
        return notice

    def _begin_quiet_time(self, kind: Kind) -> None:
        if self.settings.quiet_seconds > 0:
            self._held[kind] = []
            self.post_later(self.settings.quiet_seconds, QuietTimeOver(kind))

    @on
    async def quiet_time_over(self, over: QuietTimeOver) -> None:
        """Tell what was held back, as one."""
        held = self._held.pop(over.kind, [])
        if held:
            self._begin_quiet_time(over.kind)
            self._tell(collapsed(held[0], len(held), held[-1], self.settings.quiet_seconds))

    def _tell(self, notice: Notice) -> None:
        for outbox in self._outboxes:
            outbox.add(notice)
        self._deliver_soon()

    def _deliver_soon(self) -> None:
        if not self._due_posted and any(outbox.waiting for outbox in self._outboxes):
            self._due_posted = True
            self.post(Deliver())

    # How it gets there.

    @on
    async def deliver(self, _: Deliver) -> None:
        """Every address's notices in order, up to the first that does not arrive."""
        self._due_posted = False
        for number, outbox in enumerate(self._outboxes):
            if outbox.waiting and self.clock.monotonic() >= outbox.not_before:
                await self._deliver_to(number, outbox)
        await self._keep()
        waits = [outbox.not_before for outbox in self._outboxes if outbox.waiting]
        if waits and not self._due_posted:
            self._due_posted = True
            self.post_later(max(0.0, min(waits) - self.clock.monotonic()) + 0.001, Deliver())

    async def _deliver_to(self, number: int, outbox: _Outbox) -> None:
        while outbox.waiting:
            notice = outbox.waiting[0]
            if outbox.let_go:
                words = f"{notice.body}\n\n{outbox.let_go} older notices were let go while this address did not answer."
                notice = msgspec.structs.replace(notice, body=words)
            title = f"{self.settings.title}: {notice.title}"
            if not await self.blocking(partial(self._post.deliver, number, title, notice)):
                await self._failed(outbox)
                return
            outbox.waiting.popleft()
            outbox.failures = outbox.let_go = 0

    async def _failed(self, outbox: _Outbox) -> None:
        first, most = self.settings.retry_first_seconds, self.settings.retry_most_seconds
        wait = min(most, first * 2.0 ** min(outbox.failures, 30))
        outbox.failures += 1
        outbox.not_before = self.clock.monotonic() + wait
        if outbox.failures == 1:
            await self.send(
                PluginNoted(
                    plugin=self.name,
                    what=f"{outbox.address.label} does not take notices; {len(outbox.waiting)} wait",
                    code="NF-PLUGIN-003",
                    hint="it is tried again by itself; check the address and the network",
                )
            )

    async def on_stop(self) -> None:
        for kind, held in sorted(self._held.items()):
            if held:
                self._tell(collapsed(held[0], len(held), held[-1], self.settings.quiet_seconds))
                self._held[kind] = []
        await self._keep()  # before anything that may be cut short
        for number, outbox in enumerate(self._outboxes):
            if outbox.waiting and not outbox.failures:
                await self._deliver_to(number, outbox)
        await self._keep()

    # What waits outlives a restart.

    async def _keep(self) -> None:
        waiting = {outbox.address.key: list(outbox.waiting) for outbox in self._outboxes if outbox.waiting}
        if waiting or self._on_disk:
            data = msgspec.json.encode(waiting)
            self._on_disk = await self.blocking(lambda: self._write(data)) and bool(waiting)

    def _write(self, data: bytes) -> bool:
        try:
            durable.ensure_directory(self.disk, durable.parent_of(self._file))
            durable.write_file(self.disk, self._file, data)
        except OSError:
            return False  # a full disk is among the news: it is told all the same, from memory
        return True

    def _read(self) -> dict[str, Sequence[Any]]:
        if self.disk.stat(self._file) is None:
            return {}
        try:
            found = msgspec.json.decode(self.disk.read(self._file), type=dict[str, list[Notice]])
        except (OSError, msgspec.DecodeError):
            return {}  # damaged notices are no reason to be silent from now on
        return {key: msgspec.to_builtins(waiting) for key, waiting in found.items()}
