"""What ``nightfold doctor --deep`` reads beside what every check-up reads: all that can be held against something.

The base: its tensors' places and, from the hub's cache, the digest it was fetched by. The file in training against the
digest it was begun with, trained files against their receipts. Merged models have a module of their own (``models``).
Looks only, and goes on after whatever it finds.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from actors.checkpointer.head import TRAINER_STATE, decode_state
from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings
from messages import Cursor, Receipt, Report
from runtime import OperatorError, durable
from runtime.disk import Disk
from runtime.settings import Composed
from tools.checkups.finding import Findings, error, ok, warning
from tools.checkups.surroundings import base_model_folder
from tools.commands.history import read_head, size

PIECE_BYTES = 1 << 20
PAPERS = (
    ("trained", ".receipt.json", Receipt),
    ("rejected", ".report.json", Report),
    ("failed", ".report.json", Report),
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def deep(home: Path, config: Composed, disk: Disk) -> Findings:
    """All of it, read through ``disk``."""
    yield from base_weights(home, config, disk)
    yield from batches(home, disk)
    yield from papers(disk)


def to_read(home: Path, config: Composed) -> int:
    """About how many bytes a deep check-up reads."""
    disk = Disk(home)
    folder = _base(home, config)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder is not None else 0
    state = ("state/generations", "state/deltas", "state/batches", "snapshots", "consolidated_models")
    papers = ("trained", "rejected", "failed")
    return weights + sum(durable.size_of(disk, name) for name in (*state, *papers))


def base_weights(home: Path, config: Composed, disk: Disk) -> Findings:
    """The fingerprint reads 64 blocks of each file. Here every byte is read, and what the folder knows is compared."""
    folder = _base(home, config)
    if folder is None:
        return  # told by the check of the base model
    read, compared = 0, 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            trouble = _places(path)
            digest = hashlib.sha256()
            for piece in disk.chunks(str(path.absolute()), PIECE_BYTES):
                digest.update(piece)
                read += len(piece)
        except OSError as problem:
            trouble = f"cannot be read: {problem.strerror or problem}"
        else:
            fetched_by = path.resolve().name  # the hub's cache calls a file by the digest it was fetched by
            if _SHA256.fullmatch(fetched_by):
                compared += 1
                if digest.hexdigest() != fetched_by:
                    trouble = "is not what was fetched from the hub"
        if trouble:
            todo = "restore the base model from where you have it; nothing should be learnt on a damaged one"
            yield error("base weights", f"{path.name} {trouble}", todo, "NF-MODEL-003")
    how = (
        f"{compared} file(s) against the digest they were fetched by" if compared else "no digest of all of it is known"
    )
    yield ok("base weights", f"{size(read)} read; {how}")


def _base(home: Path, config: Composed) -> Path | None:
    try:
        return base_model_folder(home, config.take("trainer", TrainerSettings).model)
    except EngineError:
        return None


def _places(path: Path) -> str:
    """Do the tensors fill the file, one after the other? What is wrong, or ``""``."""
    length = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        if header > length - 8:
            return "is cut short: its header is longer than the file"
        try:
            named = json.loads(file.read(header))
            ends = sorted(tuple(one["data_offsets"]) for name, one in named.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError):
            return "has a damaged header"
    at = 0
    for begin, end in ends:
        if begin != at or end < begin:
            return "has a damaged header: its tensors do not follow one another"
        at = end
    return "" if 8 + header + at == length else f"has {length - 8 - header} bytes of tensors, and {at} are named"


def batches(home: Path, disk: Disk) -> Findings:
    """Files on their way are read; the one in training is held against the digest it was begun with."""
    cursor, read = _cursor(home, disk), 0
    for path in _files(disk, "state/batches"):
        if path.count("/") != 3:
            continue
        digest = _digest(disk, path)
        if not digest:
            if disk.stat(path) is None:
                continue  # filed while we looked
            yield error("batches", f"{path} cannot be read", "restore it from where it came", "NF-DISK-003")
            continue
        read += 1
        if cursor is not None and cursor.path == path and digest != cursor.digest:
            words = f"{path} is not the file that {cursor.step} of {cursor.steps} steps were learnt from"
            yield error("batches", words, "restore the file as it was dropped", "NF-TRAIN-003")
    yield ok("batches", f"{read} file(s) on their way read" if read else "no file on its way to read")


def _cursor(home: Path, disk: Disk) -> Cursor | None:
    try:
        head = read_head(home)
        path = f"{head.generation_path}/{TRAINER_STATE}" if head is not None else ""
        return decode_state(disk.read(path), path).cursor if path else None
    except (OperatorError, OSError, msgspec.MsgspecError):
        return None  # told by the checks of what was learnt


def papers(disk: Disk) -> Findings:
    """Each can be read, and a trained file is the one its receipt speaks of."""
    sound = 0
    for folder, suffix, kind in PAPERS:
        for path in _files(disk, folder):
            if not path.endswith(suffix):
                continue
            try:
                paper = msgspec.json.decode(disk.read(path), type=kind)
            except FileNotFoundError:
                continue  # put back while we looked
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as problem:
                todo = "it is for people and told nothing more to the daemon; keep it, or restore it from a backup"
                yield warning("papers", f"{path} cannot be read: {problem}", todo)
                continue
            beside = path.removesuffix(suffix)
            if isinstance(paper, Receipt) and disk.stat(beside) is not None and _digest(disk, beside) != paper.digest:
                words = f"{beside} is not the file its receipt speaks of, or it has changed since"
                yield warning("papers", words, "what was learnt from it stays learnt; restore it if you keep it", "")
            else:
                sound += 1
    yield ok("papers", f"{sound} receipt(s) and report(s) readable")


def _files(disk: Disk, folder: str) -> Iterator[str]:
    found = disk.stat(folder)
    if found is None or found.kind != "dir":
        return
    for name in disk.listdir(folder):
        path = f"{folder}/{name}"
        inner = disk.stat(path)
        if inner is not None and inner.kind == "dir":
            yield from _files(disk, path)
        elif inner is not None and inner.kind == "file":
            yield path


def _digest(disk: Disk, path: str) -> str:
    try:
        return durable.digest_of(disk, path)
    except OSError:
        return ""
