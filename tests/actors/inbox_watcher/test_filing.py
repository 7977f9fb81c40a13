"""A file travels: whatever the power does it is in exactly one place, and its number is never given twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from actors.inbox_watcher.filing import Claimed, claim, file_away, paper_name, recover_claims
from messages import Receipt, Report, Trouble
from runtime import durable
from runtime.disk import Disk
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import SURVIVALS, PowerCut, PowerLost
from tests.actors.stage import CUTS, REFUSALS, clone, cut_after, cut_at, fails_at, operations_of

CONTENT = b'{"text": "one of a kind"}\n'
FOLDERS = ("inbox", "state", "state/batches", "trained", "rejected", "failed")


def report(batch: str = "000001", name: str = "a.jsonl") -> Report:
    return Report(batch=batch, name=name, trouble=Trouble("NF-DATA-001", "bad"))


def receipt(batch: str = "000001", name: str = "a.jsonl") -> Receipt:
    return Receipt(batch, name, "blake3:00", 1, 1, 1, 0, 1, "a0001", 1, 0, 0, None, None, 1.0)


def home(*names: str) -> SimDisk:
    disk = SimDisk()
    for folder in FOLDERS:
        disk.person_mkdir(folder)
    for name in names or ("a.jsonl",):
        disk.person_put(f"inbox/{name}", CONTENT)
    return disk


def claimed_home() -> SimDisk:
    disk = home()
    claim(disk, "a.jsonl")
    return clone(disk)


def places(disk: SimDisk) -> list[str]:
    return [path for path, data in disk.tree().items() if data == CONTENT]


def leftovers(disk: SimDisk) -> list[str]:
    return [path for path in disk.tree() if durable.is_leftover(path.rsplit("/", 1)[-1])]


def restarted(disk: SimDisk) -> tuple[Claimed, ...]:
    """What the actor does at its start."""
    for folder in ("trained", "rejected", "failed", "state/batches"):
        durable.sweep(disk, folder)
    return recover_claims(disk)


def without_power(disk: SimDisk) -> SimDisk:
    """What is found after a power cut in which nothing un-synced survives."""
    return cut_after(lambda: disk, lambda _: None, "lose_all")


def the(claims: tuple[Claimed, ...]) -> Claimed:
    assert len(claims) == 1
    return claims[0]


# Claiming.


def test_a_claim_takes_the_file_out_of_the_inbox_under_the_next_number() -> None:
    disk = home("a.jsonl", "b.jsonl")
    assert claim(disk, "b.jsonl") == Claimed("000001", "b.jsonl", "state/batches/000001/b.jsonl", len(CONTENT), "file")
    assert (claim(disk, "a.jsonl") or pytest.fail("lost")).batch == "000002"
    assert disk.listdir("inbox") == []
    assert [one.name for one in recover_claims(disk)] == ["b.jsonl", "a.jsonl"]


def test_f9_a_file_that_is_gone_is_not_claimed_and_leaves_nothing() -> None:
    disk = home()
    assert claim(disk, "ghost.jsonl") is None
    assert disk.listdir("state/batches") == ["LAST"]
    # Its number is skipped, never given twice.
    assert (claim(disk, "a.jsonl") or pytest.fail("lost")).batch == "000002"


def test_b2_power_cut_at_every_operation_of_a_claim_leaves_the_file_in_one_place() -> None:
    def job(disk: SimDisk) -> object:
        return claim(disk, "a.jsonl")

    count = operations_of(home, job)
    assert count >= 10
    seen = set()
    for point in range(1, count + 1):
        for cut in CUTS:
            disk = cut_at(home, job, point, cut)
            claims = restarted(disk)
            (place,) = places(disk)
            assert leftovers(disk) == []
            seen.add(place)
            if place == "inbox/a.jsonl":
                assert claims == ()
                again = claim(disk, "a.jsonl") or pytest.fail("lost")
            else:
                again = the(claims)
                assert again.path == place
            # A number once given is never given again, even where the claim did not come through.
            disk.person_put("inbox/next.jsonl", b"next")
            after = claim(disk, "next.jsonl") or pytest.fail("lost")
            assert int(after.batch) > int(again.batch)
    assert seen == {"inbox/a.jsonl", "state/batches/000001/a.jsonl"}
    for survival in SURVIVALS:
        assert places(cut_after(home, job, survival)) == ["state/batches/000001/a.jsonl"]


def test_d5_a_disk_that_refuses_at_every_operation_of_a_claim_loses_nothing() -> None:
    def job(disk: SimDisk) -> object:
        return claim(disk, "a.jsonl")

    for point in range(1, operations_of(home, job) + 1):
        for fault in REFUSALS:
            disk = home()
            fails_at(disk, point, fault)
            try:
                job(disk)
            except OSError:
                disk.faults = None
            assert len(places(disk)) == 1
            claims = restarted(disk)
            found = the(claims) if claims else claim(disk, "a.jsonl")
            assert found is not None
            assert places(disk) == [found.path]


def test_numbers_never_repeat_after_every_folder_is_gone() -> None:
    disk = home("a.jsonl")
    first = claim(disk, "a.jsonl") or pytest.fail("lost")
    file_away(disk, first, "trained", receipt())
    assert disk.listdir("state/batches") == ["LAST"]
    disk.person_put("inbox/a.jsonl", CONTENT)
    assert (claim(disk, "a.jsonl") or pytest.fail("lost")).batch == "000002"


@pytest.mark.parametrize("damage", [b"", b"x", b"\xff", b"-3"])
def test_numbers_never_repeat_while_any_batch_is_claimed_though_the_last_number_is_damaged(damage: bytes) -> None:
    disk = home("a.jsonl", "b.jsonl")
    claim(disk, "a.jsonl")
    disk.person_put("state/batches/LAST", damage)
    assert (claim(disk, "b.jsonl") or pytest.fail("lost")).batch == "000002"


def test_b6_batches_past_999999_come_in_the_order_of_their_numbers() -> None:
    disk = home("a.jsonl", "b.jsonl")
    disk.person_put("state/batches/LAST", b"999998\n")
    for name in ("b.jsonl", "a.jsonl"):
        claim(disk, name)
    assert [(one.batch, one.name) for one in recover_claims(disk)] == [("999999", "b.jsonl"), ("1000000", "a.jsonl")]


def test_f7_what_is_no_file_is_claimed_as_what_it_is() -> None:
    disk = home()
    disk.symlink("/etc/passwd", "inbox/link.jsonl")
    disk.person_mkdir("inbox/folder.jsonl")
    assert (claim(disk, "link.jsonl") or pytest.fail("lost")).kind == "link"
    assert (claim(disk, "folder.jsonl") or pytest.fail("lost")).kind == "dir"
    assert [one.kind for one in recover_claims(disk)] == ["link", "dir"]


# Filing.


def test_a_file_ends_beside_its_paper() -> None:
    disk = claimed_home()
    assert file_away(disk, the(recover_claims(disk)), "trained", receipt()) == "trained/a.jsonl"
    assert disk.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]
    assert msgspec.json.decode(disk.read("trained/a.jsonl.receipt.json"), type=Receipt) == receipt()
    assert recover_claims(disk) == ()
    disk.person_put("inbox/b.jsonl", CONTENT)
    second = claim(disk, "b.jsonl") or pytest.fail("lost")
    assert file_away(disk, second, "rejected", report("000002", "b.jsonl")) == "rejected/b.jsonl"
    assert disk.listdir("rejected") == ["b.jsonl", "b.jsonl.report.json"]


def _file_it(disk: SimDisk) -> object:
    return [file_away(disk, one, "trained", receipt()) for one in recover_claims(disk)]


def test_b2_power_cut_at_every_operation_of_filing_may_be_repeated() -> None:
    count = operations_of(claimed_home, _file_it)
    assert count >= 10
    for point in range(1, count + 1):
        for cut in CUTS:
            disk = cut_at(claimed_home, _file_it, point, cut)
            assert len(places(disk)) == 1
            if places(disk) == ["trained/a.jsonl"]:
                assert disk.stat("trained/a.jsonl.receipt.json") is not None, "a file without its reason"
            restarted(disk)
            _file_it(disk)
            assert places(disk) == ["trained/a.jsonl"]
            assert disk.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]
            assert disk.listdir("state/batches") == ["LAST"]
    for survival in SURVIVALS:
        found = cut_after(claimed_home, _file_it, survival)
        assert found.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]


def test_d5_a_disk_that_refuses_at_every_operation_of_filing_may_be_repeated_without_a_restart() -> None:
    for point in range(1, operations_of(claimed_home, _file_it) + 1):
        for fault in REFUSALS:
            disk = claimed_home()
            one = the(recover_claims(disk))
            fails_at(disk, point, fault)
            try:
                file_away(disk, one, "trained", receipt())
            except OSError:
                disk.faults = None
                assert file_away(disk, one, "trained", receipt()) == "trained/a.jsonl"
            assert places(disk) == ["trained/a.jsonl"]
            restarted(disk)
            assert disk.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]


def test_b2_a_second_power_cut_while_filing_again() -> None:
    for point in range(1, operations_of(claimed_home, _file_it) + 1):
        disk = cut_at(claimed_home, _file_it, point, PowerCut("torn", seed=point, halfway=True))
        for second in range(1, operations_of(lambda disk=disk: clone(disk), _file_it) + 1):  # type: ignore[misc]
            found = clone(disk)
            fails_at(found, second, PowerCut("lose_all"))
            with pytest.raises(PowerLost):
                _file_it(found)
            found = found.reboot()
            restarted(found)
            _file_it(found)
            assert found.listdir("trained") == ["a.jsonl", "a.jsonl.receipt.json"]


def test_f6_the_same_name_again_is_numbered_and_both_are_kept() -> None:
    disk = home()
    paths = []
    for number in range(1, 4):
        disk.person_put("inbox/a.jsonl", b"%d" % number)
        one = claim(disk, "a.jsonl") or pytest.fail("lost")
        paths.append(file_away(disk, one, "trained", receipt(one.batch)))
    assert paths == ["trained/a.jsonl", "trained/a.2.jsonl", "trained/a.3.jsonl"]
    assert [disk.read(path) for path in paths] == [b"1", b"2", b"3"]
    assert disk.stat("trained/a.3.jsonl.receipt.json") is not None


def test_f6_a_foreign_file_under_the_papers_name_is_not_written_over() -> None:
    foreign: dict[str, Callable[[SimDisk, str], None]] = {
        "text": lambda disk, path: disk.person_put(path, b"my notes"),
        "not UTF-8": lambda disk, path: disk.person_put(path, b'{"batch": "\xff"}'),
        "another's": lambda disk, path: disk.person_put(path, b'{"batch": "000099"}'),
        "a folder": lambda disk, path: disk.person_mkdir(path),
        "a link": lambda disk, path: disk.symlink("nowhere", path),
    }
    for put in foreign.values():
        disk = claimed_home()
        put(disk, "trained/a.jsonl.receipt.json")
        before = disk.tree()["trained/a.jsonl.receipt.json"]
        assert file_away(disk, the(recover_claims(disk)), "trained", receipt()) == "trained/a.2.jsonl"
        assert disk.tree()["trained/a.jsonl.receipt.json"] == before


def test_f6_a_persons_file_under_the_name_is_not_written_over() -> None:
    disk = claimed_home()
    disk.person_put("trained/a.jsonl", b"mine")
    assert file_away(disk, the(recover_claims(disk)), "trained", receipt()) == "trained/a.2.jsonl"
    assert disk.read("trained/a.jsonl") == b"mine"


def test_a_claimed_file_that_is_gone_still_gets_its_paper() -> None:
    disk = claimed_home()
    one = the(recover_claims(disk))
    disk.person_remove(one.path)
    file_away(disk, one, "failed", report())
    assert disk.listdir("failed") == ["a.jsonl.report.json"]
    assert disk.listdir("state/batches") == ["LAST"]


# F7: names as long as they get, on a real file system.

LONG = "x" * 249 + ".jsonl"
LONG_WIDE = "\N{GREEK SMALL LETTER ALPHA}" * 124 + "y.jsonl"  # 255 bytes
LONG_RAW = "\udce9" * 249 + ".jsonl"  # 255 bytes that are not UTF-8


@pytest.mark.parametrize(
    "name", [LONG, LONG_WIDE, LONG_RAW, "-rf.jsonl", "a\nb\x1b[31m.jsonl", "\N{PARTY POPPER}.jsonl"]
)
def test_f7_any_name_travels_twice(tmp_path: Path, name: str) -> None:
    disk = Disk(tmp_path)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir()
    for number in (1, 2):
        (tmp_path / "inbox" / name).write_bytes(b"%d" % number)
        one = claim(disk, name) or pytest.fail("lost")
        path = file_away(disk, one, "trained", receipt(one.batch, one.name))
        assert (tmp_path / path).read_bytes() == b"%d" % number
        paper = paper_name(path.removeprefix("trained/"), "receipt")
        assert msgspec.json.decode((tmp_path / "trained" / paper).read_bytes(), type=Receipt).batch == one.batch
    assert len(disk.listdir("trained")) == 4
    assert recover_claims(disk) == ()


def test_f7_two_long_names_have_two_papers() -> None:
    names = {paper_name("x" * 240 + mark + ".jsonl", "receipt") for mark in "abc"}
    assert len(names) == 3
    assert all(len(name.encode()) <= 255 for name in names)


# A sync that fails, and a power cut later: what was told as done must not be taken back.


def test_b2_a_claim_taken_up_after_a_failed_sync_outlives_a_power_cut() -> None:
    """Or the batch would be trained once under this number and once more under the next."""
    for point in range(1, operations_of(home, lambda disk: claim(disk, "a.jsonl")) + 1):
        for fault in REFUSALS:
            disk = home()
            fails_at(disk, point, fault)
            try:
                claim(disk, "a.jsonl")
            except OSError:
                disk.faults = None
                taken_up = recover_claims(disk)
                after = without_power(disk)
                assert [one.path for one in recover_claims(after)] == [one.path for one in taken_up]


def test_b2_a_filing_repeated_after_a_failed_sync_outlives_a_power_cut() -> None:
    """Or the file would be among the claimed again when nobody remembers its outcome."""
    for point in range(1, operations_of(claimed_home, _file_it) + 1):
        for fault in REFUSALS:
            disk = claimed_home()
            one = the(recover_claims(disk))
            fails_at(disk, point, fault)
            try:
                file_away(disk, one, "trained", receipt())
            except OSError:
                disk.faults = None
                file_away(disk, one, "trained", receipt())
            after = without_power(disk)
            assert places(after) == ["trained/a.jsonl"]
