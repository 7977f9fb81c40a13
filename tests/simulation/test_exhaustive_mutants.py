"""The sweep bites: each planted bug is found by it, and the sound code beside it is not accused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from actors.checkpointer.head import Head, Kept
from actors.checkpointer.reserve import RESERVE, Reserve
from actors.checkpointer.store import Store
from actors.inbox_watcher import filing
from actors.inbox_watcher.survey import INBOX
from messages import Receipt
from runtime import durable
from runtime.disk import DiskPort
from tools.exhaustion.protocols import PROTOCOLS
from tools.exhaustion.sweep import Sweep

Plant = Callable[[pytest.MonkeyPatch], None]


def no_fsync(patch: pytest.MonkeyPatch) -> None:
    def write_new(disk: DiskPort, path: str, data: bytes) -> None:
        with durable._writing(disk, path) as handle:
            disk.write(handle, data)

    patch.setattr(durable, "write_new", write_new)


def no_fsync_dir_after_the_rename(patch: pytest.MonkeyPatch) -> None:
    def write_file(disk: DiskPort, path: str, data: bytes) -> None:
        temporary = durable.hidden(path, "tmp")
        if disk.stat(temporary) is not None:
            disk.unlink(temporary)
        durable.write_new(disk, temporary, data)
        disk.rename(temporary, path)

    patch.setattr(durable, "write_file", write_file)


def renamed_before_it_is_synced(patch: pytest.MonkeyPatch) -> None:
    def write_file(disk: DiskPort, path: str, data: bytes) -> None:
        temporary = durable.hidden(path, "tmp")
        if disk.stat(temporary) is not None:
            disk.unlink(temporary)
        with durable._writing(disk, temporary) as handle:
            disk.write(handle, data)
            disk.rename(temporary, path)
            disk.fsync(handle)
        disk.fsync_dir(durable.parent_of(path))

    patch.setattr(durable, "write_file", write_file)


def written_in_place(patch: pytest.MonkeyPatch) -> None:
    def write_file(disk: DiskPort, path: str, data: bytes) -> None:
        if disk.stat(path) is not None:
            disk.unlink(path)
        durable.write_new(disk, path, data)
        disk.fsync_dir(durable.parent_of(path))

    patch.setattr(durable, "write_file", write_file)


def staged_folder_not_synced(patch: pytest.MonkeyPatch) -> None:
    def write_directory(disk: DiskPort, path: str, files: Mapping[str, bytes]) -> None:
        staged = durable.hidden(path, "part")
        durable.remove(disk, staged)
        disk.mkdir(staged)
        for name in sorted(files):
            durable.write_new(disk, f"{staged}/{name}", files[name])
        disk.rename(staged, path)
        disk.fsync_dir(durable.parent_of(path))

    patch.setattr(durable, "write_directory", write_directory)


def failed_sync_swallowed(patch: pytest.MonkeyPatch) -> None:
    def write_new(disk: DiskPort, path: str, data: bytes) -> None:
        with durable._writing(disk, path) as handle:
            disk.write(handle, data)
            with contextlib.suppress(OSError):
                disk.fsync(handle)

    patch.setattr(durable, "write_new", write_new)


def another_error_told(patch: pytest.MonkeyPatch) -> None:
    sound = durable.write_new

    def write_new(disk: DiskPort, path: str, data: bytes) -> None:
        try:
            sound(disk, path, data)
        except OSError as error:
            raise RuntimeError("could not write") from error

    patch.setattr(durable, "write_new", write_new)


def sweep_takes_what_is_sound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durable, "is_leftover", lambda name: name.endswith((".tmp", ".part", ".deleting")))


def nothing_is_swept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durable, "sweep", lambda *_: ())


def trusts_a_folder_that_is_there(patch: pytest.MonkeyPatch) -> None:
    def ensure_directory(disk: DiskPort, path: str) -> None:
        if path in ("", ".") or disk.stat(path) is not None:
            return
        ensure_directory(disk, durable.parent_of(path))
        disk.mkdir(path)
        disk.fsync_dir(durable.parent_of(path))

    patch.setattr(durable, "ensure_directory", ensure_directory)


def moved_under_one_synced_name(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(durable, "move_file", lambda disk, source, target: disk.rename(source, target))


def source_removed_before_the_copy_is_shown(patch: pytest.MonkeyPatch) -> None:
    def copy(disk: DiskPort, source: str, target: str) -> None:
        data = disk.read(source)
        disk.unlink(source)
        durable.write_file(disk, target, data)

    patch.setattr(durable, "_copy_then_remove", copy)


def half_deleted_under_its_own_name(patch: pytest.MonkeyPatch) -> None:
    def remove(disk: DiskPort, path: str) -> None:
        found = disk.stat(path)
        if found is not None and found.kind == "dir":
            durable._remove_below(disk, path)
        elif found is not None:
            disk.unlink(path)
        disk.fsync_dir(durable.parent_of(path))

    patch.setattr(durable, "remove", remove)


def deleted_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    sound = Store._put_in_force

    def put_in_force(self: Store, head: Head, kept: Kept) -> Head:
        before, self.head = self.head, head
        for path in self._prunable():
            durable.remove(self._disk, path)
        self.head = before
        return sound(self, head, kept)

    patch.setattr(Store, "_put_in_force", put_in_force)


def head_before_its_generation(patch: pytest.MonkeyPatch) -> None:
    def write_directory(disk: DiskPort, path: str, files: Mapping[str, bytes]) -> None:
        # Everything but the last sync, which only comes with the next thing done in that folder.
        staged = durable.hidden(path, "part")
        durable.remove(disk, staged)
        disk.mkdir(staged)
        for name in sorted(files):
            durable.write_new(disk, f"{staged}/{name}", files[name])
        disk.fsync_dir(staged)
        disk.rename(staged, path)

    patch.setattr(durable, "write_directory", write_directory)


def head_not_synced_before_it_is_believed(patch: pytest.MonkeyPatch) -> None:
    sound = Store.open

    def open_(self: Store) -> Any:
        disk = self._disk

        class Lazy:
            """The disk, of which start-up syncs no folder."""

            def __getattr__(self, name: str) -> Any:
                return (lambda path: None) if name == "fsync_dir" else getattr(disk, name)

        lazy: Any = Lazy()
        self._disk = lazy
        try:
            return sound(self)
        finally:
            self._disk = disk

    patch.setattr(Store, "open", open_)


def retention_after_a_head_that_may_be_taken_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "_sync_head", lambda self: None)


def paper_written_after_the_move(patch: pytest.MonkeyPatch) -> None:
    def file_away(disk: DiskPort, claimed: filing.Claimed, folder: str, paper: Any) -> str:
        target = f"{folder}/{claimed.name}"
        if disk.stat(claimed.path) is not None:
            durable.move_file(disk, claimed.path, target)
        kind = "receipt" if isinstance(paper, Receipt) else "report"
        durable.write_file(disk, f"{folder}/{filing.paper_name(claimed.name, kind)}", filing._readable(paper))
        durable.remove(disk, f"{filing.BATCHES}/{claimed.batch}")
        return target

    patch.setattr("tools.exhaustion.filing_protocols.file_away", file_away)


def claim_announced_before_it_is_synced(patch: pytest.MonkeyPatch) -> None:
    def recover_claims(disk: DiskPort) -> tuple[filing.Claimed, ...]:
        numbers = [name for name in disk.listdir(filing.BATCHES) if name.isdigit()]
        found = [(number, disk.listdir(f"{filing.BATCHES}/{number}")) for number in numbers]
        for number, names in found:
            if not names:
                durable.remove(disk, f"{filing.BATCHES}/{number}")
        return tuple(filing._claimed(disk, number, names[0]) for number, names in found if names)

    patch.setattr("tools.exhaustion.filing_protocols.recover_claims", recover_claims)


def empty_claim_deleted_before_its_emptiness_is_synced(patch: pytest.MonkeyPatch) -> None:
    def recover_claims(disk: DiskPort) -> tuple[filing.Claimed, ...]:
        found = []
        for number in [name for name in disk.listdir(filing.BATCHES) if name.isdigit()]:
            folder = f"{filing.BATCHES}/{number}"
            if names := disk.listdir(folder):
                disk.fsync_dir(folder)
                disk.fsync_dir(INBOX)
                found.append(filing._claimed(disk, number, names[0]))
            else:
                durable.remove(disk, folder)
        return tuple(found)

    patch.setattr("tools.exhaustion.filing_protocols.recover_claims", recover_claims)


def number_given_before_it_is_noted(patch: pytest.MonkeyPatch) -> None:
    sound = durable.write_file

    def write_file(disk: DiskPort, path: str, data: bytes) -> None:
        if path != filing.LAST_NUMBER or disk.stat(path) is None:
            sound(disk, path, data)

    patch.setattr(durable, "write_file", write_file)


def set_aside_by_copying_after_the_delete(patch: pytest.MonkeyPatch) -> None:
    def set_aside(self: Store, path: str) -> None:
        files = durable.copy_files(self._disk, path)
        durable.remove(self._disk, path)
        durable.write_directory(self._disk, f"state/set_aside/generations-{path[-6:]}", files)

    patch.setattr(Store, "set_aside", set_aside)


def healed_model_takes_its_place_before_it_is_whole_beside_it(patch: pytest.MonkeyPatch) -> None:
    def replace_directory(disk: DiskPort, staged: str, path: str) -> None:
        durable.remove(disk, path)
        durable.show_directory(disk, staged, path)

    patch.setattr(durable, "replace_directory", replace_directory)


def old_folder_goes_before_the_whole_one_is_synced(patch: pytest.MonkeyPatch) -> None:
    def finish_replacing(disk: DiskPort, path: str) -> bool:
        whole = durable.hidden(path, "whole")
        if disk.stat(whole) is None:
            return False
        durable._remove_below(disk, path)
        disk.rename(whole, path)
        disk.fsync_dir(durable.parent_of(path))
        return True

    patch.setattr(durable, "finish_replacing", finish_replacing)


def reserve_written_in_place(patch: pytest.MonkeyPatch) -> None:
    def make(self: Reserve) -> int:
        durable.remove(self._disk, RESERVE)
        durable.write_new(self._disk, RESERVE, b"".join(self._pieces()))
        self._sync()
        return self.lies()

    patch.setattr(Reserve, "make", make)


def reserve_released_without_a_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reserve, "release", lambda self: self.lies() and self._disk.unlink(RESERVE))


MUTANTS: tuple[tuple[Plant, str], ...] = (
    (no_fsync, "write_file: replace"),
    (no_fsync, "write_directory"),
    (no_fsync, "store: a commit, a snapshot and retention"),
    (no_fsync_dir_after_the_rename, "write_file: make"),
    (no_fsync_dir_after_the_rename, "store: going back"),
    (renamed_before_it_is_synced, "write_file: replace"),
    (written_in_place, "write_file: replace"),
    (staged_folder_not_synced, "write_directory"),
    (failed_sync_swallowed, "write_file: replace"),
    (another_error_told, "write_file: make"),
    (sweep_takes_what_is_sound, "sweep"),
    (nothing_is_swept, "write_directory"),
    (trusts_a_folder_that_is_there, "ensure_directory: and a file in it"),
    (moved_under_one_synced_name, "move_file"),
    (source_removed_before_the_copy_is_shown, "move_file: across file systems"),
    (half_deleted_under_its_own_name, "remove: a folder"),
    (deleted_before_the_commit, "store: a commit, a snapshot and retention"),
    (head_before_its_generation, "store: the first commit"),
    (head_not_synced_before_it_is_believed, "store: the first commit"),
    (retention_after_a_head_that_may_be_taken_back, "store: a night"),
    (set_aside_by_copying_after_the_delete, "store: start-up sets aside what nothing reaches"),
    (paper_written_after_the_move, "inbox: filed as trained"),
    (claim_announced_before_it_is_synced, "inbox: a claim"),
    (empty_claim_deleted_before_its_emptiness_is_synced, "inbox: filed as trained"),
    (number_given_before_it_is_noted, "inbox: a claim"),
    (healed_model_takes_its_place_before_it_is_whole_beside_it, "replace_directory"),
    (healed_model_takes_its_place_before_it_is_whole_beside_it, "night: a damaged model in force is made anew"),
    (old_folder_goes_before_the_whole_one_is_synced, "replace_directory"),
    (reserve_written_in_place, "reserve: made"),
    (reserve_released_without_a_sync, "reserve: released"),
)


@pytest.mark.parametrize(("plant", "name"), MUTANTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, plant: Plant, name: str) -> None:
    scenario = next(each for each in PROTOCOLS if each.name == name)
    plant(monkeypatch)
    found = Sweep(scenario, cuts=1, torn_at_most=4, thorough=name.startswith("inbox")).run()
    assert found.violations, f"{plant.__name__} was not found in {name}"


def test_each_mode_of_survival_finds_what_another_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeping all, as killing does, is blind to a missing sync; and losing all to what was done in the wrong order."""

    def modes(plant: Plant, name: str) -> set[str]:
        scenario = next(each for each in PROTOCOLS if each.name == name)
        with monkeypatch.context() as patch:
            plant(patch)
            paths = [path for path, _ in Sweep(scenario, cuts=1, torn_at_most=4).run().violations if " " not in path]
        return {mode for path in paths for mode in ("lose_all", "keep_all", "torn") if f".{mode}" in path}

    assert modes(no_fsync, "write_file: replace") == {"lose_all", "torn"}
    assert modes(no_fsync_dir_after_the_rename, "write_file: make") == {"lose_all", "torn"}
    assert "keep_all" in modes(written_in_place, "write_file: replace")
