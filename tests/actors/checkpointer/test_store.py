"""The commit protocol against a disk that fails at every operation, and against damage of every kind."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from actors.checkpointer import store as store_module
from actors.checkpointer.head import HEAD_PATH, Head, Kept, Manifest, decode
from actors.checkpointer.store import Opened, Store
from actors.checkpointer.verification import Damaged, verify
from messages import LearningState
from runtime import durable
from runtime.errors import OperatorError
from runtime.manifest import encode, sealed
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import SURVIVALS, Fault, IoError, PowerCut, PowerLost
from tests.actors.stage import CUTS, REFUSALS, clone, cut_after, cut_at, fails_at, operations_of

NIGHT = "20260102T030000"
NEWEST = "state/generations/000004"
BEFORE = "state/generations/000003"


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the libraries' metadata takes longer than a simulated commit."""
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def files(mark: int) -> dict[str, bytes]:
    return {
        "adapter_model.safetensors": f"weights {mark:04d}".encode(),
        "adapter_config.json": b"{}\n",
        "optimizer.safetensors": f"moments {mark:04d}".encode(),
    }


def state(step: int, adapter: str = "a0001") -> LearningState:
    return LearningState(global_step=step, adapter_id=adapter, adapter_step=step, base_fingerprint="base")


def opened(disk: SimDisk, *, generations: int = 3, snapshots: int = 2, nights: int = 1) -> Store:
    store = Store(disk, keep_generations=generations, keep_snapshots=snapshots, keep_nights=nights)
    store.open()
    return store


def commit(store: Store, step: int) -> Kept:
    return store.commit(files(step), state(step), "test", f"2026-01-01T00:00:{step % 60:02d}")


def fold(store: Store, step: int = 90, night: str = NIGHT) -> Kept:
    folded = store.in_force().generation
    return store.commit_night(
        files(step),
        state(step, "a0002"),
        night=night,
        due_date="2026-01-02",
        folded=folded,
        model_path=f"consolidated_models/{night}",
        now="2026-01-02T03:10:00",
    )


def home(commits: int = 4, **keep: int) -> SimDisk:
    """Generation n holds step n; those that retention lets go of are still to be pruned."""
    disk = SimDisk()
    store = opened(disk, **keep)
    for step in range(1, commits + 1):
        commit(store, step)
    return disk


def weights(disk: SimDisk, store: Store) -> bytes:
    return disk.read(f"{store.in_force().path}/adapter_model.safetensors")


def all_is_well(disk: SimDisk, store: Store) -> None:
    """In force is sound, shown, and nothing else lies about than what HEAD reaches."""
    head = store.head
    assert head is not None
    force = store.in_force()
    for kept in head.kept:
        verify(disk, kept.path, kept.manifest)
    for delta in head.deltas:
        verify(disk, delta.path, delta.digest)
    assert disk.readlink("current_model") == force.path
    assert {f"state/generations/{name}" for name in disk.listdir("state/generations")} == {k.path for k in head.kept}
    assert {f"state/deltas/{name}" for name in disk.listdir("state/deltas")} == {delta.path for delta in head.deltas}
    assert not [path for path in disk.tree() if durable.is_leftover(path.rsplit("/", 1)[-1])]


# Every operation of every protocol.

Act = Callable[[Store], object]
JOBS: dict[str, tuple[Act, set[bytes]]] = {
    "commit": (lambda store: commit(store, 5), {b"weights 0004", b"weights 0005"}),
    "commit_night": (fold, {b"weights 0004", b"weights 0090"}),
    "put_back": (lambda store: store.put_back("3"), {b"weights 0004", b"weights 0003"}),
    "snapshot and prune": (lambda store: (store.snapshot("2026-01-04"), store.prune()), {b"weights 0004"}),
}
OUTCOME = {"commit": b"weights 0005", "commit_night": b"weights 0090", "put_back": b"weights 0003"}


def _with_snapshots() -> SimDisk:
    disk = home()
    store = opened(disk)
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        store.snapshot(day)
    # One more generation than is kept lies about, as after a crash between commit and retention.
    store.head = replace(store.head or pytest.fail("empty"), kept=store.head.kept[1:])  # type: ignore[union-attr]
    disk.unlink(HEAD_PATH)
    durable.write_file(disk, HEAD_PATH, sealed(store.head))
    return clone(disk)


PREPARED = _with_snapshots()


def job_of(act: Act) -> Callable[[SimDisk], object]:
    def job(disk: SimDisk) -> object:
        store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
        store.head = decode(disk.read(HEAD_PATH), Head, HEAD_PATH)  # opened before: only the act itself is swept
        return act(store)

    return job


def prepared() -> SimDisk:
    return clone(PREPARED)


def either(disk: SimDisk, allowed: set[bytes]) -> None:
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    found = store.open()
    assert found.damage == ()
    assert weights(disk, store) in allowed
    all_is_well(disk, store)


@pytest.mark.parametrize("name", JOBS)
def test_b2_n3_power_cut_at_every_operation(name: str) -> None:
    act, allowed = JOBS[name]
    job = job_of(act)
    count = operations_of(prepared, job)
    assert count >= 8
    for point in range(1, count + 1):
        for cut in CUTS:
            either(cut_at(prepared, job, point, cut), allowed)
    for survival in SURVIVALS:
        either(cut_after(prepared, job, survival), {OUTCOME.get(name, b"weights 0004")})


@pytest.mark.parametrize("name", JOBS)
def test_d5_a_disk_that_refuses_at_every_operation(name: str) -> None:
    act, allowed = JOBS[name]
    job = job_of(act)
    refused = 0
    for point in range(1, operations_of(prepared, job) + 1):
        for fault in REFUSALS:
            disk = prepared()
            fails_at(disk, point, fault)
            try:
                job(disk)
            except OSError:
                refused += 1
            either(disk, allowed)
            # And it goes on: the next commit is as good as any.
            store = opened(disk)
            commit(store, 97)
            assert weights(disk, store) == b"weights 0097"
    assert refused >= 8


def test_d5_the_same_store_goes_on_after_a_refused_commit() -> None:
    """Without a restart in between, the next try commits, and nothing that HEAD may name is written over."""
    for point in range(1, operations_of(prepared, job_of(JOBS["commit"][0])) + 1):
        for fault in REFUSALS:
            disk = prepared()
            store = opened(disk)
            fails_at(disk, point, fault)
            try:
                commit(store, 5)
            except OSError:
                assert weights(disk, store) in (b"weights 0004", b"weights 0005")
                cut = clone(disk)
                fails_at(disk, 1, PowerCut("lose_all"))
                with pytest.raises(PowerLost):
                    disk.mkdir("any")
                either(disk.reboot(), {b"weights 0004", b"weights 0005"})
                disk = store._disk = cut
                commit(store, 5)
            assert weights(disk, store) == b"weights 0005"
            either(disk, {b"weights 0005"})


def test_b2_d5_power_cut_in_the_commit_after_a_refused_one() -> None:
    """If only the last sync failed, HEAD shows the new generation already: it must not be written over."""

    def twice(disk: SimDisk) -> object:
        store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
        store.head = decode(disk.read(HEAD_PATH), Head, HEAD_PATH)
        with contextlib.suppress(OSError):
            commit(store, 5)
        return commit(store, 6)

    count = operations_of(prepared, job_of(JOBS["commit"][0]))
    for refused in range(1, count + 1):
        for cut in range(1, count + 2):
            disk = prepared()
            first = disk.operations + refused

            def fault(number: int, _name: str, _path: str, first: int = first, cut: int = cut) -> Fault | None:
                if number == first:
                    return IoError()
                return PowerCut("keep_all", halfway=True) if number == first + cut else None

            disk.faults = fault
            try:
                twice(disk)
            except PowerLost:
                disk = disk.reboot()
            disk.faults = None
            either(disk, {b"weights 0004", b"weights 0005", b"weights 0006"})


@pytest.mark.parametrize("name", ["commit", "commit_night"])
def test_b2_a_second_power_cut_while_starting(name: str) -> None:
    act, allowed = JOBS[name]
    job = job_of(act)
    for point in range(1, operations_of(prepared, job) + 1, 2):
        disk = cut_at(prepared, job, point, PowerCut("torn", seed=point, halfway=True))
        _cut_while_opening(disk, allowed)


def test_b2_power_cut_while_healing_a_damaged_generation() -> None:
    disk = home()
    disk.corrupt(f"{NEWEST}/optimizer.safetensors", random.Random(1))
    _cut_while_opening(disk, {b"weights 0003"}, damage=True)


def test_b2_power_cut_while_a_snapshot_becomes_a_generation() -> None:
    disk = home(1)
    opened(disk).snapshot("2026-01-01")
    disk.corrupt("state/generations/000001/optimizer.safetensors", random.Random(1))
    _cut_while_opening(disk, {b"weights 0001"}, damage=True)


def _cut_while_opening(disk: SimDisk, allowed: set[bytes], *, damage: bool = False) -> None:
    count = operations_of(lambda: clone(disk), opened)
    for point in range(1, count + 1):
        for survival in SURVIVALS:
            found = cut_at(lambda: clone(disk), opened, point, PowerCut(survival, seed=point, halfway=True))
            store = Store(found, keep_generations=3, keep_snapshots=2, keep_nights=1)
            told = store.open()
            assert damage or told.damage == ()
            assert weights(found, store) in allowed
            all_is_well(found, store)
            if damage:
                assert [path for path in found.tree() if path.startswith("state/set_aside/generations-")]


def test_b2_power_cut_at_every_operation_of_the_first_start() -> None:
    for point in range(1, operations_of(SimDisk, opened) + 1):
        for cut in CUTS:
            found = cut_at(SimDisk, opened, point, cut)
            store = opened(found)
            assert store.in_force().generation == 0
            commit(store, 1)
            all_is_well(found, store)


# B1: damage.

DAMAGES: dict[str, Callable[[SimDisk, str], None]] = {
    "truncated": lambda disk, path: disk.person_put(path, disk.read(path)[:-1]),
    "bit-flipped": lambda disk, path: disk.corrupt(path, random.Random(path)),
    "emptied": lambda disk, path: disk.person_put(path, b""),
    "deleted": lambda disk, path: disk.person_remove(path),
    "not JSON": lambda disk, path: disk.person_put(path, b"\x00" * len(disk.read(path))),
}
PARTS = (*files(0), "trainer_state.json", "MANIFEST.json")


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_b1_a_damaged_file_of_the_newest_generation(part: str, damage: str) -> None:
    disk = home()
    DAMAGES[damage](disk, f"{NEWEST}/{part}")
    damaged = {path.rsplit("/", 1)[-1]: data for path, data in disk.tree().items() if path.startswith(f"{NEWEST}/")}
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    found = store.open()
    assert [(what, instead) for what, _, instead in found.damage] == [(NEWEST, BEFORE)]
    assert part in found.damage[0][1] or damage == "deleted"
    assert weights(disk, store) == b"weights 0003"
    assert store.in_force().state.global_step == 3
    aside = {name: disk.read(f"state/set_aside/generations-000004/{name}") for name in damaged}
    assert aside == damaged
    assert opened(disk).in_force().generation == 3
    assert Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1).open().damage == ()
    commit(store, 9)
    assert weights(disk, store) == b"weights 0009"


def test_b1_found_while_running_and_healed_by_opening_again() -> None:
    disk = home()
    store = opened(disk)
    disk.corrupt(f"{NEWEST}/adapter_model.safetensors", random.Random(0))
    with pytest.raises(Damaged, match="other content"):
        store.in_force()
    assert len(store.open().damage) == 1
    assert weights(disk, store) == b"weights 0003"


def test_b1_an_unknown_file_in_a_generation_is_damage() -> None:
    disk = home()
    disk.person_put(f"{NEWEST}/pickled.bin", b"x")
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    assert "pickled.bin" in store.open().damage[0][1]
    assert store.in_force().generation == 3


def test_b1_a_swapped_manifest_and_content_do_not_pass() -> None:
    """A whole generation in another's place agrees with itself, and not with HEAD."""
    disk = home()
    for name in PARTS:
        disk.person_put(f"{NEWEST}/{name}", disk.read(f"state/generations/000002/{name}"))
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    assert "not the one that was committed" in store.open().damage[0][1]
    assert weights(disk, store) == b"weights 0003"


def test_b4_an_edited_global_step_is_refused() -> None:
    disk = home()
    path = f"{NEWEST}/trainer_state.json"
    edited = disk.read(path).replace(b'"global_step": 4', b'"global_step": 9')
    assert edited != disk.read(path)
    disk.person_put(path, edited)
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    found = store.open()
    assert "trainer_state.json has other content than was committed" in found.damage[0][1]
    assert store.in_force().state.global_step == 3


def test_b7_a_missing_optimizer_is_never_silently_fresh() -> None:
    disk = home()
    disk.person_remove(f"{NEWEST}/optimizer.safetensors")
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    found = store.open()
    assert "optimizer.safetensors" in found.damage[0][1]
    assert disk.read(f"{store.in_force().path}/optimizer.safetensors") == b"moments 0003"


def test_b6_numbers_past_9999_and_999999_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for first in (9_998, 999_998):
        disk = SimDisk()
        store = opened(disk)
        with monkeypatch.context() as patch:
            patch.setattr(Head, "next_generation", first)
            commit(store, 1)
        for step in range(2, 6):
            commit(store, step)
        numbers = [kept.generation for kept in (store.head or pytest.fail("empty")).kept]
        assert numbers == [first + 2, first + 3, first + 4]
        store.prune()
        again = opened(disk)
        assert again.in_force().generation == first + 4
        assert weights(disk, again) == b"weights 0005"
        assert f"state/generations/{first + 4:06d}" == again.in_force().path
        disk.person_remove(HEAD_PATH)
        assert weights(disk, opened(disk)) == b"weights 0005"
        again = opened(disk)
        assert commit(again, 6).generation == first + 5


def test_b6_the_newest_of_six_and_seven_digits_is_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    store = opened(disk)
    monkeypatch.setattr(Head, "next_generation", 999_999)
    commit(store, 1)
    monkeypatch.undo()
    commit(store, 2)
    assert disk.listdir("state/generations") == ["1000000", "999999"]
    disk.person_remove(HEAD_PATH)
    assert weights(disk, opened(disk)) == b"weights 0002"


# B8: versions.


def test_b8_a_newer_head_is_refused_and_nothing_changed() -> None:
    disk = home()
    disk.person_put(HEAD_PATH, encode(replace(decode(disk.read(HEAD_PATH), Head, ""), schema=2, seal="")))
    _refused_untouched(disk)


def test_b8_a_newer_generation_is_refused_and_nothing_changed() -> None:
    disk = home()
    _rewritten(disk, schema=2)
    _refused_untouched(disk)


def _refused_untouched(disk: SimDisk) -> None:
    before = disk.tree()
    with pytest.raises(OperatorError, match="schema 2; this version of nightfold reads up to 1") as caught:
        opened(disk)
    assert (caught.value.code, caught.value.exit_code) == ("NF-STATE-004", 78)
    assert disk.tree() == before


def test_b8_an_older_one_is_read_and_migrated_on_the_next_commit() -> None:
    disk = home()
    _rewritten(disk, schema=0)
    store = opened(disk)
    assert store.in_force().state.schema == 0
    kept = store.commit(files(5), store.in_force().state, "test", "now")
    assert decode(disk.read(HEAD_PATH), Head, "").schema == 1
    assert decode(disk.read(f"{kept.path}/MANIFEST.json"), Manifest, "").schema == 1
    assert store.in_force().state.schema == 1


def _rewritten(disk: SimDisk, schema: int) -> None:
    """The home as another version would have left it: its newest generation, and the HEAD that names it."""
    head = decode(disk.read(HEAD_PATH), Head, "")
    raw_state = encode(replace(state(4), schema=schema))
    disk.person_put(f"{NEWEST}/trainer_state.json", raw_state)
    manifest = decode(disk.read(f"{NEWEST}/MANIFEST.json"), Manifest, "")
    entries = {
        **manifest.files,
        "trainer_state.json": replace(
            manifest.files["trainer_state.json"], size=len(raw_state), digest=durable.digest_of_bytes(raw_state)
        ),
    }
    raw = sealed(replace(manifest, schema=schema, files=entries))
    disk.person_put(f"{NEWEST}/MANIFEST.json", raw)
    kept = tuple(
        replace(one, manifest=durable.digest_of_bytes(raw)) if one.generation == 4 else one for one in head.kept
    )
    disk.person_put(HEAD_PATH, sealed(replace(head, schema=min(schema, 1), kept=kept)))


# R2: nothing sound.


def test_r2_every_generation_damaged_the_newest_snapshot_takes_over() -> None:
    disk = home()
    store = opened(disk)
    store.snapshot("2026-01-01")
    commit(store, 5)
    store.snapshot("2026-01-02")
    commit(store, 6)
    store.prune()
    names = disk.listdir("state/generations")
    for name in names:
        disk.corrupt(f"state/generations/{name}/adapter_model.safetensors", random.Random(name))
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    found = store.open()
    assert weights(disk, store) == b"weights 0005"
    assert sorted(what for what, _, _ in found.damage) == [f"state/generations/{name}" for name in names]
    assert {instead for _, _, instead in found.damage} == {"state/generations/000005"}
    assert names == ["000004", "000005", "000006"]
    aside = set(disk.listdir("state/set_aside"))
    assert aside >= {f"generations-{name}" for name in names}
    all_is_well(disk, store)
    commit(store, 8)
    assert Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1).open().damage == ()


def test_r2_a_damaged_snapshot_is_passed_over() -> None:
    disk = home()
    store = opened(disk)
    store.snapshot("2026-01-01")
    commit(store, 5)
    store.snapshot("2026-01-02")
    for name in disk.listdir("state/generations"):
        disk.person_remove(f"state/generations/{name}")
    disk.corrupt("snapshots/2026-01-02/trainer_state.json", random.Random(0))
    assert weights(disk, opened(disk)) == b"weights 0004"


def test_r2_nothing_sound_is_left() -> None:
    disk = home()
    opened(disk).snapshot("2026-01-01")
    for folder in (
        *(f"state/generations/{name}" for name in disk.listdir("state/generations")),
        "snapshots/2026-01-01",
    ):
        disk.corrupt(f"{folder}/optimizer.safetensors", random.Random(folder))
    before = disk.tree()
    for _ in range(2):
        with pytest.raises(OperatorError, match="no sound generation and no sound snapshot") as caught:
            opened(disk)
        assert (caught.value.code, caught.value.exit_code) == ("NF-STATE-002", 78)
        assert "snapshots/2026-01-01" in caught.value.what
        assert disk.tree() == before


def test_r2_a_lost_head_with_damaged_generations_is_not_a_new_home() -> None:
    disk = home(1)
    disk.person_remove(HEAD_PATH)
    disk.corrupt("state/generations/000001/MANIFEST.json", random.Random(3))
    with pytest.raises(OperatorError, match="NF-STATE-002"):
        opened(disk)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "deleted", "not JSON"])
def test_r1_a_damaged_head_is_rebuilt(damage: str) -> None:
    disk = home()
    DAMAGES[damage](disk, HEAD_PATH)
    store = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1)
    found = store.open()
    assert weights(disk, store) == b"weights 0004"
    assert [what for what, _, _ in found.damage] == ([] if damage == "deleted" else [HEAD_PATH])
    assert [kept.generation for kept in (found.head or pytest.fail("empty")).kept] == [1, 2, 3, 4]
    assert found.set_aside == ()
    all_is_well(disk, store)
    assert store.put_back("3").global_step == 3
    assert commit(store, 5).generation == 5


def test_r1_any_turned_bit_of_head_is_found() -> None:
    """Most of its bits are still JSON when turned: another generation, another ledger, another digest."""
    disk = home()
    fold(opened(disk))
    raw = disk.read(HEAD_PATH)
    for index in range(0, len(raw), 3):
        turned = bytearray(raw)
        turned[index] ^= 1 << index % 8
        found = clone(disk)
        found.person_put(HEAD_PATH, bytes(turned))
        store = Store(found, keep_generations=3, keep_snapshots=2, keep_nights=1)
        store.open()
        force = store.in_force()
        assert (force.generation, force.model_path) == (5, f"consolidated_models/{NIGHT}"), f"bit in byte {index}"
        assert [delta.night for delta in force.ledger] == [NIGHT]


# B3, D2, D4: retention.


def test_d2_counts_are_kept_and_no_more() -> None:
    disk = SimDisk()
    store = opened(disk)
    for step in range(1, 9):
        commit(store, step)
        store.snapshot(f"2026-01-{step:02d}")
        store.prune()
    assert disk.listdir("state/generations") == ["000006", "000007", "000008"]
    assert disk.listdir("snapshots") == ["2026-01-07", "2026-01-08"]
    assert store.snapshot("2026-01-08") == ""
    all_is_well(disk, store)


def test_d2_in_force_stays_after_a_rollback_and_so_does_what_is_pinned() -> None:
    disk = home(3, generations=3)
    store = opened(disk)
    head = store.head or pytest.fail("empty")
    store.head = replace(head, kept=tuple(replace(kept, pinned=kept.generation == 2) for kept in head.kept))
    store.put_back("1")
    commit(store, 11)
    store.prune()
    assert disk.listdir("state/generations") == ["000001", "000002", "000003", "000004"], "1 was in force until now"
    for step in range(12, 16):
        commit(store, step)
        store.prune()
    # Both ends of going back (1 and 3), pinned (2), and the newest three.
    assert disk.listdir("state/generations") == ["000001", "000002", "000003", "000006", "000007", "000008"]
    store.put_back("2")
    for step in range(16, 18):
        before = store.in_force().generation
        kept = commit(store, step)
        store.prune()
        assert disk.stat(f"state/generations/{before:06d}") is not None, "the parent of what is in force"
        assert disk.stat(kept.path) is not None
    assert disk.stat("state/generations/000002") is not None


def test_d2_the_generations_of_kept_nights_stay() -> None:
    disk = home(2)
    store = opened(disk, nights=1)
    fold(store)
    for step in range(91, 97):
        commit(store, step)
        store.prune()
    # 2 was folded, 3 is the fresh adapter; then the newest three.
    assert disk.listdir("state/generations") == ["000002", "000003", "000007", "000008", "000009"]
    fold(store, 200, "20260103T030000")
    for step in range(201, 205):
        commit(store, step)
        store.prune()
    assert disk.listdir("state/generations")[:2] == ["000009", "000010"]
    assert [delta.night for delta in store.in_force().ledger] == [NIGHT, "20260103T030000"]
    assert disk.listdir("state/deltas") == [NIGHT, "20260103T030000"], "the ledger is never pruned"


def _stubborn(number: int, operation: str, path: str) -> Fault | None:
    """What was generation 1 cannot be deleted, whatever its folder is called meanwhile."""
    del number
    hidden = durable.hidden("state/generations/000001", "deleting")
    return IoError() if operation == "unlink" and path.startswith(("state/generations/000001", hidden)) else None


def test_b3_a_generation_that_cannot_be_deleted_is_told_and_tried_again() -> None:
    disk = home()
    store = opened(disk, generations=2)
    commit(store, 5)
    disk = clone(disk)
    store = Store(disk, keep_generations=2, keep_snapshots=2, keep_nights=1)
    store.head = decode(disk.read(HEAD_PATH), Head, "")
    disk.person_mkdir("state/generations/000001")
    disk.person_put("state/generations/000001/weights", b"old")
    disk.faults = _stubborn
    first = store.prune()
    assert first.stuck == ("state/generations/000001",)
    assert "state/generations/000003" in first.deleted or first.deleted == ()
    # Half deleted, it is no longer found under its own name (D4), and is told again.
    assert disk.stat("state/generations/000001") is None
    assert len(store.prune().stuck) == 1
    commit(store, 6)
    assert weights(disk, store) == b"weights 0006"
    # A start while it still will not go is no worse.
    again = opened(disk, generations=2)
    assert weights(disk, again) == b"weights 0006"
    disk.faults = None
    assert len(again.prune().deleted) >= 1
    all_is_well(disk, again)


def test_d4_a_delete_that_half_succeeds_leaves_nothing_loadable() -> None:
    """The power goes in the middle of retention: what is half-deleted is never taken for a generation."""
    for point in range(1, operations_of(prepared, job_of(lambda store: store.prune())) + 1):
        disk = cut_at(prepared, job_of(lambda store: store.prune()), point, PowerCut("keep_all", halfway=True))
        for name in disk.listdir("state/generations"):
            assert durable.is_leftover(name) or verify(disk, f"state/generations/{name}"), "whole under its own name"
        disk.person_remove(HEAD_PATH)  # now only the folders themselves can say
        store = opened(disk)
        assert weights(disk, store) == b"weights 0004"
        all_is_well(disk, store)


# Going back.


def test_put_back_to_a_generation_and_to_a_night_and_back_again() -> None:
    disk = home(3)
    disk.person_mkdir("consolidated_models")
    disk.person_mkdir(f"consolidated_models/{NIGHT}")
    store = opened(disk, generations=10, nights=5)
    fold(store)  # generation 4 stands on the night's model
    commit(store, 95)
    assert store.in_force().model_path == f"consolidated_models/{NIGHT}"
    store.put_back("2")
    force = store.in_force()
    assert (force.generation, force.model_path, force.ledger) == (2, "", ())
    assert force.models_needed == (f"consolidated_models/{NIGHT}",), "the way forward is still open"
    assert disk.readlink("current_model") == "state/generations/000002"
    store.put_back(NIGHT)
    force = store.in_force()
    assert (force.generation, force.model_path) == (4, f"consolidated_models/{NIGHT}")
    assert [delta.night for delta in force.ledger] == [NIGHT]
    store.put_back("5")
    assert weights(disk, store) == b"weights 0095"
    all_is_well(disk, opened(disk, generations=10, nights=5))
    # A commit after going back takes a new number and has what it went back to as its parent.
    store.put_back("1")
    kept = commit(store, 50)
    assert kept.generation == 6
    assert decode(disk.read(f"{kept.path}/MANIFEST.json"), Manifest, "").parent == 1


def test_put_back_refuses_what_is_not_kept_and_what_is_not_sound() -> None:
    disk = home()
    store = opened(disk)
    for unknown in ("1", "99", "20270101T030000", "../etc"):
        with pytest.raises(OperatorError, match=r"kept: 2, 3, 4") as caught:
            store.put_back(unknown)
        assert caught.value.code == "NF-STATE-003"
    with pytest.raises(OperatorError, match="kept: none"):
        opened(SimDisk()).put_back("1")
    disk.corrupt(f"{BEFORE}/adapter_model.safetensors", random.Random(0))
    with pytest.raises(Damaged):
        store.put_back("3")
    assert store.in_force().generation == 4


# Nights.


def test_a_night_is_refused_when_its_adapter_is_no_longer_in_force() -> None:
    disk = home()
    store = opened(disk)
    with pytest.raises(Damaged, match="no longer in force"):
        store.commit_night(
            files(9), state(9), night=NIGHT, due_date="", folded=3, model_path="m", now="now"
        )  # fmt: skip
    empty = opened(SimDisk())
    with pytest.raises(Damaged):
        empty.commit_night(files(9), state(9), night=NIGHT, due_date="", folded=0, model_path="m", now="now")


def test_a_delta_holds_the_adapter_and_not_the_optimizer() -> None:
    disk = home()
    store = opened(disk)
    fold(store)
    delta = store.in_force().ledger[0]
    assert disk.listdir(delta.path) == ["MANIFEST.json", "adapter_config.json", "adapter_model.safetensors"]
    assert disk.read(f"{delta.path}/adapter_model.safetensors") == b"weights 0004"
    assert (delta.generation, delta.global_step, delta.due_date) == (4, 4, "2026-01-02")


def test_n3_a_damaged_adapter_is_not_folded() -> None:
    disk = home()
    store = opened(disk)
    folded = store.in_force().generation
    disk.corrupt(f"{NEWEST}/adapter_model.safetensors", random.Random(0))
    with pytest.raises(Damaged):
        store.commit_night(files(9), state(9), night=NIGHT, due_date="", folded=folded, model_path="m", now="now")
    assert disk.listdir("state/deltas") == []


# Small things.


def test_what_is_set_aside_is_bounded_but_survives_the_start_that_did_it() -> None:
    disk = SimDisk()
    store = opened(disk, generations=10)
    for step in range(1, 8):
        commit(store, step)
    head = store.head or pytest.fail("empty")
    disk.person_put(HEAD_PATH, sealed(replace(head, kept=head.kept[-1:])))
    found = Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1).open()
    assert len(found.set_aside) == 6
    assert len(disk.listdir("state/set_aside")) == 6
    opened(disk)
    assert disk.listdir("state/set_aside") == ["generations-000004", "generations-000005", "generations-000006"]


def test_a_persons_own_current_model_is_left_alone() -> None:
    disk = SimDisk()
    disk.person_mkdir("current_model")
    store = opened(disk)
    commit(store, 1)
    assert disk.listdir("current_model") == []
    assert weights(disk, store) == b"weights 0001"


def _refuses_the_link(disk: SimDisk) -> None:
    disk.faults = lambda _number, _operation, path: IoError() if "current_model" in path else None


def test_d5_a_link_that_is_refused_fails_no_commit_and_is_shown_by_retention() -> None:
    disk = home()
    store = opened(disk)
    _refuses_the_link(disk)
    assert commit(store, 5).generation == 5, "what is in force is not told as refused"
    store.prune()
    assert disk.readlink("current_model") == NEWEST
    disk.faults = None
    store.prune()
    assert disk.readlink("current_model") == "state/generations/000005"


def test_d5_who_went_back_and_was_refused_the_link_has_it_with_the_next_try() -> None:
    disk = home()
    store = opened(disk)
    _refuses_the_link(disk)
    with pytest.raises(OSError, match="current_model"):
        store.put_back("3")
    disk.faults = None
    assert store.put_back("3").generation == 3
    assert disk.readlink("current_model") == BEFORE


def test_a_commit_that_reads_back_differently_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = home()
    store = opened(disk)

    def bad_sector(written: SimDisk, path: str, content: dict[str, bytes]) -> None:
        _write_directory(written, path, content)
        written.corrupt(f"{path}/adapter_model.safetensors", random.Random(0))

    monkeypatch.setattr(durable, "write_directory", bad_sector)
    with pytest.raises(OSError, match="read back differently") as caught:
        commit(store, 5)
    assert caught.value.errno == errno.EIO
    monkeypatch.undo()
    assert weights(disk, store) == b"weights 0004"


_write_directory = durable.write_directory


def test_records_are_plain_json_that_a_person_can_read() -> None:
    disk = home()
    found = msgspec.json.decode(disk.read(HEAD_PATH))
    assert (found["generation"], found["generation_path"]) == (4, NEWEST)
    assert disk.read(HEAD_PATH).endswith(b"}\n")


def test_opened_twice_is_opened_once() -> None:
    disk = home()
    before = (opened(disk), disk.tree())[1]
    assert Store(disk, keep_generations=3, keep_snapshots=2, keep_nights=1).open() == Opened(
        decode(disk.read(HEAD_PATH), Head, ""), (), (), ()
    )
    assert disk.tree() == before
