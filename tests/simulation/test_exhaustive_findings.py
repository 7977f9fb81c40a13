"""What the sweep found, each in its shortest form, so that it stays mended."""

from __future__ import annotations

import random

import pytest

from actors.checkpointer.head import HEAD_PATH, Head, decode
from actors.checkpointer.verification import verify
from actors.inbox_watcher.filing import file_away
from runtime import durable
from runtime.simulation import Fault, IoError, PowerCut, PowerLost, SimDisk
from tools.exhaustion.filing_protocols import CLAIMED, DATA, home, places, prepare_claimed, receipt
from tools.exhaustion.forking_disk import abandoned, fork
from tools.exhaustion.store_protocols import commit, learnt, store


def after_a_power_cut(disk: SimDisk) -> SimDisk:
    disk.power_cut("lose_all", random.Random(0))
    return disk.reboot()


def test_retention_deletes_nothing_that_the_head_of_before_a_failed_sync_keeps() -> None:
    """The sync of the new HEAD fails: it shows, the old one is on the platter, and what that one keeps must stay."""
    disk = SimDisk()
    made = store(disk)
    for step in (1, 3):
        commit(made, step)
    renamed = False

    def faults(_: int, operation: str, path: str) -> Fault | None:
        nonlocal renamed
        renamed = renamed or (operation == "rename" and path.endswith(HEAD_PATH))
        return IoError() if renamed and operation == "fsync_dir" and path == "state" else None

    disk.faults = faults
    with pytest.raises(OSError, match="Input/output"):
        made.commit(*learnt(5), "test", "now")
    assert made.prune().deleted == (), "the disk still refuses, so nothing may go"
    with pytest.raises(OSError, match="Input/output"):
        made.in_force()  # nor may anybody be told
    found = after_a_power_cut(disk)
    head = decode(found.read(HEAD_PATH), Head, HEAD_PATH)
    assert head.generation == 2
    for kept in head.kept:
        verify(found, kept.path, kept.manifest)


def test_once_the_head_is_synced_after_all_retention_goes_on() -> None:
    disk = SimDisk()
    made = store(disk)
    for step in (1, 3):
        commit(made, step)
    disk.faults = lambda _, operation, path: (
        IoError() if operation == "fsync_dir" and path == "state" and not disk.stat("snapshots/none") else None
    )
    with pytest.raises(OSError, match="Input/output"):
        made.commit(*learnt(5), "test", "now")
    disk.faults = None
    assert made.in_force().generation == 3
    assert made.prune().deleted == ("state/generations/000001",)
    assert after_a_power_cut(disk).stat("state/generations/000003") is not None


def test_a_folder_that_a_killed_process_made_is_durable_before_anything_is_put_into_it() -> None:
    disk = SimDisk()
    disk.mkdir("outer")  # and killed before the sync
    disk = abandoned(disk)
    durable.ensure_directory(disk, "outer/inner")
    durable.write_file(disk, "outer/inner/f", b"kept")
    assert after_a_power_cut(disk).read("outer/inner/f") == b"kept"


def test_a_file_that_a_power_cut_puts_back_is_not_deleted_with_the_folder_it_had_left() -> None:
    """Killed right after the move, before its sync; then start-up removes the empty folder, and the power goes."""
    for at in range(1, 40):
        disk = SimDisk()
        prepare_claimed(disk)
        disk.rename(CLAIMED.path, f"trained/{CLAIMED.name}")
        disk = abandoned(disk)
        disk.faults = lambda number, *_, at=at: PowerCut("lose_all") if number == at else None
        try:
            home(disk)
        except PowerLost:
            found = fork(disk.reboot())
            home(found)
            assert len(places(found, DATA)) == 1, f"lost by a cut at operation {at}"
        else:
            assert at > 5
            return
    pytest.fail("start-up never came to its end")


def test_a_file_filed_again_after_a_kill_is_beside_its_receipt() -> None:
    disk = SimDisk()
    prepare_claimed(disk)
    file_away(disk, CLAIMED, "trained", receipt(CLAIMED.batch))
    assert places(after_a_power_cut(disk), DATA) == [f"trained/{CLAIMED.name}"]
