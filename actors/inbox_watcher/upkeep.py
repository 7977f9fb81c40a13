"""How ``trained/`` is bounded where its owner asks for it: the oldest files go, each with its receipt.

Guarantees:
    * Without a bound nothing is ever deleted, and nothing in ``rejected/`` or ``failed/`` is in any case.
    * Only a whole pair goes: a file and its receipt, of a batch that is no longer on its way, so that its filing is
      finished and durable. What a person put there, or a receipt whose file a person took, is not touched.
    * What a receipt is still needed for is written down first, in ``state/batches/FORGOTTEN``, a line for each: the
      same content dropped again is known as such, and the history can count. It is durable before the file goes, and
      the file goes before its receipt: whatever is interrupted, the next look finds a receipt alone and finishes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import msgspec

from actors.inbox_watcher.filing import BATCHES, paper_name
from messages import Receipt
from runtime import durable
from runtime.disk import DiskPort

TRAINED = "trained"
RECEIPT = ".receipt.json"
FORGOTTEN = f"{BATCHES}/FORGOTTEN"


class Forgotten(msgspec.Struct, frozen=True):
    """What is remembered of a file that was deleted with its receipt. The names are the receipt's own."""

    batch: str
    name: str
    digest: str
    when: str
    last_global_step: int


class TrainedFile(msgspec.Struct, frozen=True):
    """A file in ``trained/`` and its receipt, as they lie there; ``size_bytes`` of both.

    ``name`` is ``""`` where an interrupted deletion has taken the file already.
    """

    name: str
    paper: str
    size_bytes: int
    receipt: Receipt


class Deleted(msgspec.Struct, frozen=True):
    """What went, and what would not."""

    names: tuple[str, ...] = ()
    size_bytes: int = 0
    stuck: tuple[str, ...] = ()


def forgotten(disk: DiskPort) -> tuple[Forgotten, ...]:
    """What was deleted on purpose, oldest first. A line that a power cut tore is passed over."""
    if disk.stat(FORGOTTEN) is None:
        return ()
    found: dict[str, Forgotten] = {}
    for line in disk.read(FORGOTTEN).split(b"\n"):
        with contextlib.suppress(ValueError):
            one = msgspec.json.decode(line, type=Forgotten)
            found[one.batch] = one
    return tuple(found.values())


def judged(
    disk: DiskPort, keep_files: int | None, bytes_max: int | None, on_their_way: Collection[str] = ()
) -> tuple[tuple[TrainedFile, bool, str], ...]:
    """Every pair in ``trained/`` that may be deleted, oldest first: does it stay, and why. The newest always does."""
    verdicts: list[tuple[TrainedFile, bool, str]] = []
    taken = 0
    full = False
    for rank, file in enumerate(sorted(_pairs(disk, on_their_way), key=_age, reverse=True)):
        taken += file.size_bytes
        if not file.name:
            verdicts.append((file, False, "its file was deleted already"))
        elif keep_files is None and bytes_max is None:
            verdicts.append((file, True, "no bound is set: they are kept for ever"))
        elif keep_files is not None and rank >= keep_files:
            verdicts.append((file, False, f"beyond the newest {keep_files}"))
        elif full := full or (rank > 0 and bytes_max is not None and taken > bytes_max):
            verdicts.append((file, False, f"beyond {bytes_max} bytes"))
        else:
            bounds = [f"among the newest {keep_files}"] if keep_files is not None else []
            bounds += [f"within {bytes_max} bytes"] if bytes_max is not None else []
            verdicts.append((file, True, ", ".join(bounds)))
    return tuple(reversed(verdicts))


def forget_oldest(
    disk: DiskPort, keep_files: int | None, bytes_max: int | None, on_their_way: Collection[str] = ()
) -> Deleted:
    """Delete what the bounds do not keep. One that will not go does not keep the others.

    Raises:
        OSError: what is to be remembered could not be written; nothing was deleted.
    """
    if keep_files is None and bytes_max is None:
        return Deleted()
    going = [file for file, stays, _ in judged(disk, keep_files, bytes_max, on_their_way) if not stays]
    if not going:
        return Deleted()
    _remember(disk, [file.receipt for file in going])
    names: list[str] = []
    stuck: list[str] = []
    size = 0
    for file in going:
        try:
            if file.name:
                durable.remove(disk, f"{TRAINED}/{file.name}")
            durable.remove(disk, f"{TRAINED}/{file.paper}")
        except OSError:
            stuck.append(file.name or file.paper)
        else:
            names.append(file.name or file.paper)
            size += file.size_bytes
    return Deleted(tuple(names), size, tuple(stuck))


def _pairs(disk: DiskPort, on_their_way: Collection[str]) -> Iterator[TrainedFile]:
    """Files beside their receipts, and receipts whose file an interrupted deletion has taken already."""
    if disk.stat(TRAINED) is None:
        return
    names = disk.listdir(TRAINED)
    claimed = {*on_their_way, *(disk.listdir(BATCHES) if disk.stat(BATCHES) is not None else ())}
    known = {one.batch for one in forgotten(disk)}
    papers = {paper_name(name, "receipt"): name for name in names if not name.endswith(RECEIPT)}
    for paper in (name for name in names if name.endswith(RECEIPT)):
        raw = disk.read(f"{TRAINED}/{paper}")
        try:
            receipt = msgspec.json.decode(raw, type=Receipt)
        except ValueError:
            continue  # a person's own file, or a damaged receipt: whose file it is nobody knows
        name = papers.get(paper, "")
        found = disk.stat(f"{TRAINED}/{name}") if name else None
        if receipt.batch in claimed or (found is None and receipt.batch not in known):
            continue
        if found is None or found.kind == "file":
            yield TrainedFile(name, paper, len(raw) + (found.size if found else 0), receipt)


def _age(file: TrainedFile) -> tuple[int, str]:
    """Batches are numbered in the order of their arrival, and numbers do not jump with the clock."""
    number = int(file.receipt.batch) if file.receipt.batch.isdecimal() else 0
    return number, file.paper


def _remember(disk: DiskPort, receipts: Collection[Receipt]) -> None:
    """Whole and atomic, not appended: after a failed sync nobody knows what of an appended line is durable."""
    before = forgotten(disk)
    known = {one.batch for one in before}
    new = [
        Forgotten(one.batch, one.name, one.digest, one.when, one.last_global_step)
        for one in receipts
        if one.batch not in known
    ]
    if new:
        lines = (msgspec.json.encode(one) + b"\n" for one in (*before, *new))
        durable.write_file(disk, FORGOTTEN, b"".join(lines))
    else:
        disk.fsync_dir(BATCHES)  # of an earlier try, whose last sync may have failed
