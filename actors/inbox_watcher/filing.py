"""How a file travels: claimed out of the inbox, and filed in its last place beside its receipt or report.

Each function is one durable protocol and may be repeated after a crash at any of its steps. A file is in exactly one
place at any time; the paper beside it is written first, so that a file is never found without its reason.
"""

from __future__ import annotations

import hashlib
import posixpath

import msgspec

from actors.inbox_watcher.survey import BATCH_SUFFIX, INBOX, shown
from messages import Receipt, Report
from runtime import durable
from runtime.disk import DiskPort

BATCHES = "state/batches"
LAST_NUMBER = f"{BATCHES}/LAST"
NAME_BYTES_MAX = 255


class Claimed(msgspec.Struct, frozen=True):
    """A batch under ``state/batches/``. ``kind`` is what lies there: a ``file``, or something that is none."""

    batch: str
    name: str
    path: str
    size_bytes: int
    kind: str


class _Named(msgspec.Struct):
    """The part of a receipt or report that says whose it is."""

    batch: str


def claim(disk: DiskPort, name: str) -> Claimed | None:
    """Give the file the next number and take it out of the inbox; ``None`` if it is no longer there.

    From here on it has a name that is text.
    """
    number = _last_number(disk) + 1
    # The number first: should the rest not happen, it is skipped, never given twice.
    durable.write_file(disk, LAST_NUMBER, f"{number}\n".encode())
    batch = f"{number:06d}"
    folder = f"{BATCHES}/{batch}"
    disk.mkdir(folder)
    disk.fsync_dir(BATCHES)
    try:
        durable.move_file(disk, f"{INBOX}/{name}", f"{folder}/{shown(name)}")
    except FileNotFoundError:
        durable.remove(disk, folder)
        return None
    return _claimed(disk, batch, shown(name))


def recover_claims(disk: DiskPort) -> tuple[Claimed, ...]:
    """Every claimed batch, oldest first; folders left empty by an interrupted claim or filing are removed.

    What is found is made durable before anyone hears of it: the claim may have been cut before its last sync, and a
    batch whose claim a later power cut takes back would be trained again under another number.
    """
    found: list[Claimed] = []
    for batch in sorted((name for name in disk.listdir(BATCHES) if name.isdigit()), key=int):
        names = [name for name in disk.listdir(f"{BATCHES}/{batch}") if not durable.is_leftover(name)]
        if names:
            disk.fsync_dir(f"{BATCHES}/{batch}")
            disk.fsync_dir(INBOX)
            found.append(_claimed(disk, batch, names[0]))
        else:
            # A killed process may have moved the file out and not synced that: a power cut would put it back, into
            # a folder that is being deleted.
            disk.fsync_dir(f"{BATCHES}/{batch}")
            durable.remove(disk, f"{BATCHES}/{batch}")
    return tuple(found)


def file_away(disk: DiskPort, claimed: Claimed, folder: str, paper: Receipt | Report) -> str:
    """Write the paper, move the file beside it, forget the claim; returns the file's last path."""
    kind = "receipt" if isinstance(paper, Receipt) else "report"
    source = disk.stat(claimed.path)
    name = _free_name(disk, folder, claimed, kind)
    durable.write_file(disk, f"{folder}/{paper_name(name, kind)}", _readable(paper))
    if source is not None:
        durable.move_file(disk, claimed.path, f"{folder}/{name}")
    else:
        disk.fsync_dir(folder)  # moved by an earlier try, which may have failed at this very sync
    durable.remove(disk, f"{BATCHES}/{claimed.batch}")
    return f"{folder}/{name}"


def paper_name(name: str, kind: str) -> str:
    """``NAME.receipt.json``; a name too long for that is cut and told apart by a hash."""
    whole = f"{name}.{kind}.json"
    if len(whole.encode("utf-8", "surrogateescape")) <= NAME_BYTES_MAX:
        return whole
    mark = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    short = name.encode("utf-8", "surrogateescape")[:180].decode("utf-8", "ignore")
    return f"{short}~{mark}.{kind}.json"


def _free_name(disk: DiskPort, folder: str, claimed: Claimed, kind: str) -> str:
    """The file's own name, or numbered if an earlier file has it. A paper of this very batch marks an earlier try."""
    stem = claimed.name[: -len(BATCH_SUFFIX)] if claimed.name.lower().endswith(BATCH_SUFFIX) else claimed.name
    ending = claimed.name[len(stem) :]
    number = 1
    while True:
        name = claimed.name if number == 1 else _numbered(stem, number, ending)
        owner = _owner(disk, f"{folder}/{paper_name(name, kind)}")
        if owner == claimed.batch or (owner is None and disk.stat(f"{folder}/{name}") is None):
            return name
        number += 1


def _numbered(stem: str, number: int, ending: str) -> str:
    room = NAME_BYTES_MAX - len(f".{number}{ending}".encode("utf-8", "surrogateescape"))
    return f"{stem.encode('utf-8', 'surrogateescape')[:room].decode('utf-8', 'ignore')}.{number}{ending}"


def _owner(disk: DiskPort, paper: str) -> str | None:
    found = disk.stat(paper)
    if found is None:
        return None
    if found.kind != "file":
        return ""
    try:
        return msgspec.json.decode(disk.read(paper), type=_Named).batch
    except ValueError:  # msgspec's own errors are ValueErrors, and so is what it raises over text that is not UTF-8
        return ""  # somebody else's file under this name


def _claimed(disk: DiskPort, batch: str, name: str) -> Claimed:
    path = posixpath.join(BATCHES, batch, name)
    found = disk.stat(path)
    return Claimed(batch, name, path, found.size if found else 0, found.kind if found else "file")


def _last_number(disk: DiskPort) -> int:
    taken = [int(name) for name in disk.listdir(BATCHES) if name.isdigit()]
    if disk.stat(LAST_NUMBER) is not None:
        written = disk.read(LAST_NUMBER).strip()
        if written.isdigit():
            taken.append(int(written))
    return max(taken, default=0)


def _readable(paper: Receipt | Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(paper), indent=2) + b"\n"
