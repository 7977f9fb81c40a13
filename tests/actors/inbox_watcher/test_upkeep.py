"""Bounds of trained/: only where asked for, oldest first, a file and its receipt together, and never one on its way."""

from __future__ import annotations

import msgspec
import pytest

from actors.inbox_watcher.filing import BATCHES, Claimed, file_away
from actors.inbox_watcher.upkeep import FORGOTTEN, Deleted, forget_oldest, forgotten, judged
from messages import Receipt
from runtime import durable
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import SURVIVALS, Fault, IoError, PowerCut
from tests.actors.stage import REFUSALS, clone, cut_at, fails_at, operations_of
from tools.exhaustion.filing_protocols import receipt

DATA = b'{"text": "x"}\n'


def filed(disk: SimDisk, number: int, name: str = "", folder: str = "trained") -> None:
    batch = f"{number:06d}"
    name = name or f"file-{number}.jsonl"
    durable.ensure_directory(disk, f"{BATCHES}/{batch}")
    durable.ensure_directory(disk, folder)
    durable.write_file(disk, f"{BATCHES}/{batch}/{name}", DATA)
    claimed = Claimed(batch, name, f"{BATCHES}/{batch}/{name}", len(DATA), "file")
    file_away(disk, claimed, folder, _receipt(batch, name))


def _receipt(batch: str, name: str) -> Receipt:
    return msgspec.structs.replace(receipt(batch), name=name, digest=f"blake3:{batch}", last_global_step=int(batch))


def lived(files: int = 5) -> SimDisk:
    disk = SimDisk()
    for number in range(1, files + 1):
        filed(disk, number)
    return disk


def names(disk: SimDisk) -> list[str]:
    return [name for name in disk.listdir("trained") if not name.endswith(".json")]


def whole(disk: SimDisk) -> None:
    """Each file lies beside its receipt, and of each there ever was it is known what it held."""
    papers = {name for name in disk.listdir("trained") if name.endswith(".receipt.json")}
    assert {f"{name}.receipt.json" for name in names(disk)} == papers
    known = {one.digest for one in forgotten(disk)}
    for number in range(1, 6):
        assert f"file-{number}.jsonl" in names(disk) or f"blake3:{number:06d}" in known


def test_without_a_bound_nothing_is_deleted_and_nothing_is_written() -> None:
    disk = lived()
    before = disk.tree()
    assert forget_oldest(disk, None, None) == Deleted()
    assert disk.tree() == before
    assert {why for _, _, why in judged(disk, None, None)} == {"no bound is set: they are kept for ever"}


@pytest.mark.parametrize(("files", "pairs"), [(2, None), (None, 2), (3, 2), (2, 3)])
def test_the_oldest_go_by_number_and_by_bytes(files: int | None, pairs: int | None) -> None:
    disk = lived()
    size = judged(disk, None, None)[0][0].size_bytes
    told = [file.name for file, stays, _ in judged(disk, files, pairs and pairs * size) if not stays]
    done = forget_oldest(disk, files, pairs and pairs * size)
    assert list(done.names) == told == ["file-1.jsonl", "file-2.jsonl", "file-3.jsonl"]
    assert (done.size_bytes, done.stuck) == (3 * size, ())
    assert names(disk) == ["file-4.jsonl", "file-5.jsonl"]
    assert [(one.batch, one.name) for one in forgotten(disk)] == [(f"{n:06d}", f"file-{n}.jsonl") for n in (1, 2, 3)]
    whole(disk)
    assert forget_oldest(disk, files, pairs and pairs * size) == Deleted()


def test_the_newest_stays_however_large() -> None:
    disk = lived()
    forget_oldest(disk, None, 1)
    assert names(disk) == ["file-5.jsonl"]


def test_age_is_the_number_of_the_batch_and_not_the_name() -> None:
    disk = SimDisk()
    for number, name in ((1_000_000, "a.jsonl"), (999_999, "b.jsonl"), (2, "c.jsonl")):
        filed(disk, number, name)
    forget_oldest(disk, 1, None)
    assert names(disk) == ["a.jsonl"]


def test_what_is_on_its_way_is_not_touched() -> None:
    """Its paper is written first and it is forgotten last: in between it lies in trained/ and is not done."""
    disk = lived()
    durable.ensure_directory(disk, f"{BATCHES}/000001")
    assert forget_oldest(disk, 1, None, on_their_way=("000002",)).names == ("file-3.jsonl", "file-4.jsonl")
    assert names(disk) == ["file-1.jsonl", "file-2.jsonl", "file-5.jsonl"]


def test_what_a_person_put_or_left_there_is_not_touched() -> None:
    disk = lived()
    disk.person_put("trained/notes.txt", b"mine")
    disk.person_put("trained/a.jsonl", b"no receipt")
    disk.person_put("trained/b.jsonl", DATA)
    disk.person_put("trained/b.jsonl.receipt.json", b"{ damaged")
    disk.person_remove("trained/file-1.jsonl")
    forget_oldest(disk, 1, None)
    left = disk.listdir("trained")
    assert {"notes.txt", "a.jsonl", "b.jsonl", "b.jsonl.receipt.json", "file-1.jsonl.receipt.json"} <= set(left)
    assert names(disk) == ["a.jsonl", "b.jsonl", "file-5.jsonl", "notes.txt"]


def test_rejected_and_failed_files_stay_whatever_the_bound() -> None:
    disk = lived()
    filed(disk, 6, folder="rejected")
    filed(disk, 7, folder="failed")
    forget_oldest(disk, 1, 1)
    assert len(disk.listdir("rejected")) == len(disk.listdir("failed")) == 2


def test_a_long_name_goes_with_its_shortened_receipt() -> None:
    disk = lived(2)
    long = "x" * 249 + ".jsonl"
    filed(disk, 3, long)
    filed(disk, 4)
    assert long in forget_oldest(disk, 1, None).names
    assert len(disk.listdir("trained")) == 2


def _forget(disk: SimDisk) -> object:
    return forget_oldest(disk, 2, None)


def test_b2_a_power_cut_at_every_operation_loses_no_file_without_remembering_it() -> None:
    count = operations_of(lived, _forget)
    assert count > 12
    for point in range(1, count + 1):
        for survival in SURVIVALS:
            disk = cut_at(lived, _forget, point, PowerCut(survival, seed=point, halfway=True))
            for folder in ("trained", BATCHES):
                durable.sweep(disk, folder)
            known = {one.digest for one in forgotten(disk)}
            for number in range(1, 6):
                assert disk.stat(f"trained/file-{number}.jsonl") or f"blake3:{number:06d}" in known
            _forget(disk)
            assert names(disk) == ["file-4.jsonl", "file-5.jsonl"]
            whole(disk)


def test_d5_a_disk_that_refuses_at_every_operation() -> None:
    for point in range(1, operations_of(lived, _forget) + 1):
        for fault in REFUSALS:
            disk = lived()
            fails_at(disk, point, fault)
            try:
                _forget(disk)
            except OSError:
                assert len(names(disk)) == 5, "what cannot be remembered is not deleted"
            disk = clone(disk)
            _forget(disk)
            assert names(disk) == ["file-4.jsonl", "file-5.jsonl"]
            whole(disk)


def test_what_will_not_go_is_told_and_does_not_keep_the_others() -> None:
    disk = lived()

    def stubborn(_number: int, operation: str, path: str) -> Fault | None:
        return IoError() if operation == "unlink" and path == "trained/file-1.jsonl" else None

    disk.faults = stubborn
    done = _forget(disk)
    assert isinstance(done, Deleted)
    assert (done.stuck, done.names) == (("file-1.jsonl",), ("file-2.jsonl", "file-3.jsonl"))


def test_a_torn_line_is_passed_over() -> None:
    disk = lived()
    _forget(disk)
    disk.person_put(FORGOTTEN, disk.read(FORGOTTEN)[:-5])
    assert [one.batch for one in forgotten(disk)] == ["000001", "000002"]
