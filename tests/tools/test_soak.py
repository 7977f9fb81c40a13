"""The soak: each of its checks is shown a breach and finds it; its people lose nothing; and a short one is clean."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from actors.inbox_watcher.filing import paper_name
from runtime.home_lock import living_pid
from tests.real.daemons import PROJECT, environment, until_gone
from tools.soak import audit, people
from tools.soak.checks import (
    CHECKS,
    DESCRIPTORS_MORE,
    MEMORY_BYTES,
    SAMPLES_MIN,
    THREADS_MORE,
    Epoch,
    Evidence,
    Paper,
    broken,
)
from tools.soak.dropped import KINDS, Dropped, Ledger, generated, token_at, token_of
from tools.soak.life import Sample, _anonymous_bytes
from tools.soak.people import People
from tools.soak.small_disk import NarrowDisk, SmallDisk

FIRST = Paper("trained/a.receipt.json", "000001", 0, 1, 4)
SECOND = Paper("trained/b.receipt.json", "000002", 0, 5, 9)
FAILED = Paper("failed/c.report.json", "000003", 0, steps_kept=2)
AFTER = Paper("trained/d.receipt.json", "000004", 0, 12, 12)
IDLE = tuple(Sample(float(age), 9000 + age, 300 << 20, 20, 9) for age in range(2 * SAMPLES_MIN))
SOUND = Evidence(
    expected={"file 1": 1, "file 2": 2, "file 3": 0},
    names={"file 1": "a.jsonl"},
    outcomes={"file 1": ("trained/a.jsonl",), "file 2": ("trained/b.jsonl", "failed/b.2.jsonl")},
    papers=(FIRST, SECOND, FAILED, AFTER),
    epochs=(Epoch(0, 12),),
    global_step=12,
    longest=IDLE,
)


def later(**more: int) -> tuple[Sample, ...]:
    """The idle moments of a life that takes more in its second half."""
    half = len(IDLE) // 2
    grown = tuple(
        sample._replace(**{name: getattr(sample, name) + by for name, by in more.items()}) for sample in IDLE[half:]
    )
    return (*IDLE[:half], *grown)


def found_in(**changes: Any) -> dict[str, str]:
    return {name: why for name, _, why in broken(replace(SOUND, **changes))}


BREACHES: dict[str, list[tuple[dict[str, Any], str]]] = {
    "settled": [({"unsettled": "it still trains"}, "it still trains")],
    "outcomes": [
        ({"outcomes": {"file 2": SOUND.outcomes["file 2"]}}, "'a.jsonl' (file 1) lies 0 times, not 1: nowhere"),
        ({"expected": {**SOUND.expected, "file 2": 1}}, "lies 2 times, not 1: trained/b.jsonl, failed/b.2.jsonl"),
        ({"expected": {"file 1": 1}}, "'never dropped' (file 2) lies 2 times, not 0"),
        ({"waiting": ("inbox/x.jsonl",)}, "still waiting: inbox/x.jsonl"),
    ],
    "papers": [
        ({"unpapered": ("trained/a.jsonl",)}, "trained/a.jsonl has no paper"),
        ({"unfiled": ("failed/a.jsonl.report.json",)}, "failed/a.jsonl.report.json lies without its file"),
        ({"papers": (*SOUND.papers, replace(FAILED, batch="000001", steps_kept=0))}, "batch 000001 has"),
    ],
    "steps": [
        ({"papers": (FIRST, replace(SECOND, first_step=4), FAILED, AFTER)}, "repeats step 4: 4 are learnt before it"),
        ({"papers": (FIRST, replace(SECOND, first_step=8), FAILED, AFTER)}, "no paper accounts for those from 5 on"),
        ({"papers": (FIRST, SECOND, replace(FAILED, steps_kept=1), AFTER)}, "no paper accounts for those from 10 on"),
        ({"epochs": (Epoch(0, 14),), "global_step": 14}, "HEAD says 14 steps, the papers account for 12"),
        ({"epochs": (Epoch(0, 11),), "global_step": 11}, "the papers account for 12 steps, HEAD says 11"),
        ({"global_step": 13}, "HEAD says 13 steps, the daemon had said 12"),
        # After a rollback to step 4 the second file is learnt again, and a third one must not begin at 9 once more.
        (
            {
                "epochs": (Epoch(0, 12, last=False), Epoch(4, 10)),
                "papers": (*SOUND.papers, Paper("e", "000005", 1, 5, 9), Paper("f", "000006", 1, 9, 10)),
                "global_step": 10,
            },
            "f repeats step 9: 9 are learnt before it",
        ),
    ],
    "HEAD": [({"head": "Damaged: a digest differs"}, "Damaged")],
    "doctor": [({"doctor": ("HEAD: it is gone",)}, "HEAD: it is gone")],
    "leftovers": [({"leftovers": ("state/.ab.tmp",)}, "state/.ab.tmp")],
    "memory": [({"longest": later(memory=MEMORY_BYTES + (16 << 20))}, "300.0 MiB became 318.0 MiB")],
    "descriptors": [({"longest": later(descriptors=DESCRIPTORS_MORE + 1)}, "20 open descriptors became 22")],
    "threads": [({"longest": later(threads=THREADS_MORE + 1)}, "9 threads became 12")],
    "status": [({"lies": ("life 3 was killed, and status says idle",)}, "life 3 was killed")],
    "ends": [({"unasked": ("life 3 ended with 70",)}, "life 3 ended with 70")],
}


def test_a_sound_end_is_clean() -> None:
    assert found_in() == {}


def test_every_check_has_its_breach() -> None:
    assert [name for name, _, _ in CHECKS] == list(BREACHES)


@pytest.mark.parametrize(
    ("name", "changes", "why"), [(name, *breach) for name, breaches in BREACHES.items() for breach in breaches]
)
def test_a_check_finds_its_breach_and_no_other_finds_it_too(name: str, changes: dict[str, Any], why: str) -> None:
    found = found_in(**changes)
    assert list(found) == [name]
    assert why in found[name]


def test_steps_may_be_repeated_as_a_rollback_says() -> None:
    # Back to step 4 of 12: the second file's cursor was at step 3 of its own then, and it goes on from there.
    again = (Paper("e", "000005", 1, 2, 9), Paper("f", "000006", 1, 10, 10))
    assert not found_in(epochs=(Epoch(0, 12, last=False), Epoch(4, 10)), papers=(*SOUND.papers, *again), global_step=10)


def test_steps_of_a_failed_file_count_although_a_retry_took_its_report() -> None:
    assert found_in(papers=(FIRST, SECOND, AFTER))
    assert not found_in(papers=(FIRST, SECOND, AFTER), kept_before={0: 2})


def test_growth_is_not_judged_by_a_few_moments() -> None:
    assert not found_in(longest=later(memory=1 << 30)[SAMPLES_MIN // 2 + 1 : -SAMPLES_MIN // 2])


# What is dropped, and by whom.


def test_the_same_seed_drops_the_same_and_never_the_same_twice() -> None:
    once, again = ([generated(rng, number) for number in range(1, 400)] for rng in (Random("s"), Random("s")))
    assert once == again
    assert len({token_of(one) for one in once}) == len(once)
    assert {one.kind for one in once} == set(KINDS)
    assert any(not one.name.isprintable() for one in once), "odd names are among them"


@pytest.fixture
def place(tmp_path: Path) -> SmallDisk:
    disk = tmp_path / "disk"
    (disk / "home" / "inbox").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (disk / "home/nightfold.toml").touch()
    for folder in audit.PAPERS:
        (disk / "home" / folder).mkdir()
    return SmallDisk(disk, 200_000, quota=True)


def test_what_lies_somewhere_is_known_by_what_it_is(place: SmallDisk, tmp_path: Path) -> None:
    home = place.folder / "home"
    folk = People(1, home, place, tmp_path / "outside")
    for number in range(1, 120):
        dropped = generated(Random(number), number)
        folk._put(dropped, dropped.name)
    assert not folk.done["not dropped: no room"]
    assert {token_at(path) for path in (home / "inbox").iterdir()} == set(folk.ledger.expected)
    assert not list((home / "inbox").glob(".*")), "nothing half-dropped is left"


def test_taking_back_mending_and_retrying_keep_the_ledger_true(
    place: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = place.folder / "home"
    folk = People(2, home, place, tmp_path / "outside")
    monkeypatch.setattr(people, "WAITING_MAX", 1000)
    for number in range(40):
        folk.drop_some()
        folk.take_back()
        rejected = home / f"rejected/{number} bad.jsonl"
        rejected.write_bytes(b"bad %d\n" % number)
        folk.ledger.drop(token_at(rejected), rejected.name)
        rejected.with_name(f"{rejected.name}.report.json").write_text('{"batch": "1", "steps_kept": 0}')
        folk.mend() if number % 2 else folk.try_again()
    found = [token_at(path) for folder in ("inbox", "rejected") for path in audit_things(home / folder)]
    assert sorted(found) == sorted(folk.ledger.expected.elements())
    assert folk.ledger.taken_back
    assert folk.done["mended"]
    assert folk.done["retries"] > folk.done["mended"]


def audit_things(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.endswith(".report.json")]


def test_an_upload_is_expected_when_it_is_whole_and_survives_a_full_disk(
    place: SmallDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = place.folder / "home"
    folk = People(3, home, place, tmp_path / "outside")
    dropped = Dropped("a.jsonl", "good", b"x" * 100)
    monkeypatch.setattr(folk, "_next", lambda: dropped)
    folk.upload()
    folk._go_on()
    assert 0 < (home / "inbox/a.jsonl").stat().st_size < 100
    assert not folk.ledger.dropped
    folk.cease()
    assert token_at(home / "inbox/a.jsonl") == token_of(dropped)
    assert folk.ledger.expected == {token_of(dropped): 1}


def test_a_quota_refuses_what_goes_beyond_it_and_says_what_is_free(place: SmallDisk) -> None:
    assert place.make_disk is not None
    disk = place.make_disk(place.folder / "home")
    assert disk.free_bytes() == 200_000
    place.fill(leave=1000)
    assert disk.free_bytes() == 1000
    handle = disk.create("a")
    with pytest.raises(OSError, match="No space") as full:
        disk.write(handle, b"x" * 1500)
    assert full.value.errno == errno.ENOSPC
    assert disk.read("a") == b"x" * 1000, "as a file system does, it takes what fits"
    place.give_room()
    disk.write(handle, b"y" * 500)
    disk.close(handle)
    assert disk.free_bytes() == 198_500
    assert isinstance(disk, NarrowDisk)


def test_memory_is_what_is_anonymous_and_what_of_it_is_swapped() -> None:
    rollup = "7f00-7fff ---p 0 0 0 [rollup]\nRss: 900 kB\nAnonymous: 300 kB\nSwap: 20 kB\n"
    assert _anonymous_bytes(rollup) == 320 << 10


# The papers of a home.


def test_the_audit_finds_papers_and_files_that_miss_each_other(tmp_path: Path) -> None:
    for folder in (*audit.PAPERS, "inbox", "state/batches/000007"):
        (tmp_path / folder).mkdir(parents=True)
    long = "n" * 249 + ".jsonl"
    for path in (f"trained/{long}", "trained/a.jsonl", "rejected/b.jsonl", "inbox/.hidden", "inbox/w.jsonl"):
        (tmp_path / path).write_text(path)
    (tmp_path / "trained" / paper_name(long, "receipt")).write_text(
        '{"batch": "000001", "first_global_step": 1, "last_global_step": 3}'
    )
    (tmp_path / "failed/c.jsonl.report.json").write_text('{"batch": "000002", "steps_kept": 2}')
    (tmp_path / "state/batches/000007/x.jsonl").touch()
    unpapered, unfiled = audit.unmatched(tmp_path)
    assert (unpapered, unfiled) == (["trained/a.jsonl", "rejected/b.jsonl"], ["failed/c.jsonl.report.json"])
    assert audit.waiting(tmp_path) == ["inbox/w.jsonl", "state/batches/000007/x.jsonl"]
    assert {path for paths in audit.outcomes(tmp_path).values() for path in paths} == {
        f"trained/{long}",
        "trained/a.jsonl",
        "rejected/b.jsonl",
    }
    first, failed = audit.papers(tmp_path, {"000002": 0}, newest=1)
    assert (first.epoch, first.first_step, first.last_step) == (1, 1, 3)
    assert (failed.epoch, failed.steps_kept) == (0, 2)


def test_a_ledger_counts_what_is_there_more_than_once() -> None:
    ledger = Ledger()
    ledger.drop("file 1", "a.jsonl")
    ledger.drop("file 1", "b.jsonl")
    ledger.take_back("file 1")
    ledger.mend("file 1", "file 2")
    assert +ledger.expected == {"file 2": 1}
    assert (ledger.dropped, ledger.taken_back) == (2, 1)


# Itself.


@pytest.mark.real
@pytest.mark.parametrize("quota", [False, True])
def test_a_short_soak_of_a_real_daemon_is_clean(tmp_path: Path, quota: bool) -> None:
    work = tmp_path / "work"
    argv = ["--minutes", "0.4", "--seed", "5", "--work", str(work), *(["--quota"] if quota else [])]
    done = subprocess.run(
        [sys.executable, "-m", "tools.soak", *argv],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = {line[:22].strip(): line[22:].strip() for line in done.stdout.splitlines()}
    assert done.stdout.endswith("clean\n")
    assert int(table["trained"]) > 0
    assert int(table["kills, stops"].split(",")[0]) > 0
    assert ("a Disk with a quota" in done.stdout) or not quota
    assert not work.exists(), "a clean one leaves nothing"
    assert str(work) not in Path("/proc/mounts").read_text()


@pytest.mark.real
def test_a_soak_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    work = tmp_path / "work"
    # Who runs these tests in the background of a shell has SIGINT ignored, and so would have the soak.
    hears = ("env", "--default-signal=INT")
    soak = subprocess.Popen(
        [*hears, sys.executable, "-m", "tools.soak", "--minutes", "5", "--work", str(work)],
        cwd=PROJECT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    home = Path(f"/proc/{soak.pid}/root{work}/disk/home")
    until = time.monotonic() + 120
    daemon = None
    while daemon is None:
        assert soak.poll() is None
        assert time.monotonic() < until
        daemon = living_pid(home)
        time.sleep(0.1)
    assert _parent_of(daemon) == soak.pid
    everyone = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    children = [pid for pid in everyone if _parent_of(pid) == soak.pid]
    soak.send_signal(signal.SIGINT)
    assert soak.wait(60) == 130
    for pid in children:
        until_gone(pid)
    assert len(children) >= 2, "the daemon, and who makes the merges"
    assert not work.exists()


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
