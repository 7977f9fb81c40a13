"""The simulated disk: what is durable when, what fails how, and that it catches protocols that sync too little."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation import (
    Fault,
    IoError,
    NoSpace,
    PowerCut,
    PowerLost,
    ShortWrite,
    SimDisk,
    Survival,
)
from runtime.simulation.faults import SURVIVALS
from runtime.simulation.inodes import WAITING_MAX


def put(disk: DiskPort, path: str, data: bytes, *, sync: bool = True) -> None:
    handle = disk.create(path)
    disk.write(handle, data)
    if sync:
        disk.fsync(handle)
    disk.close(handle)


def after_cut(disk: SimDisk, survival: Survival = "lose_all", seed: int = 0) -> SimDisk:
    disk.power_cut(survival, random.Random(seed))
    return disk.reboot()


# What is durable when.


def test_content_needs_fsync_and_a_name_needs_fsync_dir() -> None:
    disk = SimDisk()
    put(disk, "both", b"1")
    put(disk, "content_only", b"2", sync=False)
    disk.fsync_dir(".")
    put(disk, "name_unsynced", b"3")
    assert after_cut(disk).tree() == {"both": b"1", "content_only": b""}


def test_everything_survives_a_mere_kill() -> None:
    disk = SimDisk()
    disk.mkdir("a")
    put(disk, "a/x", b"1", sync=False)
    disk.symlink("a/x", "link")
    disk.rename("a/x", "a/y")
    assert after_cut(disk, "keep_all").tree() == disk.tree() == {"a": None, "a/y": b"1", "link": "a/x"}


def test_what_a_killed_program_had_not_synced_is_taken_back_by_a_later_power_cut() -> None:
    disk = SimDisk()
    put(disk, "kept", b"1")
    disk.fsync_dir(".")
    put(disk, "shown", b"2")
    disk.power_cut("keep_all", random.Random(0))
    found = disk.abandoned()
    assert found.tree() == {"kept": b"1", "shown": b"2"}
    assert after_cut(found).tree() == {"kept": b"1"}


def test_what_a_killed_program_had_open_is_closed_and_freed() -> None:
    disk = SimDisk(capacity_bytes=10)
    handle = disk.create("gone")
    disk.write(handle, b"12345")
    disk.unlink("gone")
    put(disk, "open", b"1")
    disk.open_append("open")
    assert disk.being_written("open")
    disk.power_cut("keep_all", random.Random(0))
    found = disk.abandoned()
    assert not found.being_written("open")
    assert found.free_bytes() == 9


def test_a_file_in_a_new_folder_is_lost_with_the_folder() -> None:
    disk = SimDisk()
    disk.mkdir("a")
    put(disk, "a/x", b"1")
    disk.fsync_dir("a")
    assert after_cut(disk).tree() == {}


def test_an_unsynced_delete_comes_back_and_an_unsynced_replace_shows_the_old() -> None:
    disk = SimDisk()
    put(disk, "gone", b"1")
    put(disk, "head", b"old")
    disk.fsync_dir(".")
    disk.unlink("gone")
    put(disk, "head.tmp", b"new")
    disk.rename("head.tmp", "head")
    assert after_cut(disk).tree() == {"gone": b"1", "head": b"old"}


@pytest.mark.parametrize("synced", ["from", "to", "neither"])
def test_a_rename_is_in_both_folders_or_in_neither(synced: str) -> None:
    seen = set()
    for survival in SURVIVALS:
        for seed in range(20):
            disk = SimDisk()
            disk.mkdir("from")
            disk.mkdir("to")
            put(disk, "from/x", b"1")
            for folder in ("from", "."):
                disk.fsync_dir(folder)
            disk.rename("from/x", "to/x")
            if synced != "neither":
                disk.fsync_dir(synced)
            found = after_cut(disk, survival, seed).tree()
            names = tuple(name for name in ("from/x", "to/x") if name in found)
            assert len(names) == 1, f"{survival}: {found}"
            seen.add(names[0])
    assert seen == ({"from/x", "to/x"} if synced == "neither" else {"to/x"})


def test_a_moved_file_does_not_vanish_with_a_folder_that_was_never_synced() -> None:
    for synced in ("from", "new", "."):
        disk = SimDisk()
        disk.mkdir("from")
        put(disk, "from/x", b"1")
        disk.fsync_dir("from")
        disk.fsync_dir(".")
        disk.mkdir("new")
        disk.rename("from/x", "new/x")
        if synced == ".":  # the old folder goes, durably; so the move before it must be durable too
            disk.rmdir("from")
        disk.fsync_dir(synced)
        assert after_cut(disk).tree().get("new/x") == b"1", synced


def test_operations_on_one_name_are_never_reordered() -> None:
    for seed in range(50):
        disk = SimDisk()
        disk.mkdir("a")
        disk.fsync_dir(".")
        put(disk, "tmp", b"1")
        disk.rename("tmp", "a/x")
        disk.fsync_dir("a")  # takes the creation of tmp along: it must not come back
        put(disk, "b", b"2")
        disk.rename("b", "c")
        found = after_cut(disk, "torn", seed).tree()
        assert "tmp" not in found
        assert found["a/x"] == b"1"
        assert not {"b", "c"} <= set(found)


def test_torn_writes_are_lost_whole_cut_or_zeroed_and_never_invented() -> None:
    outcomes = set()
    for seed in range(200):
        disk = SimDisk()
        handle = disk.create("log")
        disk.write(handle, b"synced|")
        disk.fsync(handle)
        disk.fsync_dir(".")
        disk.write(handle, b"aaaa")
        disk.write(handle, b"bbbb")
        found = after_cut(disk, "torn", seed).read("log")
        assert found.startswith(b"synced|")
        assert len(found) <= len(b"synced|aaaabbbb")
        rest = found.removeprefix(b"synced|")
        assert all(byte in (0, whole) for byte, whole in zip(rest, b"aaaabbbb", strict=False))
        outcomes.add(rest)
    assert {b"", b"aaaa", b"aaaabbbb", bytes(4), bytes(4) + b"bbbb", b"aaaa" + bytes(4)} <= outcomes
    assert len(outcomes) > 12


def test_a_torn_journal_survives_as_a_prefix() -> None:
    seen = set()
    for seed in range(60):
        disk = SimDisk()
        for name in "abcd":
            disk.mkdir(name)
        seen.add("".join(sorted(after_cut(disk, "torn", seed).tree())))
    assert seen == {"", "a", "ab", "abc", "abcd"}


def test_the_same_seed_tears_the_same_way() -> None:
    def torn(seed: int) -> dict[str, bytes | str | None]:
        disk = SimDisk()
        for number in range(10):
            put(disk, f"f{number}", bytes([number]) * 10, sync=False)
        return after_cut(disk, "torn", seed).tree()

    assert torn(3) == torn(3)
    assert len({str(torn(seed)) for seed in range(20)}) > 10


def test_long_unsynced_histories_are_written_back_at_last() -> None:
    disk = SimDisk()
    handle = disk.create("log")
    disk.fsync_dir(".")
    for _ in range(WAITING_MAX * 2):
        disk.write(handle, b"x")
        disk.mkdir(f"d{disk.operations}")
    assert len(disk._journal.waiting) <= WAITING_MAX
    found = after_cut(disk)
    assert WAITING_MAX <= len(found.read("log")) < WAITING_MAX * 2
    assert len(found.listdir(".")) > WAITING_MAX


# After the power is gone.


def test_a_disk_without_power_answers_nothing() -> None:
    disk = SimDisk()
    put(disk, "x", b"1")
    handle = disk.open_append("x")
    told: list[BaseException] = []
    disk.on_power_cut = told.append
    pieces = disk.chunks("x", 1)
    next(pieces)
    after_cut(disk)
    calls: list[Callable[[], Any]] = [
        lambda: disk.create("y"),
        lambda: disk.open_append("x"),
        lambda: disk.write(handle, b""),
        lambda: disk.fsync(handle),
        lambda: disk.close(handle),
        lambda: disk.rename("x", "y"),
        lambda: disk.symlink("x", "y"),
        lambda: disk.unlink("x"),
        lambda: disk.mkdir("y"),
        lambda: disk.rmdir("y"),
        lambda: disk.fsync_dir("."),
        lambda: disk.read("x"),
        lambda: next(disk.chunks("x", 1)),
        lambda: next(pieces),
        lambda: disk.listdir("."),
        lambda: disk.stat("x"),
        lambda: disk.readlink("x"),
        lambda: disk.being_written("x"),
        disk.free_bytes,
        lambda: disk.person_put("x", b""),
    ]
    before = disk.operations
    for call in calls:
        with pytest.raises(PowerLost):
            call()
    assert disk.operations == before
    assert len(told) == 1


def test_a_reboot_forgets_handles_and_keeps_the_dead_disk_apart() -> None:
    disk = SimDisk(capacity_bytes=100)
    handle = disk.create("x")
    disk.write(handle, b"12345")
    disk.fsync(handle)
    disk.fsync_dir(".")
    found = after_cut(disk)
    assert found.being_written("x") is False
    assert found.free_bytes() == 95
    with pytest.raises(OSError, match="descriptor"):
        found.write(handle, b"6")
    found.write(found.open_append("x"), b"6")
    assert disk.tree() == {"x": b"12345"}
    put(found, "y", b"")
    assert found.stat("y").inode != found.stat("x").inode  # type: ignore[union-attr]


# Faults.


def nth(number: int, fault: Fault) -> Callable[[int, str, str], Fault | None]:
    return lambda operation, name, path: fault if operation == number else None


def test_every_mutating_primitive_is_a_numbered_fault_point() -> None:
    disk = SimDisk()
    asked: list[tuple[int, str, str]] = []
    disk.faults = lambda number, operation, path: asked.append((number, operation, path))
    handle = disk.create("a")
    disk.write(handle, b"x")
    disk.fsync(handle)
    disk.close(handle)
    disk.close(disk.open_append("a"))  # exists already: nothing changes
    disk.close(disk.open_append("b"))
    disk.rename("b", "c")
    disk.symlink("a", "l")
    disk.unlink("l")
    disk.mkdir("d")
    disk.rmdir("d")
    disk.fsync_dir(".")
    disk.read("a"), disk.listdir("."), disk.stat("a"), disk.free_bytes(), disk.being_written("a")
    disk.person_put("p", b"")
    assert [(operation, path) for _, operation, path in asked] == [
        ("create", "a"),
        ("write", "a"),
        ("fsync", "a"),
        ("create", "b"),
        ("rename", "b -> c"),
        ("symlink", "l"),
        ("unlink", "l"),
        ("mkdir", "d"),
        ("rmdir", "d"),
        ("fsync_dir", "."),
    ]
    assert [number for number, _, _ in asked] == list(range(1, 11))
    assert disk.operations == 10
    assert list(disk.log) == asked


def test_a_failed_fsync_loses_the_data_for_good() -> None:
    for survival in SURVIVALS:
        disk = SimDisk()
        handle = disk.create("x")
        disk.fsync_dir(".")
        disk.write(handle, b"lost")
        disk.faults = nth(disk.operations + 1, IoError())
        with pytest.raises(OSError) as caught:
            disk.fsync(handle)
        assert caught.value.errno == errno.EIO
        disk.write(handle, b"kept")
        disk.fsync(handle)  # succeeds, and has not saved what failed before
        assert disk.read("x") == b"lostkept"
        assert after_cut(disk, survival).read("x") == bytes(4) + b"kept"


def test_out_of_space_comes_before_anything_or_half_way() -> None:
    disk = SimDisk()
    handle = disk.create("x")
    for fault, content in ((NoSpace(), b""), (ShortWrite(), b"ab"), (IoError(), b"ab")):
        disk.faults = nth(disk.operations + 1, fault)
        with pytest.raises(OSError) as caught:
            disk.write(handle, b"abcd")
        assert caught.value.errno == (errno.EIO if isinstance(fault, IoError) else errno.ENOSPC)
        assert disk.read("x") == content
    disk.faults = nth(disk.operations + 1, NoSpace())
    with pytest.raises(OSError, match="space"):
        disk.mkdir("d")
    assert disk.listdir(".") == ["x"]


def test_a_power_cut_comes_before_the_operation_or_half_way_through_it() -> None:
    for halfway, found in ((False, {}), (True, {"x": b""})):
        disk = SimDisk()
        disk.faults = nth(1, PowerCut("keep_all", halfway=halfway))
        with pytest.raises(PowerLost):
            disk.create("x")
        assert disk.reboot().tree() == found

    disk = SimDisk()
    handle = disk.create("x")
    disk.faults = nth(2, PowerCut("keep_all", halfway=True))
    with pytest.raises(PowerLost):
        disk.write(handle, b"abcd")
    assert disk.reboot().tree() == {"x": b"ab"}

    disk = SimDisk()
    disk.mkdir("a")
    disk.mkdir("b")
    disk.faults = nth(3, PowerCut("lose_all", halfway=True))
    with pytest.raises(PowerLost):
        disk.fsync_dir(".")
    assert disk.reboot().tree() == {"a": None}


def test_capacity_is_what_files_hold() -> None:
    disk = SimDisk(capacity_bytes=10)
    handle = disk.create("x")
    disk.write(handle, b"123456")
    assert disk.free_bytes() == 4
    with pytest.raises(OSError, match="space"):
        disk.write(handle, b"abcdef")
    assert disk.read("x") == b"123456abcd"
    disk.unlink("x")
    assert disk.free_bytes() == 0, "held open, so not free yet"
    disk.close(handle)
    assert disk.free_bytes() == 10
    put(disk, "a", b"123")
    put(disk, "b", b"4567")
    disk.rename("a", "b")
    assert disk.free_bytes() == 7
    with pytest.raises(OSError, match="space"):
        disk.person_put("p", b"x" * 8)
    disk.capacity_bytes = 2
    assert disk.free_bytes() == 0


def test_a_turned_bit_is_there_to_be_found() -> None:
    disk = SimDisk()
    put(disk, "x", b"abcd")
    disk.corrupt("x", random.Random(1))
    assert disk.read("x") != b"abcd"
    assert len(disk.read("x")) == 4


# People.


def test_what_a_person_does_is_durable_at_once_and_no_fault_point() -> None:
    disk = SimDisk()
    disk.faults = lambda number, operation, path: PowerCut()
    disk.person_mkdir("inbox")
    disk.person_put("inbox/a", b"1")
    disk.person_put("inbox/b", b"2")
    disk.person_remove("inbox/a")
    assert disk.operations == 0
    assert after_cut(disk).tree() == {"inbox": None, "inbox/b": b"2"}


def test_a_persons_file_does_not_undo_what_the_daemon_did_under_its_name() -> None:
    for survival in SURVIVALS:
        disk = SimDisk()
        disk.mkdir("inbox")
        disk.mkdir("batches")
        disk.person_put("inbox/a", b"first")
        disk.rename("inbox/a", "batches/1")
        disk.person_put("inbox/a", b"second")
        found = after_cut(disk, survival).tree()
        assert found["inbox/a"] == b"second"
        assert found["batches/1"] == b"first"


def test_a_file_in_the_making_is_seen_as_being_written_even_after_a_move() -> None:
    disk = SimDisk()
    disk.begin_person_write("a")
    disk.person_write("a", b"half")
    assert disk.being_written("a") is True
    disk.rename("a", "b")
    assert disk.being_written("b") is True
    disk.person_write("b", b"whole")
    disk.end_person_write("b")
    assert disk.being_written("b") is False
    assert disk.read("b") == b"halfwhole"
    disk.begin_person_write("b")
    assert after_cut(disk, "keep_all").being_written("b") is False


def test_times_come_from_the_given_clock() -> None:
    now = [1000]
    disk = SimDisk(lambda: now[0])
    put(disk, "a", b"")
    now[0] = 2000
    disk.rename("a", "b")
    found = disk.stat("b")
    assert found is not None
    assert (found.modified_ns, found.changed_ns) == (1000, 2000)


def test_there_is_no_real_path() -> None:
    with pytest.raises(RuntimeError, match="simulated"):
        SimDisk().real_path("x")


# Does it catch protocols that sync too little?


def commit(disk: DiskPort, generation: int, without: str = "") -> None:
    """Write a generation, then move HEAD to it. ``without`` leaves one step out."""
    folder = f"generations/{generation}"
    disk.mkdir(folder)
    handle = disk.create(f"{folder}/weights")
    disk.write(handle, f"weights {generation}".encode())
    if without != "fsync of content":
        disk.fsync(handle)
    disk.close(handle)
    if without != "fsync_dir of the new folder":
        disk.fsync_dir(folder)
    if without != "fsync_dir of its parent":
        disk.fsync_dir("generations")
    if disk.stat("HEAD.tmp") is not None:
        disk.unlink("HEAD.tmp")
    handle = disk.create("HEAD.tmp")
    disk.write(handle, str(generation).encode())
    if without != "fsync of HEAD":
        disk.fsync(handle)
    disk.close(handle)
    if without == "save first, delete last" and generation > 1:
        disk.unlink(f"generations/{generation - 1}/weights")
    disk.rename("HEAD.tmp", "HEAD")
    if without != "fsync_dir of HEAD":
        disk.fsync_dir(".")


def commits(disk: DiskPort, acknowledged: list[int], without: str) -> None:
    disk.mkdir("generations")
    disk.fsync_dir(".")
    for generation in (1, 2):
        commit(disk, generation, without)
        acknowledged.append(generation)


def violations(without: str, survival: Survival) -> tuple[int, int]:
    """Cut the power at every operation, before it and half-way. How many ways of dying broke the promise?"""
    disk = SimDisk()
    commits(disk, [], without)
    broken = runs = 0
    # One beyond the last: the power may also go when all is done.
    for number in range(1, disk.operations + 2):
        for halfway in (False, True):
            for seed in range(8 if survival == "torn" else 1):
                runs += 1
                disk = SimDisk()
                disk.faults = nth(number, PowerCut(survival, seed, halfway))
                acknowledged: list[int] = []
                try:
                    commits(disk, acknowledged, without)
                except PowerLost:
                    pass
                else:
                    disk.power_cut(survival, random.Random(seed))
                broken += not sound(disk.reboot(), acknowledged)
    return broken, runs


def sound(disk: SimDisk, acknowledged: list[int]) -> bool:
    """What was acknowledged is in force or replaced by a newer one, and what is in force is whole."""
    if disk.stat("HEAD") is None:
        return not acknowledged
    head = disk.read("HEAD")
    if head not in (b"1", b"2") or int(head) < max(acknowledged, default=0):
        return False
    path = f"generations/{int(head)}/weights"
    return disk.stat(path) is not None and disk.read(path) == b"weights " + head


def test_the_correct_protocol_survives_every_power_cut() -> None:
    for survival in SURVIVALS:
        broken, runs = violations("", survival)
        assert runs > 30
        assert broken == 0, survival


@pytest.mark.parametrize(
    ("without", "caught_by"),
    [
        ("fsync of content", {"lose_all", "torn"}),
        ("fsync_dir of the new folder", {"lose_all", "torn"}),
        ("fsync_dir of its parent", {"lose_all", "torn"}),
        ("fsync of HEAD", {"lose_all", "torn"}),
        ("fsync_dir of HEAD", {"lose_all", "torn"}),
        ("save first, delete last", {"keep_all", "torn"}),
    ],
)
def test_each_missing_step_is_caught(without: str, caught_by: set[str]) -> None:
    caught = {survival for survival in SURVIVALS if violations(without, survival)[0]}
    assert caught == caught_by


# What checkers are told of what has changed.


def write_more(disk: SimDisk) -> None:
    handle = disk.open_append("state/deep/file")
    disk.write(handle, b"more")
    disk.close(handle)


CHANGES: dict[str, Callable[[SimDisk], object]] = {
    "a write": write_more,
    "a new file": lambda disk: put(disk, "state/deep/new", b""),
    "a rename inside": lambda disk: disk.rename("state/deep/file", "state/deep/other"),
    "a rename out of it": lambda disk: disk.rename("state/deep/file", "elsewhere/file"),
    "a rename into it": lambda disk: disk.rename("elsewhere/other", "state/deep/other"),
    "a rename over a file": lambda disk: disk.rename("elsewhere/other", "state/deep/file"),
    "a link": lambda disk: disk.symlink("nowhere", "state/deep/link"),
    "a delete": lambda disk: disk.unlink("state/deep/file"),
    "a new folder": lambda disk: disk.mkdir("state/deep/folder"),
    "a removed folder": lambda disk: disk.rmdir("state/deep/empty"),
    "a file that is put": lambda disk: disk.person_put("state/deep/file", b"whole"),
    "bytes that arrive": lambda disk: disk.person_write("state/deep/file", b"more"),
    "a folder that is put": lambda disk: disk.person_mkdir("state/deep/folder"),
    "what a person takes": lambda disk: disk.person_remove("state/deep/file"),
    "a bit that turns": lambda disk: disk.corrupt("state/deep/file", random.Random(0)),
}


def furnished() -> SimDisk:
    disk = SimDisk()
    for folder in ("state", "state/deep", "state/deep/empty", "elsewhere"):
        disk.mkdir(folder)
    put(disk, "state/deep/file", b"1")
    put(disk, "elsewhere/other", b"22")
    for folder in (".", "state", "state/deep", "elsewhere"):
        disk.fsync_dir(folder)
    return disk


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_has_another_state_after_whatever_changes_below_it(change: str) -> None:
    disk = furnished()
    before = {folder: disk.state_of(folder) for folder in ("state", "state/deep")}
    CHANGES[change](disk)
    assert all(disk.state_of(folder) is not state for folder, state in before.items())


def test_what_is_read_or_synced_or_changed_elsewhere_changes_no_state() -> None:
    disk = furnished()
    before = disk.state_of("state")
    disk.read("state/deep/file")
    disk.listdir("state/deep")
    disk.fsync_dir("state/deep")
    put(disk, "elsewhere/new", b"3")
    assert before is not None
    assert disk.state_of("state") is before


def test_a_folder_that_was_moved_changes_where_it_lies_now() -> None:
    disk = furnished()
    disk.rename("state/deep", "elsewhere/deep")
    before, left = disk.state_of("elsewhere"), disk.state_of("state")
    disk.person_write("elsewhere/deep/file", b"more")
    assert disk.state_of("elsewhere") is not before
    assert disk.state_of("state") is left


def test_after_a_power_cut_every_folder_has_another_state_and_after_a_kill_the_same() -> None:
    disk = furnished()
    before = disk.state_of("state/deep")
    disk.power_cut("keep_all", random.Random(0))
    assert disk.abandoned().state_of("state/deep") is before
    rebooted = disk.reboot()
    cut = rebooted.state_of("state/deep")
    assert cut is not before
    rebooted.corrupt("state/deep/file", random.Random(0))
    assert rebooted.state_of("state/deep") is not cut


def test_where_there_is_no_folder_there_is_no_state() -> None:
    disk = furnished()
    disk.symlink("state", "link")
    for path in ("nothing", "nothing/below", "state/deep/file", "link"):
        assert disk.state_of(path) is None


def test_a_file_is_understood_once_for_each_content() -> None:
    disk, read_through = furnished(), []

    def reader(data: bytes) -> int:
        read_through.append(data)
        return len(data)

    for _ in range(3):
        assert disk.understood("state/deep/file", reader) == 1
    disk.rename("state/deep/file", "elsewhere/file")
    assert disk.understood("elsewhere/file", reader) == 1
    assert read_through == [b"1"]
    disk.person_write("elsewhere/file", b"2")
    assert disk.understood("elsewhere/file", reader) == 2
    disk.corrupt("elsewhere/file", random.Random(0))
    disk.understood("elsewhere/file", reader)
    assert len(read_through) == 3
    put(disk, "state/new", b"1")
    disk.rename("state/new", "elsewhere/file")
    disk.understood("elsewhere/file", reader)
    assert len(read_through) == 4


def test_what_a_reader_refuses_it_refuses_every_time() -> None:
    disk = furnished()
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            disk.understood("state/deep/file", lambda data: int(data + b"x"))
    with pytest.raises(FileNotFoundError):
        disk.understood("state/nothing", len)


def test_bytes_are_counted_as_they_are_by_the_durable_protocols() -> None:
    disk = furnished()
    disk.symlink("state", "elsewhere/link")
    for path in (".", "state", "state/deep/file", "elsewhere", "elsewhere/link", "nothing", "state/deep/file/below"):
        assert disk.bytes_of(path) == durable.size_of(disk, path)


def test_primitives_cost_microseconds() -> None:
    disk = SimDisk()
    disk.mkdir("state")
    disk.mkdir("state/deep")
    best = float("inf")
    for attempt in range(5):
        began = time.perf_counter()
        for number in range(200):
            name = f"state/deep/{attempt}-{number}"
            handle = disk.create(name)
            disk.write(handle, b"x" * 100)
            disk.fsync(handle)
            disk.close(handle)
            disk.rename(name, "state/deep/head")
            disk.fsync_dir("state/deep")
            disk.stat("state/deep/head")
            disk.read("state/deep/head")
        best = min(best, (time.perf_counter() - began) / 200 / 8)
    print(f"{best * 1e6:.2f} microseconds a primitive")
    assert best < 50e-6, "an order of magnitude above what it costs; beyond that something grows"
