"""The Validator: every line of a claimed file is checked before any GPU time is spent on it.

It owns no file and keeps no state that matters: the same claim may be sent to it again at any time.
"""

from __future__ import annotations

import contextlib
import posixpath

import msgspec

from actors.validator.inspection import Inspection, inspect
from actors.validator.settings import ValidatorSettings
from messages import (
    BatchAccepted,
    BatchClaimed,
    BatchFiled,
    BatchRejected,
    BatchTrained,
    FileWithdrawn,
    Report,
    Trouble,
)
from runtime import Actor, on

TRAINED = "trained"
FORGOTTEN = "state/batches/FORGOTTEN"


class _Digest(msgspec.Struct):
    """The part of a receipt that says which content was trained, and as which batch."""

    batch: str
    name: str
    digest: str


class Validator(Actor):
    """See the module."""

    settings: ValidatorSettings
    sends = (BatchAccepted,)

    async def on_start(self) -> None:
        self._accepted: dict[str, BatchAccepted] = {}
        self._trained: dict[str, _Digest] = await self.blocking(self._digests_trained)

    def _digests_trained(self) -> dict[str, _Digest]:
        """What every receipt says, by digest, and what is remembered of those deleted with their files.

        A damaged one only loses the note about a repeat.
        """
        found: dict[str, _Digest] = {}
        with contextlib.suppress(OSError):
            for line in self.disk.read(FORGOTTEN).splitlines() if self.disk.stat(FORGOTTEN) is not None else ():
                with contextlib.suppress(ValueError):
                    remembered = msgspec.json.decode(line, type=_Digest)
                    found[remembered.digest] = remembered
        if self.disk.stat(TRAINED) is None:
            return found
        for name in self.disk.listdir(TRAINED):
            if not name.endswith(".receipt.json"):
                continue
            try:
                receipt = msgspec.json.decode(self.disk.read(posixpath.join(TRAINED, name)), type=_Digest)
            except (OSError, ValueError):  # what msgspec raises over damage, text that is not UTF-8 among it
                continue
            found[receipt.digest] = receipt
        return found

    @on
    async def trained(self, done: BatchTrained) -> None:
        """Remember its content, to note when the same is dropped again."""
        receipt = done.receipt
        self._trained[receipt.digest] = _Digest(receipt.batch, receipt.name, receipt.digest)

    @on
    async def check(self, claimed: BatchClaimed) -> None:
        """Read the whole file and accept or reject it; one that was accepted before is not read again."""
        known = self._accepted.get(claimed.batch)
        if known is not None:
            await self.send(known)
            return
        try:
            found = await self.blocking(lambda: inspect(self.disk, claimed.path, self.settings))
        except FileNotFoundError:
            return  # filed since this claim was sent: it has its outcome
        except OSError as error:
            await self._reject(claimed, Trouble("NF-DATA-006", f"cannot be read: {error}", "see its permissions"), None)
            return
        trouble = self._trouble(claimed, found)
        if trouble is not None:
            await self._reject(claimed, trouble, found)
            return
        accepted = self._accepted[claimed.batch] = BatchAccepted(
            batch=claimed.batch,
            name=claimed.name,
            path=claimed.path,
            digest=found.digest,
            size_bytes=found.size_bytes,
            examples=found.examples,
            warnings=self._warnings(claimed, found),
            line_errors=found.errors,
            line_error_count=found.error_count,
        )
        await self.send(accepted)

    @on
    async def filed(self, done: BatchFiled) -> None:
        """It will not be asked about again."""
        self._accepted.pop(done.batch, None)

    @on
    async def withdrawn(self, gone: FileWithdrawn) -> None:
        """Nor about one that a person took out of ``state/batches/``."""
        self._accepted.pop(gone.batch, None)

    def _trouble(self, claimed: BatchClaimed, found: Inspection) -> Trouble | None:
        if found.error_count and (self.settings.bad_lines == "reject_file" or not found.examples):
            many = f"{found.error_count} of {found.lines} lines are not fit to train"
            mend = f"mend the lines named, then: nightfold retry HOME {claimed.name}"
            return Trouble("NF-DATA-001", many, mend)
        if not found.examples:
            return Trouble("NF-DATA-002", "the file holds no example", "drop a file with one JSON object per line")
        earlier = self._trained_before(claimed, found)
        if self.settings.same_content == "skip" and earlier:
            same = f"the same content was trained as {earlier}"
            return Trouble("NF-DATA-005", same, 'set [validator] same_content = "train" to train it again')
        return None

    def _warnings(self, claimed: BatchClaimed, found: Inspection) -> tuple[str, ...]:
        earlier = self._trained_before(claimed, found)
        if not earlier:
            return found.warnings
        return (*found.warnings, f"the same content was trained before as {earlier}")

    def _trained_before(self, claimed: BatchClaimed, found: Inspection) -> str:
        """The name of another batch with this content; a batch whose receipt lies there already repeats nothing."""
        earlier = self._trained.get(found.digest)
        return earlier.name if earlier is not None and earlier.batch != claimed.batch else ""

    async def _reject(self, claimed: BatchClaimed, trouble: Trouble, found: Inspection | None) -> None:
        report = Report(
            batch=claimed.batch,
            name=claimed.name,
            trouble=trouble,
            errors=found.errors if found else (),
            error_count=found.error_count if found else 0,
            good_lines=found.examples if found else 0,
            when=self.clock.now().isoformat(timespec="seconds"),
        )
        await self.send(BatchRejected(batch=claimed.batch, name=claimed.name, path=claimed.path, report=report))
