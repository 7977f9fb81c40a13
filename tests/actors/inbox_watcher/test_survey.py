"""What one look at the inbox says: order of arrival, what is complete, what is never taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from actors.inbox_watcher.survey import Seen, Survey, is_batch_name, survey
from runtime.disk import Disk
from runtime.simulation.disk import SimDisk

QUIET, SETTLE = 0.5, 5.0


class Inbox:
    """A simulated inbox with a clock that the test sets, and looks that remember."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.disk = SimDisk(lambda: int(self.time * 1e9))
        self.disk.person_mkdir("inbox")
        self.seen: Mapping[str, Seen] = {}

    def put(self, name: str, data: bytes = b"{}\n") -> None:
        self.disk.person_put(f"inbox/{name}", data)

    def look(self, after: float = 0.0) -> Survey:
        self.time += after
        found = survey(self.disk, self.seen, self.time, settle_seconds=SETTLE, quiet_seconds=QUIET)
        self.seen = found.seen
        return found


class Mute(SimDisk):
    """A file system that cannot say who writes, or may not be asked."""

    answer: bool | OSError | None = None

    def being_written(self, path: str) -> bool | None:
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_f5_files_come_in_the_order_of_their_arrival_not_of_their_names(inbox: Inbox) -> None:
    for name in ("c.jsonl", "a.jsonl", "b.jsonl"):
        inbox.put(name)
        inbox.time += 1
    inbox.look()
    assert inbox.look(after=1).ready == ("c.jsonl", "a.jsonl", "b.jsonl")


def test_f5_a_rename_into_the_inbox_is_the_arrival(inbox: Inbox) -> None:
    inbox.put("old.jsonl.part")
    inbox.time += 1
    inbox.put("new.jsonl")
    inbox.time += 1
    inbox.disk.rename("inbox/old.jsonl.part", "inbox/old.jsonl")
    inbox.look()
    assert inbox.look(after=1).ready == ("new.jsonl", "old.jsonl")


def test_f5_files_of_the_same_moment_come_by_name(inbox: Inbox) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        inbox.put(name)
    inbox.look()
    assert inbox.look(after=1).ready == ("a.jsonl", "b.jsonl")


def test_f4_a_file_is_ready_once_it_was_unchanged_for_the_quiet_time(inbox: Inbox) -> None:
    inbox.put("a.jsonl")
    assert inbox.look().unready == ("a.jsonl",)
    assert inbox.look(after=0.4).unready == ("a.jsonl",)
    assert inbox.look(after=0.1).ready == ("a.jsonl",)


def test_f4_every_change_begins_the_quiet_time_anew(inbox: Inbox) -> None:
    inbox.put("a.jsonl")
    inbox.look()
    inbox.disk.person_write("inbox/a.jsonl", b"more\n")  # longer
    assert inbox.look(after=0.5).ready == ()
    inbox.put("a.jsonl", inbox.disk.read("inbox/a.jsonl"))  # another file, same size
    assert inbox.look(after=0.5).ready == ()
    assert inbox.look(after=0.5).ready == ("a.jsonl",)


def test_f4_a_file_that_is_open_for_writing_waits_however_long_it_takes(inbox: Inbox) -> None:
    inbox.disk.begin_person_write("inbox/a.jsonl")
    inbox.look()
    assert inbox.look(after=86_400).unready == ("a.jsonl",)
    inbox.disk.end_person_write("inbox/a.jsonl")
    assert inbox.look(after=0.1).ready == ("a.jsonl",)


@pytest.mark.parametrize("answer", [None, PermissionError(13, "not ours")])
def test_f8_where_the_system_cannot_say_who_writes_the_settle_time_decides(answer: OSError | None) -> None:
    inbox = Inbox()
    disk = Mute(lambda: int(inbox.time * 1e9))
    disk.answer = answer
    disk.person_mkdir("inbox")
    inbox.disk = disk
    inbox.put("a.jsonl")
    inbox.look()
    assert inbox.look(after=4.9).unready == ("a.jsonl",)
    assert inbox.look(after=0.1).ready == ("a.jsonl",)


@pytest.mark.parametrize(
    "name",
    [".a.jsonl", "~a.jsonl", "a.jsonl.part", "a.jsonl.tmp", "a.jsonl~", "a.jsonl.crdownload", "a.json", "README", ".x"],
)
def test_f4_hidden_and_unfinished_names_are_ignored(inbox: Inbox, name: str) -> None:
    inbox.put(name)
    inbox.look()
    found = inbox.look(after=100)
    assert (found.ready, found.unready, found.odd, found.ignored) == ((), (), (), (name,))
    assert not is_batch_name(name)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "A.JSONL", "-rf.jsonl", "a\nb.jsonl", "\N{PARTY POPPER}.jsonl", "a b.jsonl"]
)
def test_f7_odd_names_are_taken(inbox: Inbox, name: str) -> None:
    inbox.put(name)
    inbox.look()
    assert inbox.look(after=1).ready == (name,)


def test_f7_a_name_that_is_not_utf8_is_taken(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "caf\udce9.jsonl").write_bytes(b"{}\n")
    disk = Disk(tmp_path)
    first = survey(disk, {}, 0.0, settle_seconds=SETTLE, quiet_seconds=QUIET)
    assert survey(disk, first.seen, 9.0, settle_seconds=SETTLE, quiet_seconds=QUIET).ready == ("caf\udce9.jsonl",)


def test_f7_links_and_folders_are_odd_and_never_ready(inbox: Inbox) -> None:
    inbox.disk.symlink("/etc/passwd", "inbox/link.jsonl")
    inbox.disk.person_mkdir("inbox/folder.jsonl")
    found = inbox.look(after=100)
    assert found.odd == ("folder.jsonl", "link.jsonl")
    assert found.ready == found.unready == ()


def test_there_is_no_inbox(inbox: Inbox) -> None:
    inbox.disk.person_remove("inbox")
    assert inbox.look() == Survey()
    inbox.disk.person_put("inbox", b"a file in its place")
    assert inbox.look().inbox_inode == 0


def test_a_file_that_goes_between_the_listing_and_the_look_is_not_there(inbox: Inbox) -> None:
    inbox.put("a.jsonl")
    listdir = inbox.disk.listdir
    inbox.disk.listdir = lambda path: [*listdir(path), "ghost.jsonl"]  # type: ignore[method-assign]
    assert inbox.look().unready == ("a.jsonl",)


def test_f5_ten_thousand_files_are_looked_at_in_one_go(inbox: Inbox) -> None:
    for number in range(10_000):
        inbox.put(f"{number * 7919 % 10_000}.jsonl")
        inbox.time += 0.001
    inbox.look()
    ready = inbox.look(after=1).ready
    assert len(ready) == 10_000
    assert ready[:3] == ("0.jsonl", "7919.jsonl", "5838.jsonl")


def test_f5_of_ten_thousand_only_as_many_are_looked_at_closely_as_can_be_taken() -> None:
    asked: list[str] = []

    class Asked(SimDisk):
        def being_written(self, path: str) -> bool | None:
            asked.append(path)
            return super().being_written(path)

    disk = Asked(lambda: 10**12)
    disk.person_mkdir("inbox")
    names = [f"{number:05d}.jsonl" for number in range(10_000)]
    for name in names:
        disk.person_put(f"inbox/{name}", b"{}\n")
    disk.begin_person_write("inbox/00001.jsonl")
    before = survey(disk, {}, 0.0, settle_seconds=SETTLE, quiet_seconds=QUIET, wanted=3).seen
    found = survey(disk, before, 1.0, settle_seconds=SETTLE, quiet_seconds=QUIET, wanted=3)
    assert found.ready == (names[0], names[2], names[3])
    assert found.unready == (names[1],)
    assert found.later == tuple(names[4:])
    assert len(asked) == 4
