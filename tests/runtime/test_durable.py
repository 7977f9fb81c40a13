"""The durable protocols on the real disk: whatever call fails, old or new is there; sweep takes the rest."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import durable
from runtime.disk import Disk, DiskPort

MUTATING = ("create", "write", "fsync", "close", "rename", "symlink", "unlink", "mkdir", "rmdir", "fsync_dir")


class TodayError(OSError):
    """What the failing disk raises."""


def open_handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class FailingDisk:
    """The real disk, of which the ``at``-th mutating call raises; counts them all. ``foreign``: renames are EXDEV."""

    def __init__(self, disk: Disk, at: int = 0, *, foreign: bool = False) -> None:
        self.disk = disk
        self.at = at
        self.foreign = foreign
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.disk, name)
        if name not in MUTATING:
            return real

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.at:
                if name == "close":
                    real(*arguments)
                raise TodayError(errno.EIO, f"no {name} today")
            if self.foreign and name == "rename" and not durable.is_leftover(os.path.basename(arguments[0])):  # noqa: PTH119
                raise OSError(errno.EXDEV, "another file system")
            return real(*arguments)

        return call


def failing(home: Path, at: int = 0, *, foreign: bool = False) -> tuple[DiskPort, FailingDisk]:
    disk = FailingDisk(Disk(home), at, foreign=foreign)
    port: Any = disk
    return port, disk


def tree(home: Path) -> dict[str, str]:
    """Every file and link below, with its content."""
    found: dict[str, str] = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_text()
    return found


def test_write_file_makes_and_replaces(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    durable.write_file(disk, "f", b"old")
    durable.write_file(disk, "f", b"new")
    assert tree(tmp_path) == {"f": "new"}


def test_a_leftover_in_the_way_is_no_obstacle(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    (tmp_path / durable.hidden("f", "tmp")).write_bytes(b"torn")
    (tmp_path / durable.hidden("d", "part")).mkdir()
    (tmp_path / durable.hidden("d", "part") / "torn").write_bytes(b"torn")
    (tmp_path / durable.hidden("link", "tmp")).symlink_to("nowhere")
    durable.write_file(disk, "f", b"new")
    durable.write_directory(disk, "d", {"x": b"1"})
    durable.replace_link(disk, "d", "link")
    assert tree(tmp_path) == {"f": "new", "d/x": "1", "link": "-> d"}


def test_names_of_full_length_leave_room_for_the_work(tmp_path: Path) -> None:
    name = "n" * 255
    durable.write_file(Disk(tmp_path), name, b"x")
    durable.remove(Disk(tmp_path), name)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("at", [3, 5])
def test_a_protocol_that_fails_cleans_up_after_itself(tmp_path: Path, at: int) -> None:
    port, _ = failing(tmp_path, at)
    with pytest.raises(TodayError):
        durable.write_file(port, "f", b"x")
    assert tree(tmp_path) == {}


def test_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path: Path) -> None:
    port, disk = failing(tmp_path)
    durable.write_file(port, "f", b"x")
    assert disk.calls == ["create", "write", "fsync", "close", "rename", "fsync_dir"]
    disk.calls.clear()
    durable.write_directory(port, "d", {"x": b"1", "y": b"2"})
    assert disk.calls == ["mkdir", *["create", "write", "fsync", "close"] * 2, "fsync_dir", "rename", "fsync_dir"]


def test_a_moved_file_is_under_its_new_name_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "f").write_text("x")
    durable.move_file(Disk(tmp_path), "in/f", "out/g")
    assert tree(tmp_path) == {"out/g": "x"}


def test_a_move_across_file_systems_copies_verifies_and_then_removes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "f").write_bytes(b"x" * (durable.CHUNK_BYTES + 1))
    port, disk = failing(tmp_path, foreign=True)
    durable.move_file(port, "in/f", "out/g")
    assert {name: len(text) for name, text in tree(tmp_path).items()} == {"out/g": durable.CHUNK_BYTES + 1}
    assert disk.calls[-3:] == ["fsync_dir", "unlink", "fsync_dir"], "the source goes last"


def test_a_copy_that_differs_from_its_source_is_not_shown_and_the_source_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("x")
    port, disk = failing(tmp_path, foreign=True)
    monkeypatch.setattr(disk.disk, "write", lambda handle, data: None)
    with pytest.raises(OSError, match="differs"):
        durable.move_file(port, "f", "g")
    assert tree(tmp_path) == {"f": "x"}


def test_remove_takes_files_links_and_folders_and_is_content_with_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    (tmp_path / "d" / "inner").mkdir(parents=True)
    (tmp_path / "d" / "inner" / "x").write_text("x")
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "l").symlink_to("d")
    for name in ("l", "d", "never was"):
        durable.remove(disk, name)
    assert tree(tmp_path) == {"kept": "kept"}
    assert not (tmp_path / "d").exists()


def test_a_folder_is_never_seen_half_deleted_under_its_own_name(tmp_path: Path) -> None:
    for at in range(1, 20):
        home = tmp_path / str(at)
        (home / "d").mkdir(parents=True)
        for name in ("x", "y"):
            (home / "d" / name).write_text(name)
        port, disk = failing(home, at)
        try:
            durable.remove(port, "d")
        except OSError:
            whole = {"d/x": "x", "d/y": "y"}
            shown = {name: text for name, text in tree(home).items() if name.startswith("d/")}
            assert shown in (whole, {})
            durable.sweep(Disk(home), ".")
            assert tree(home) == shown
        else:
            assert len(disk.calls) < at
            break
    else:
        pytest.fail("the protocol never came to its end")


def test_sweep_takes_leftovers_and_nothing_else(tmp_path: Path) -> None:
    kept = ("f", ".hidden", "x.tmp", "y.part")
    for name in (*kept, durable.hidden("f", "tmp")):
        (tmp_path / name).write_text("x")
    for suffix in ("part", "deleting"):
        (tmp_path / durable.hidden("d", suffix)).mkdir()
        (tmp_path / durable.hidden("d", suffix) / "x").write_text("x")
    assert len(durable.sweep(Disk(tmp_path), ".")) == 3
    assert {path.name for path in tmp_path.iterdir()} == set(kept)
    assert durable.sweep(Disk(tmp_path), "no such folder") == ()


def test_digests_and_sizes_are_of_what_is_there(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    durable.ensure_directory(disk, "a/b")
    durable.ensure_directory(disk, "a/b")
    durable.write_file(disk, "a/b/f", b"12345")
    durable.write_file(disk, "a/g", b"123")
    assert durable.digest_of(disk, "a/b/f") == durable.digest_of_bytes(b"12345")
    assert durable.digest_of(disk, "a/g") != durable.digest_of_bytes(b"12345")
    assert (durable.size_of(disk, "a"), durable.size_of(disk, "none")) == (8, 0)
    assert durable.copy_files(disk, "a/b") == {"f": b"12345"}


Protocol = Callable[[DiskPort], None]

OLD = {"f": "old", "link": "-> f", "in/src": "source"}


def make_old(home: Path) -> None:
    (home / "in").mkdir(parents=True)
    (home / "out").mkdir()
    (home / "f").write_text("old")
    (home / "in" / "src").write_text("source")
    (home / "link").symlink_to("f")


@pytest.mark.parametrize(
    ("protocol", "foreign", "allowed"),
    [
        (lambda d: durable.write_file(d, "f", b"new"), False, [{"f": "new"}]),
        (lambda d: durable.write_file(d, "out/f", b"new"), False, [{"out/f": "new"}]),
        (
            lambda d: durable.write_directory(d, "out/d", {"x": b"1", "y": b"2"}),
            False,
            [{"out/d/x": "1", "out/d/y": "2"}],
        ),
        (lambda d: durable.replace_link(d, "in/src", "link"), False, [{"link": "-> in/src"}]),
        (lambda d: durable.move_file(d, "in/src", "out/src"), False, [{"in/src": "", "out/src": "source"}]),
        (
            lambda d: durable.move_file(d, "in/src", "out/src"),
            True,
            [{"out/src": "source"}, {"in/src": "", "out/src": "source"}],
        ),
        (lambda d: durable.remove(d, "f"), False, [{"f": ""}]),
    ],
    ids=["replace", "make", "directory", "link", "move", "move across", "remove"],
)
def test_whichever_call_fails_old_or_new_is_shown_and_sweep_leaves_nothing_else(
    tmp_path: Path, protocol: Protocol, foreign: bool, allowed: list[dict[str, str]]
) -> None:
    wanted = [OLD, *({k: v for k, v in {**OLD, **change}.items() if v} for change in allowed)]
    open_before = open_handles()
    for at in range(1, 40):
        home = tmp_path / str(at)
        make_old(home)
        port, disk = failing(home, at, foreign=foreign)
        try:
            protocol(port)
        except TodayError:  # the first error is the one told
            shown = {name: text for name, text in tree(home).items() if not durable.is_leftover(name.split("/")[-1])}
            for folder in (".", "in", "out"):
                durable.sweep(Disk(home), folder)
            assert tree(home) in wanted, f"after {disk.calls}"
            assert {k: v for k, v in shown.items() if "/." not in k and not k.startswith(".")} == tree(home)
        else:
            if len(disk.calls) >= at:
                continue  # the failure of cleaning up after nothing is not told
            assert tree(home) == wanted[-1]
            break
    else:
        pytest.fail("the protocol never came to its end")
    assert at > 1
    assert open_handles() == open_before, "a handle was left open"
