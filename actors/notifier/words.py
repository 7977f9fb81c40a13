"""What a person reads: one notice for each piece of news, with what happened, whether data is safe and what to do.

Pure: a message in, a notice out, or ``None`` for what nobody needs to be told.
"""

from __future__ import annotations

from typing import Literal

import msgspec

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
from messages.codes import CODES

Kind = Literal[
    "actor_gave_up",
    "batch_failed",
    "batch_rejected",
    "batch_trained",
    "commit_failed",
    "crashed",
    "damage",
    "disk_low",
    "disk_recovered",
    "night_done",
    "night_refused",
    "plugin",
    "stuck",
]
BAD_NEWS: tuple[Kind, ...] = (
    "actor_gave_up",
    "batch_failed",
    "batch_rejected",
    "commit_failed",
    "damage",
    "disk_low",
    "night_refused",
    "plugin",
    "stuck",
)
ERRORS_SHOWN = 5


class Notice(msgspec.Struct, frozen=True):
    """One message to a person. ``about`` is what it must not be told about twice, ``""`` for anything else."""

    kind: Kind
    title: str
    body: str
    about: str = ""

    @property
    def bad(self) -> bool:
        """Is somebody to do something?"""
        return self.kind in BAD_NEWS


def notice_of(message: Message) -> Notice | None:
    """The notice for one message."""
    match message:
        case BatchFailed() | BatchRejected():
            return _of_a_file(message)
        case BatchTrained(receipt=receipt):
            losses = f"loss {_loss(receipt.loss_before)} -> {_loss(receipt.loss_after)}"
            body = f"{message.name} is learnt: {receipt.steps} steps on {receipt.examples} examples, {losses}."
            return Notice("batch_trained", f"learnt {message.name}", body, message.batch)
        case NightFinished():
            body = f"{message.model_path} is in force, after {message.seconds:.0f} s. A fresh adapter has begun on it."
            return Notice("night_done", f"night {message.night} is done", body, message.night)
        case NightRefused():
            body = _with_code(f"The night was refused: {message.why}.", message.code)
            return Notice("night_refused", f"night {message.night} was refused", body, message.night)
        case CommitFailed():
            return Notice("commit_failed", "a checkpoint failed", _with_code(f"{message.why}.", message.code))
        case DamageFound():
            words = f"{message.what}: {message.why}. In its place: {message.instead}."
            return Notice("damage", f"damage in {message.what}", _with_code(words, "NF-STATE-006"))
        case DiskRunningLow(again=0):
            words = f"{_size(message.free_bytes)} free, {_size(message.free_bytes_min)} must be. Training waits."
            return Notice("disk_low", "the disk is nearly full", _with_code(words, "NF-DISK-001"))
        case DiskRecovered():
            return Notice("disk_recovered", "the disk has room again", f"{_size(message.free_bytes)} free.")
        case PluginNoted() if message.code:
            words = _with_code(f"{message.what}.", message.code, message.hint)
            return Notice("plugin", f"{message.plugin}: trouble", words)
    return _of_an_actor(message)


def _of_a_file(message: BatchFailed | BatchRejected) -> Notice:
    kind, word = ("batch_failed", "failed") if isinstance(message, BatchFailed) else ("batch_rejected", "rejected")
    report = message.report
    lines = [f"{message.name}: {report.trouble.message}"]
    lines += [f"  {error}" for error in report.errors[:ERRORS_SHOWN]]
    more = report.error_count - min(len(report.errors), ERRORS_SHOWN)
    if more > 0:
        lines.append(f"  and {more} more")
    body = _with_code("\n".join(lines), report.trouble.code, report.trouble.hint)
    return Notice(kind, f"{word} {message.name}", body, message.batch)  # type: ignore[arg-type]


def _of_an_actor(message: Message) -> Notice | None:
    match message:
        case ActorGaveUp(disabled=True):
            body = _with_code(f"{message.actor} is switched off: {message.why}.", "NF-RUN-006")
            return Notice("actor_gave_up", f"{message.actor} is switched off", body)
        case ActorGaveUp():
            body = _with_code(f"{message.actor} kept failing, and the daemon ends: {message.why}.", "NF-RUN-003")
            return Notice("actor_gave_up", "the daemon gave up", body)
        case ActorCrashed():
            last_line = message.why.strip().rsplit("\n", 1)[-1]
            over = f" over {message.message_type}" if message.message_type else ""
            body = _with_code(f"{message.actor} crashed{over} and is started again: {last_line}.", "NF-RUN-005")
            return Notice("crashed", f"{message.actor} crashed", body)
        case ActorStuck():
            body = _with_code(f"{message.actor} has made no progress for {message.seconds:.0f} s.", "NF-RUN-004")
            return Notice("stuck", f"{message.actor} stands still", body)
    return None


def collapsed(first: Notice, count: int, last: Notice, seconds: float) -> Notice:
    """What stands for ``count`` notices of one kind that were held back."""
    if count == 1:
        return last
    within = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    return Notice(
        last.kind,
        f"{count} more like it: {last.title}",
        f"{count} times within {within}, from “{first.title}” to “{last.title}”. The last:\n\n{last.body}",
    )


def _with_code(words: str, code: str, hint: str = "") -> str:
    """What happened, what to do, whether data is safe, and where to read on."""
    known = CODES.get(code)
    parts = [words]
    if hint or known is not None:
        parts.append(f"What to do: {hint or (known.action if known is not None else '')}")
    if known is not None:
        parts.append(f"Is my data safe? {known.safe}")
        parts.append(f"More: nightfold explain {code}")
    return "\n\n".join(parts)


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
