"""Scenarios of ``runtime/durable.py``: each protocol alone, called as the house calls it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Any

from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation import SimDisk
from tools.exhaustion.scenario import Broken, Scenario, Shown

WHOLE = {"a": b"first file", "b": b"the second file", "c": b""}


def _put(disk: DiskPort, path: str, data: bytes) -> None:
    durable.ensure_directory(disk, durable.parent_of(path))
    durable.write_file(disk, path, data)


def _sweep(*folders: str) -> Callable[[DiskPort], object]:
    return lambda disk: [durable.sweep(disk, folder) for folder in folders]


def content_of(disk: SimDisk, path: str) -> bytes | None:
    """A file's content, ``None`` if there is none."""
    data = disk.tree().get(path)
    return data if isinstance(data, bytes) else None


def folder_of(disk: SimDisk, path: str) -> dict[str, bytes | str | None] | None:
    """What a folder holds, ``None`` if there is none."""
    tree = disk.tree()
    if path not in tree:
        return None
    return {name.removeprefix(f"{path}/"): data for name, data in tree.items() if name.startswith(f"{path}/")}


def one_of(found: object, *, old: object, new: object, what: str) -> Shown:
    """Is it the one or the other?"""
    if found == new:
        return "new"
    if found == old:
        return "old"
    raise Broken(f"{what} is neither old nor new: {str(found)[:200]}")


def _files(name: str, before: Mapping[str, bytes], target: str, data: bytes) -> Scenario:
    def prepare(disk: DiskPort) -> None:
        durable.ensure_directory(disk, "d")
        for path, old in before.items():
            _put(disk, path, old)

    return Scenario(
        name=name,
        prepare=prepare,
        act=lambda disk, _: durable.write_file(disk, target, data),
        shown=lambda disk: one_of(content_of(disk, target), old=before.get(target), new=data, what=target),
        recover=_sweep(".", "d"),
        believed=False,
    )


def _write_directory(disk: DiskPort, _: Any) -> None:
    durable.remove(disk, "d/folder")  # of an earlier try, as the Checkpointer has it
    durable.write_directory(disk, "d/folder", WHOLE)


def _show_directory(disk: DiskPort, _: Any) -> None:
    staged = durable.hidden("d/folder", "part")
    durable.remove(disk, "d/folder")
    durable.remove(disk, staged)
    disk.mkdir(staged)
    for name, data in WHOLE.items():
        durable.write_new(disk, f"{staged}/{name}", data)
    durable.show_directory(disk, staged, "d/folder")


BEFORE = {"a": b"what was there", "z": b"and goes"}


def _prepare_replacing(disk: DiskPort) -> None:
    durable.ensure_directory(disk, "d")
    durable.write_directory(disk, "d/folder", BEFORE)


def _replace_directory(disk: DiskPort, _: Any) -> None:
    staged = durable.hidden("d/folder", "part")
    durable.remove(disk, staged)
    disk.mkdir(staged)
    for name, data in WHOLE.items():
        durable.write_new(disk, f"{staged}/{name}", data)
    durable.replace_directory(disk, staged, "d/folder")


def _go_on_replacing(disk: DiskPort) -> None:
    durable.sweep(disk, "d")
    durable.finish_replacing(disk, "d/folder")


def _replaced(disk: SimDisk) -> Shown:
    """The old one, until the new one is whole beside it or in its place."""
    found, beside = folder_of(disk, "d/folder"), folder_of(disk, durable.hidden("d/folder", "whole"))
    if beside not in (None, WHOLE):
        raise Broken("what is called whole is not")
    if beside is not None and found is None:
        return "old"
    return one_of(found, old=BEFORE, new=WHOLE, what="d/folder")


def _prepare_link(disk: DiskPort) -> None:
    durable.ensure_directory(disk, "d")
    durable.replace_link(disk, "one", "d/link")


def _link_shown(disk: SimDisk) -> Shown:
    return one_of(disk.tree().get("d/link"), old="one", new="two", what="d/link")


def _link_made(disk: SimDisk) -> Shown:
    return one_of(disk.tree().get("d/link"), old=None, new="two", what="d/link")


def _prepare_move(disk: DiskPort) -> None:
    _put(disk, "in/f", b"what is moved")
    durable.ensure_directory(disk, "out")


def _move(disk: DiskPort, _: Any) -> None:
    if disk.stat("in/f") is not None:
        durable.move_file(disk, "in/f", "out/g")
    else:
        for folder in ("out", "in"):  # moved by an earlier try that may have failed at its last sync
            disk.fsync_dir(folder)


def _moved(disk: SimDisk) -> Shown:
    return one_of(
        (content_of(disk, "in/f"), content_of(disk, "out/g")),
        old=(b"what is moved", None),
        new=(None, b"what is moved"),
        what="the moved file",
    )


class Foreign:
    """A disk whose folders lie on different file systems: a rename from one to the other is refused."""

    def __init__(self, disk: DiskPort) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def rename(self, old: str, new: str) -> None:
        """Inside one folder only."""
        if durable.parent_of(old) != durable.parent_of(new):
            raise OSError(errno.EXDEV, "another file system", old)
        self._disk.rename(old, new)


def _move_across(disk: DiskPort, world: Any) -> None:
    foreign: Any = Foreign(disk)
    _move(foreign, world)


def _moved_across(disk: SimDisk) -> Shown:
    """The new name first, whole; the old one goes when the new one stays."""
    data = b"what is moved"
    old, new = content_of(disk, "in/f"), content_of(disk, "out/g")
    if old == data and new in (None, data):
        return "old"
    if old is None and new == data:
        return "new"
    raise Broken(f"the moved file is {old!r} under its old and {new!r} under its new name")


NESTED: dict[str, bytes | str | None] = {"f": b"1", "inner": None, "inner/f": b"2", "inner/deep": None}


def _prepare_folder(disk: DiskPort) -> None:
    durable.ensure_directory(disk, "d/folder/inner/deep")
    _put(disk, "d/folder/f", b"1")
    _put(disk, "d/folder/inner/f", b"2")


def _prepare_leftovers(disk: DiskPort) -> None:
    durable.ensure_directory(disk, "d")
    for name in ("f", ".hidden", "x.tmp", "y.part"):
        _put(disk, f"d/{name}", b"sound")
    _put(disk, durable.hidden("d/f", "tmp"), b"half")
    for suffix in ("part", "deleting"):
        _put(disk, f"{durable.hidden('d/g', suffix)}/x", b"half")


def _swept(disk: SimDisk) -> Shown:
    found = folder_of(disk, "d") or {}
    sound = {name: data for name, data in found.items() if not durable.is_leftover(name.split("/")[0])}
    if sound != dict.fromkeys(("f", ".hidden", "x.tmp", "y.part"), b"sound"):
        raise Broken(f"sweep took what is sound: {sorted(sound)}")
    return "new"  # a leftover that a power cut brings back is swept by the next start


def _remove(path: str) -> Callable[[DiskPort, Any], None]:
    def act(disk: DiskPort, _: Any) -> None:
        if disk.stat(path) is not None:
            durable.remove(disk, path)
        else:
            disk.fsync_dir("d")  # of what is not there ``remove`` promises nothing

    return act


def _sweep_leftovers(disk: DiskPort, _: Any) -> None:
    durable.sweep(disk, "d")


def _nested_and_file(disk: DiskPort, _: Any) -> None:
    """A folder is made for what is then put into it."""
    durable.ensure_directory(disk, "d/e/f")
    durable.write_file(disk, "d/e/f/note", b"kept")


DURABLE: tuple[Scenario, ...] = (
    _files("write_file: make", {}, "d/f", b"new content"),
    _files("write_file: replace", {"d/f": b"old content"}, "d/f", b"new content"),
    _files("write_file: in the home itself", {"f": b"old content"}, "f", b"new content"),
    Scenario(
        name="write_directory",
        prepare=lambda disk: durable.ensure_directory(disk, "d"),
        act=_write_directory,
        shown=lambda disk: one_of(folder_of(disk, "d/folder"), old=None, new=WHOLE, what="d/folder"),
        recover=_sweep("d"),
        believed=False,
    ),
    Scenario(
        name="show_directory",
        prepare=lambda disk: durable.ensure_directory(disk, "d"),
        act=_show_directory,
        shown=lambda disk: one_of(folder_of(disk, "d/folder"), old=None, new=WHOLE, what="d/folder"),
        recover=_sweep("d"),
        believed=False,
    ),
    Scenario(
        name="replace_directory",
        prepare=_prepare_replacing,
        act=_replace_directory,
        shown=_replaced,
        recover=_go_on_replacing,
    ),
    Scenario(
        name="replace_link: make",
        prepare=lambda disk: durable.ensure_directory(disk, "d"),
        act=lambda disk, _: durable.replace_link(disk, "two", "d/link"),
        shown=_link_made,
        recover=_sweep("d"),
        believed=False,
    ),
    Scenario(
        name="replace_link: replace",
        prepare=_prepare_link,
        act=lambda disk, _: durable.replace_link(disk, "two", "d/link"),
        shown=_link_shown,
        recover=_sweep("d"),
        believed=False,
    ),
    Scenario(
        name="move_file",
        prepare=_prepare_move,
        act=_move,
        shown=_moved,
        recover=_sweep("in", "out"),
        believed=False,
    ),
    Scenario(
        name="move_file: across file systems",
        prepare=_prepare_move,
        act=_move_across,
        shown=_moved_across,
        recover=_sweep("in", "out"),
        believed=False,
    ),
    Scenario(
        name="remove: a file",
        prepare=lambda disk: _put(disk, "d/f", b"old"),
        act=_remove("d/f"),
        shown=lambda disk: one_of(content_of(disk, "d/f"), old=b"old", new=None, what="d/f"),
        recover=_sweep("d"),
        believed=False,
    ),
    Scenario(
        name="remove: a folder",
        prepare=_prepare_folder,
        act=_remove("d/folder"),
        shown=lambda disk: one_of(folder_of(disk, "d/folder"), old=NESTED, new=None, what="d/folder"),
        recover=_sweep("d"),
        believed=False,
    ),
    Scenario(
        name="ensure_directory",
        prepare=lambda disk: durable.ensure_directory(disk, "d"),
        act=lambda disk, _: durable.ensure_directory(disk, "d/e/f"),
        shown=lambda disk: "new" if "d/e/f" in disk.tree() else "old",
        believed=False,
    ),
    Scenario(
        name="ensure_directory: and a file in it",
        prepare=lambda disk: durable.ensure_directory(disk, "d"),
        act=_nested_and_file,
        shown=lambda disk: one_of(content_of(disk, "d/e/f/note"), old=None, new=b"kept", what="d/e/f/note"),
        recover=lambda disk: durable.sweep(disk, "d/e/f"),
        believed=False,
    ),
    Scenario(
        name="sweep",
        prepare=_prepare_leftovers,
        act=_sweep_leftovers,
        shown=_swept,
        recover=_sweep("d"),
        believed=False,
    ),
)
