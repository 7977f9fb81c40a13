"""Scenarios of a dropped file's way: claimed out of the inbox, and filed beside its paper; and the status page.

Each is called as its actor calls it, with what the actor does after an error and at its next start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from actors.inbox_watcher.filing import BATCHES, LAST_NUMBER, Claimed, claim, file_away, recover_claims
from actors.inbox_watcher.survey import INBOX
from actors.status_reporter.actor import ACTORS, EVENTS, STATUS, StatusReporter, StatusReporterSettings
from messages import Receipt, Report, Trouble
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation import SimDisk
from tools.exhaustion.durable_protocols import content_of, one_of
from tools.exhaustion.scenario import Broken, Scenario, Shown

NAME = "chats.jsonl"
DATA = b'{"text": "what a person dropped"}\n'
OTHER = b'{"text": "an earlier file of the same name"}\n'
BATCH = "000004"
CLAIMED = Claimed(BATCH, NAME, f"{BATCHES}/{BATCH}/{NAME}", len(DATA), "file")
FOLDERS = ("trained", "rejected", "failed")


def receipt(batch: str) -> Receipt:
    """What training it said."""
    return Receipt(batch, NAME, "blake3:0", 1, 1, 1, 1, 1, "a0001", 1, 0, 0, None, None, 0.0)


def report(batch: str) -> Report:
    """Why it was not trained."""
    return Report(batch, NAME, Trouble("NF-DATA-001", "it is not right", "mend it"))


def home(disk: DiskPort) -> Sequence[Claimed]:
    """What the InboxWatcher does first."""
    for folder in (INBOX, *FOLDERS, BATCHES):
        durable.ensure_directory(disk, folder)
    for folder in (*FOLDERS, BATCHES):
        durable.sweep(disk, folder)
    return recover_claims(disk)


def places(disk: SimDisk, data: bytes) -> list[str]:
    """Where a file of this content lies."""
    return [path for path, found in disk.tree().items() if found == data]


def the_place(disk: SimDisk, data: bytes) -> str:
    """The one place where a file of this content lies."""
    found = places(disk, data)
    if len(found) != 1:
        raise Broken(f"the file is in {len(found)} places: {', '.join(found) or 'it is lost'}")
    return found[0]


# Claiming.


def _prepare_inbox(disk: DiskPort) -> None:
    home(disk)
    durable.write_file(disk, LAST_NUMBER, b"3\n")
    durable.write_file(disk, f"{INBOX}/{NAME}", DATA)


def _claim(disk: DiskPort, _: Any) -> None:
    """An error may come before or after the file was moved, so the next try looks first."""
    if not recover_claims(disk):
        claim(disk, NAME)


def _claimed(disk: SimDisk) -> Shown:
    path = the_place(disk, DATA)
    if path == f"{INBOX}/{NAME}":
        return "old"
    folder = path.removeprefix(f"{BATCHES}/").removesuffix(f"/{NAME}")
    last = content_of(disk, LAST_NUMBER) or b"0"
    if not folder.isdigit() or not 3 < int(folder) <= int(last):
        raise Broken(f"claimed as {path}, and the last number given is {last.decode().strip()}")
    return "new"


def no_empty_claims(disk: SimDisk) -> None:
    """A numbered folder under ``state/batches/`` holds a file."""
    tree = disk.tree()
    for path, data in tree.items():
        name = path.removeprefix(f"{BATCHES}/")
        if data is None and name.isdigit() and not any(other.startswith(f"{path}/") for other in tree):
            raise Broken(f"{path} is left, and empty")


# Filing.


def prepare_claimed(disk: DiskPort) -> None:
    """A file is claimed, and its outcome is about to come."""
    home(disk)
    durable.write_file(disk, LAST_NUMBER, b"4\n")
    durable.ensure_directory(disk, f"{BATCHES}/{BATCH}")
    durable.write_file(disk, CLAIMED.path, DATA)


def _prepare_name_taken(disk: DiskPort) -> None:
    prepare_claimed(disk)
    durable.write_file(disk, f"trained/{NAME}", OTHER)
    durable.write_file(disk, f"trained/{NAME}.receipt.json", msgspec.json.encode(receipt("000001")))


def _file(folder: str, paper: Receipt | Report) -> Callable[[DiskPort, Sequence[Claimed]], None]:
    def act(disk: DiskPort, found: Sequence[Claimed]) -> None:
        # The actor remembers what it claimed until it is filed; one that it does not find at its start is filed.
        if found:
            file_away(disk, found[0], folder, paper)

    return act


def _filed(folder: str, name: str, paper: Receipt | Report) -> Callable[[SimDisk], Shown]:
    kind = "receipt" if isinstance(paper, Receipt) else "report"

    def shown(disk: SimDisk) -> Shown:
        path = the_place(disk, DATA)
        if path == CLAIMED.path:
            return "old"
        if path != f"{folder}/{name}":
            raise Broken(f"it was filed as {path}")
        found = content_of(disk, f"{path}.{kind}.json")
        if found is None or msgspec.json.decode(found, type=type(paper)) != paper:
            raise Broken(f"{path} lies without its {kind}")
        return "new"

    return shown


def _filed_beside_the_other(disk: SimDisk) -> Shown:
    if the_place(disk, OTHER) != f"trained/{NAME}":
        raise Broken("the earlier file is not where it was")
    found = content_of(disk, f"trained/{NAME}.receipt.json") or b"{}"
    if msgspec.json.decode(found, type=Receipt) != receipt("000001"):
        raise Broken("the earlier file has another receipt")
    return _filed("trained", "chats.2.jsonl", receipt(BATCH))(disk)


# The status page.


class _Page:
    """A StatusReporter without a house around it, writing one page and two events."""

    def __init__(self, disk: DiskPort) -> None:
        self.events = [b'{"event": 1}\n', b'{"event": 2}\n']
        self.reporter = _Alone(disk)
        self.reporter._events = list(self.events)

    def write(self) -> None:
        """As ``StatusReporter.write`` has it: what was not written is tried again with the next page."""
        reporter = self.reporter
        reporter._write_files(b"the new page", b"the new actors", b"".join(reporter._events))
        reporter._events.clear()


class _Alone(StatusReporter):
    def __init__(self, disk: DiskPort) -> None:
        super().__init__()
        self.settings = StatusReporterSettings()
        self._alone_on = disk
        self._torn = False
        durable.ensure_directory(disk, "status")
        durable.sweep(disk, "status")

    @property
    def disk(self) -> DiskPort:
        return self._alone_on


def _prepare_status(disk: DiskPort) -> None:
    durable.ensure_directory(disk, "status")
    durable.write_file(disk, STATUS, b"the old page")
    durable.write_file(disk, ACTORS, b"the old actors")


def _status_shown(disk: SimDisk) -> Shown:
    pages = (content_of(disk, STATUS), content_of(disk, ACTORS))
    if pages == (b"the new page", b"the old actors"):
        return "old"  # two files, each whole; not one commit
    return one_of(
        pages, old=(b"the old page", b"the old actors"), new=(b"the new page", b"the new actors"), what="the status"
    )


def _each_event_once(disk: SimDisk) -> None:
    """Where the power stayed, each line stands whole, and once."""
    if content_of(disk, EVENTS) != b'{"event": 1}\n{"event": 2}\n':
        raise Broken(f"events.jsonl reads {content_of(disk, EVENTS)!r}")


FILING: tuple[Scenario, ...] = (
    Scenario(
        name="inbox: a claim",
        prepare=_prepare_inbox,
        recover=home,
        act=_claim,
        shown=_claimed,
        tidy=no_empty_claims,
    ),
    *(
        Scenario(
            name=f"inbox: filed as {folder}",
            prepare=prepare_claimed,
            recover=home,
            act=_file(folder, paper),
            shown=_filed(folder, NAME, paper),
            tidy=no_empty_claims,
        )
        for folder, paper in (
            ("trained", receipt(BATCH)),
            ("rejected", report(BATCH)),
            ("failed", report(BATCH)),
        )
    ),
    Scenario(
        name="inbox: filed beside one of the same name",
        prepare=_prepare_name_taken,
        recover=home,
        act=_file("trained", receipt(BATCH)),
        shown=_filed_beside_the_other,
        tidy=no_empty_claims,
    ),
    Scenario(
        name="status: a page and its events",
        prepare=_prepare_status,
        recover=_Page,
        act=lambda _, page: page.write(),
        shown=_status_shown,
        believed=False,
        after_retry=_each_event_once,
    ),
)
