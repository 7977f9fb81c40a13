"""Commits, claims and filings on the real file system: killed or refused at each of their operations in turn."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.inbox_watcher.filing import claim, file_away, recover_claims
from runtime import durable
from runtime.disk import Disk
from tests.real.daemons import PROJECT, environment
from tests.real.disturbed_disk import (
    LINES,
    PROTOCOLS,
    DisturbedDisk,
    commit_one,
    generation_files,
    home_for,
    receipt_of,
    refused_at,
    state_of,
    store_on,
)

pytestmark = pytest.mark.real


def leftovers(home: Path) -> list[Path]:
    """What a protocol works on before it is done."""
    return [path for path in home.rglob("*") if durable.is_leftover(path.name)]


def is_old_or_new(protocol: str, home: Path) -> None:
    """The next start finds the one or the other, whole, and nothing half made beside it; and the work goes on."""
    if protocol == "commit":
        store = store_on(Disk(home))
        found = store.open()
        assert found.damage == ()
        assert leftovers(home) == [], "the start has swept"
        force = store.in_force()
        number = force.state.global_step // 10
        assert number in (2, 3)
        for name, content in generation_files(number).items():
            assert (home / force.path / name).read_bytes() == content, "weights and optimizer are of one step"
            assert (home / "current_model" / name).read_bytes() == content
        commit_one(Disk(home))
        assert store_on(Disk(home)).open().damage == ()
    else:
        recover_claims(Disk(home))
        for folder in ("trained", "state/batches"):
            durable.sweep(Disk(home), folder)
        files = [path for path in home.rglob("a.jsonl") if path.is_file()]
        assert [path.read_bytes() for path in files] == [LINES], f"it is in one place: {files}"
        PROTOCOLS[protocol](Disk(home))
        [file] = home.rglob("a.jsonl")
        if protocol == "file":
            assert file.parent.name == "trained"
            assert (home / "trained/a.jsonl.receipt.json").is_file()
            assert list((home / "state/batches").glob("0*")) == []
    assert leftovers(home) == []


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_b2_killed_at_every_operation_old_or_new_is_in_force(protocol: str, tmp_path: Path) -> None:
    home = home_for(protocol, tmp_path / "home")
    lives = tmp_path / "lives"
    lives.mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", "tests.real.disturbed_disk", protocol, home, lives],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    killed = json.loads(ran.stdout)
    assert killed >= 10
    for number in range(1, killed + 1):
        is_old_or_new(protocol, lives / str(number))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_d5_refused_at_every_operation_it_is_as_if_it_had_not_begun(protocol: str, error: int, tmp_path: Path) -> None:
    home = home_for(protocol, tmp_path / "home")
    number = 0
    told: list[int | None] = []
    while True:
        number += 1
        mine = Path(shutil.copytree(home, tmp_path / str(number), symlinks=True))
        disk = DisturbedDisk(mine, refused_at(number, error))
        try:
            PROTOCOLS[protocol](disk)
        except OSError as refused:
            told.append(refused.errno)
        if disk.operations < number:
            break
        is_old_or_new(protocol, mine)
        shutil.rmtree(mine)
    assert set(told) == {error}
    assert len(told) >= 8, "the protocol hears of nearly every refusal"


def test_b3_a_generation_that_cannot_be_deleted_is_told_and_goes_the_next_time(tmp_path: Path) -> None:
    home = home_for("commit", tmp_path / "home")
    stuck = "state/generations/000001"

    def deed(_count: int, operation: str, path: str) -> None:
        if operation == "unlink" and "state/generations/" in path and "deleting" in path:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)

    store = store_on(DisturbedDisk(home, deed), keep_generations=2)
    store.open()
    store.commit(generation_files(3), state_of(3), "interval", "2026-11-23T12:00:00")
    assert store.prune().stuck == (stuck,)
    assert not (home / stuck).exists(), "half deleted, it is not found under its own name"
    store.commit(generation_files(4), state_of(4), "interval", "2026-11-23T12:01:00")
    assert store.in_force().state.global_step == 40, "work goes on"
    assert store.prune().stuck != (), "and is told again"
    again = store_on(Disk(home), keep_generations=2)
    again.open()
    assert again.prune().stuck == ()
    assert sorted(path.name for path in (home / "state/generations").iterdir()) == ["000003", "000004"]


def test_d2_only_the_newest_are_kept_and_what_is_in_force_or_pinned_never_goes(tmp_path: Path) -> None:
    store = store_on(Disk(tmp_path), keep_generations=3, keep_snapshots=2)
    store.open()
    for number in range(1, 13):
        store.commit(generation_files(number), state_of(number), "interval", f"2026-11-{number:02d}T12:00:00")
        store.snapshot(f"2026-11-{number:02d}")
        store.prune()
    assert sorted(path.name for path in (tmp_path / "state/generations").iterdir()) == ["000010", "000011", "000012"]
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == ["2026-11-11", "2026-11-12"]
    store.put_back("10")
    force = store.in_force()
    assert force.state.global_step == 100
    for number in range(13, 20):
        store.commit(generation_files(number), state_of(number), "interval", f"2026-12-{number:02d}T12:00:00")
        assert (tmp_path / store.in_force().path).is_dir()
        store.prune()
        assert (tmp_path / store.in_force().path).is_dir()
    # The newest three, and both ends of the way back.
    assert len(list((tmp_path / "state/generations").iterdir())) <= 5
    for name, content in generation_files(19).items():
        assert (tmp_path / "current_model" / name).read_bytes() == content


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be reached from ``tmp_path`` by a rename."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev or not os.access(shared, os.W_OK):
        pytest.skip("/dev/shm is not another file system than the temporary folder")
    folder = Path(tempfile.mkdtemp(dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("far", ["inbox", "trained"])
def test_f8_a_folder_on_another_file_system_is_copied_to_compared_and_only_then_left(
    far: str, tmp_path: Path, other_file_system: Path
) -> None:
    home = home_for("claim", tmp_path / "home")
    shutil.copytree(home / far, other_file_system, dirs_exist_ok=True)
    shutil.rmtree(home / far)
    (home / far).symlink_to(other_file_system)
    done: list[tuple[str, str]] = []
    disk = DisturbedDisk(home, lambda _count, operation, path: done.append((operation, path)))
    claimed = claim(disk, "a.jsonl")
    assert claimed is not None
    assert file_away(disk, claimed, "trained", receipt_of(claimed.batch)) == "trained/a.jsonl"
    assert (home / "trained/a.jsonl").read_bytes() == LINES
    assert list((home / "inbox").iterdir()) == []
    removed = next(
        at for at, (operation, path) in enumerate(done) if operation == "unlink" and path.endswith("/a.jsonl")
    )
    assert ("fsync", "") in done[:removed], "it was synced before its source went"
    assert done[removed - 1][0] == "fsync_dir", "and so was its name"


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_f8_d5_a_copy_from_another_file_system_that_fails_leaves_its_source(
    error: int, tmp_path: Path, other_file_system: Path
) -> None:
    home = home_for("claim", tmp_path / "home")
    shutil.rmtree(home / "inbox")
    (home / "inbox").symlink_to(other_file_system)
    number = 0
    told: list[int | None] = []
    while True:
        number += 1
        mine = Path(shutil.copytree(home, tmp_path / str(number), symlinks=True))
        (other_file_system / "a.jsonl").write_bytes(LINES)
        disk = DisturbedDisk(mine, refused_at(number, error))
        try:
            claim(disk, "a.jsonl")
        except OSError as refused:
            told.append(refused.errno)
        if disk.operations < number:
            break
        claims = recover_claims(Disk(mine))
        assert claims or (other_file_system / "a.jsonl").read_bytes() == LINES
        for claimed in claims:
            assert (mine / claimed.path).read_bytes() == LINES, "what is claimed is whole"
    assert set(told) == {error}
    assert len(told) > 12


def test_f8_a_copy_that_came_out_different_is_not_taken_for_the_file(
    tmp_path: Path, other_file_system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_for("claim", tmp_path / "home")
    shutil.rmtree(home / "inbox")
    (home / "inbox").symlink_to(other_file_system)
    (other_file_system / "a.jsonl").write_bytes(LINES)
    real = Disk.write

    def writes_wrongly(self: Disk, handle: int, data: bytes | memoryview) -> None:
        real(self, handle, bytes(data).replace(b"two", b"tow"))

    monkeypatch.setattr(Disk, "write", writes_wrongly)
    with pytest.raises(OSError, match="differs from its source"):
        claim(Disk(home), "a.jsonl")
    assert (other_file_system / "a.jsonl").read_bytes() == LINES
    assert recover_claims(Disk(home)) == ()
