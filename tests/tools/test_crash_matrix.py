"""The parts of the crash matrix: points keep their names, faults strike where they are told, power cuts are strict."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import durable
from tests.tools.simulated_home import lived_in_home
from tools.crash_matrix import outcome
from tools.crash_matrix.faulty_disk import FaultyDisk, Strike
from tools.crash_matrix.points import Fault, Places, Point, faults_of, parsed
from tools.crash_matrix.power_cut import cut_power
from tools.crash_matrix.script import Broken

# Forked and killed at once, or at its end without coming back: the threads of a test runner are not missed there.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Bench:
    """A home with an inbox and ``state/``, whose journal says so."""

    def __init__(self, folder: Path) -> None:
        self.home, self.journal, self.graves = folder / "home", folder / "journal", folder / "graves"
        self.struck = folder / "struck"
        for made in (self.home / "inbox", self.home / "state", self.home / "status", self.graves):
            made.mkdir(parents=True)
        self.journal.write_text('["folder", "inbox"]\n["folder", "state"]\n')

    def drop(self, name: str, data: bytes) -> None:
        (self.home / "inbox" / name).write_bytes(data)
        with self.journal.open("a") as file:
            file.write(json.dumps(["drop", f"inbox/{name}"]) + "\n")

    def disk(self, strike: Strike | None = None) -> FaultyDisk:
        return FaultyDisk(
            self.home, Places(()), journal=self.journal, graves=self.graves, strike=strike, struck=self.struck
        )

    def cut(self) -> dict[str, bytes | str]:
        """What a power cut now leaves, by path."""
        cut_power(self.home, self.journal, self.graves)
        left: dict[str, bytes | str] = {}
        for path in sorted(self.home.rglob("*")):
            name = path.relative_to(self.home).as_posix()
            if path.is_symlink():
                left[name] = str(path.readlink())
            elif path.is_file():
                left[name] = path.read_bytes()
        return left

    def killed(self, strike: Strike, body: Callable[[FaultyDisk], None]) -> int:
        """``body`` in a process of its own; how that ended."""
        pid = os.fork()
        if pid == 0:
            try:
                body(self.disk(strike))
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_point_is_read_back_from_its_name() -> None:
    point = Point("learn", "rename", "state/.HEAD.tmp", 3)
    assert str(point) == "learn.rename@state/.HEAD.tmp#3"
    assert parsed(str(point)) == point
    with pytest.raises(ValueError, match="no point"):
        parsed("rename HEAD")


def test_times_and_hashes_in_paths_are_put_into_words() -> None:
    places = Places(("1-good.jsonl",))
    assert places.place(durable.hidden("state/HEAD", "tmp")) == "state/.HEAD.tmp"
    assert places.place(durable.hidden("trained/1-good.jsonl", "tmp")) == "trained/.1-good.jsonl.tmp"
    assert places.place(f"{durable.hidden('snapshots/2026-11-23', 'part')}/a.json") == "snapshots/.DATE.part/a.json"
    assert places.place("snapshots/2026-11-23") == "snapshots/DATE"
    assert places.place("consolidated_models/20261123T030000") == "consolidated_models/NIGHT"
    assert places.place(durable.hidden("state/deltas/20261123T030000", "part")) == "state/deltas/.NIGHT.part"
    assert places.place(durable.hidden("state/generations/000042", "deleting")) == "state/generations/.000042.deleting"


def test_only_a_write_is_also_killed_half_way() -> None:
    assert faults_of("write", ("kill", "power")) == ["kill", "half", "power"]
    assert faults_of("rename", ("kill", "enospc", "eio", "power")) == ["kill", "enospc", "eio", "power"]


@pytest.mark.parametrize(("fault", "number", "left"), [("enospc", errno.ENOSPC, b"new"), ("eio", errno.EIO, b"")])
def test_an_error_strikes_once_at_the_passing_it_is_told(bench: Bench, fault: Fault, number: int, left: bytes) -> None:
    disk = bench.disk(Strike("write", "state/a", 2, fault))
    durable.write_new(disk, "state/a", b"old!")
    disk.unlink("state/a")
    assert not bench.struck.exists()
    with pytest.raises(OSError, match=os.strerror(number)) as failed:
        durable.write_new(disk, "state/a", b"newest")
    assert failed.value.errno == number
    assert bench.struck.exists()
    assert (bench.home / "state/a").read_bytes() == left
    disk.unlink("state/a")
    durable.write_new(disk, "state/a", b"third")


def test_what_only_tells_is_no_point(bench: Bench) -> None:
    disk = bench.disk(Strike("create", "status/a", 1, "eio"))
    durable.write_new(disk, "status/a", b"told")
    assert not bench.struck.exists()
    assert "status" not in bench.journal.read_text()


@pytest.mark.parametrize(("fault", "left"), [("kill", b""), ("half", b"con"), ("power", b"")])
def test_a_kill_comes_before_the_operation_or_half_way_through_a_write(bench: Bench, fault: Fault, left: bytes) -> None:
    code = bench.killed(
        Strike("write", "state/a", 1, fault), lambda disk: durable.write_new(disk, "state/a", b"content")
    )
    assert code == -signal.SIGKILL
    assert (bench.home / "state/a").read_bytes() == left


def test_a_kill_at_a_rename_leaves_the_old_name(bench: Bench) -> None:
    bench.drop("a.jsonl", b"{}\n")
    code = bench.killed(Strike("rename", "state/a", 1, "kill"), lambda disk: disk.rename("inbox/a.jsonl", "state/a"))
    assert code == -signal.SIGKILL
    assert (bench.home / "inbox/a.jsonl").exists()


def test_a_power_cut_keeps_what_was_synced_by_file_and_by_name(bench: Bench) -> None:
    durable.write_file(bench.disk(), "state/a", b"whole")
    assert bench.cut() == {"state/a": b"whole"}


def test_a_power_cut_takes_content_that_was_not_synced(bench: Bench) -> None:
    disk = bench.disk()
    handle = disk.create("state/a")
    disk.write(handle, b"synced")
    disk.fsync(handle)
    disk.write(handle, b", and not")
    disk.close(handle)
    disk.fsync_dir("state")
    assert bench.cut() == {"state/a": b"synced"}


def test_a_power_cut_takes_back_names_that_were_not_synced(bench: Bench) -> None:
    bench.drop("a.jsonl", b"{}\n")
    disk = bench.disk()
    durable.write_new(disk, "state/new", b"nobody synced the folder")
    disk.symlink("state", "link")
    disk.rename("inbox/a.jsonl", "state/a.jsonl")
    assert bench.cut() == {"inbox/a.jsonl": b"{}\n"}


def test_a_power_cut_brings_back_what_was_replaced_or_deleted_and_not_synced(bench: Bench) -> None:
    disk = bench.disk()
    durable.write_file(disk, "state/a", b"old")
    durable.write_file(disk, "state/b", b"deleted")
    durable.write_new(disk, "state/t", b"new")
    disk.rename("state/t", "state/a")
    disk.unlink("state/b")
    assert bench.cut() == {"state/a": b"old", "state/b": b"deleted"}


def test_what_the_merging_process_has_synced_itself_survives_once_it_is_named(bench: Bench) -> None:
    disk = bench.disk()
    durable.ensure_directory(disk, "consolidated_models")
    night = "consolidated_models/20261123T030000"
    staged = durable.hidden(night, "part")
    (bench.home / staged).mkdir()
    (bench.home / staged / "model.safetensors").write_bytes(b"merged")
    durable.show_directory(disk, staged, night)
    assert bench.cut() == {f"{night}/model.safetensors": b"merged"}


def test_what_should_not_be_there_in_the_end_is_found(tmp_path: Path) -> None:
    home = lived_in_home(tmp_path / "home")
    assert outcome.leftovers(home) == []
    (home / "trained/.0123456789abcdef.tmp").touch()
    (home / "state/generations/000077").mkdir()
    (home / "state/batches/000009").mkdir()
    (home / "state/strange").touch()
    assert outcome.leftovers(home) == [
        "state/batches/000009",
        "state/generations/000077",
        "state/strange",
        "trained/.0123456789abcdef.tmp",
    ]


def test_the_end_of_a_script_is_told_without_times(tmp_path: Path) -> None:
    home = lived_in_home(tmp_path / "home")
    told = outcome.text_without_times(
        {"when": "now", "night": "20261123T030000", "inner": [{"seconds": 3, "steps": 4}]}
    )
    assert told == '{"inner": [{"steps": 4}], "night": "NIGHT-0"}'
    raw = (home / "state/HEAD").read_bytes()
    (home / "state/HEAD").write_bytes(raw.replace(b'"number": ', b'"number": 1'))
    with pytest.raises(Broken, match="sealed"):
        outcome.outcome(home)


def test_a_difference_is_told_with_its_place() -> None:
    assert outcome.difference({"a": "1", "b": "same"}, {"a": "1", "b": "same"}) == ""
    told = outcome.difference({"steps": "twelve", "gone": "x"}, {"steps": "thirteen", "more": "y"})
    assert told == "gone: not there was to be x; more: y was to be not there; steps: thirteen was to be twelve"
