"""Pinning and going back: what a person named stays, through power cuts and bounds, and a rollback can be undone."""

from __future__ import annotations

import random

import msgspec
import pytest
from msgspec.structs import replace

from actors.checkpointer.head import HEAD_PATH, Head, decode
from actors.checkpointer.pinning import pin
from actors.checkpointer.store import Store
from actors.checkpointer.verification import Damaged
from messages import PinRefused, PinSet
from runtime import OperatorError, durable
from runtime.manifest import seal_holds, sealed
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import Fault, IoError, PowerCut, PowerLost
from tests.actors.checkpointer.test_store import NIGHT, commit, files, fold, opened, state, weights
from tests.actors.stage import fails_at

DAY = "2026-01-01"


def model(disk: SimDisk, night: str = NIGHT) -> None:
    durable.ensure_directory(disk, f"consolidated_models/{night}")
    disk.person_put(f"consolidated_models/{night}/weights", b"merged " * 100)


def head_on(disk: SimDisk) -> Head:
    raw = disk.read(HEAD_PATH)
    assert seal_holds(raw)
    return decode(raw, Head, HEAD_PATH)


def lived(commits: int = 4) -> tuple[SimDisk, Store]:
    disk = SimDisk()
    store = opened(disk)
    for step in range(1, commits + 1):
        commit(store, step)
    store.prune()
    return disk, store


def go_on(store: Store, steps: range) -> None:
    for step in steps:
        commit(store, step)
        store.prune()


def test_d2_a_pinned_generation_stays_until_it_is_unpinned() -> None:
    disk, store = lived()
    before = head_on(disk).number
    assert pin(store, "2", pinned=True) == PinSet("2", "generation", True, False)
    assert head_on(disk).number == before + 1, "one replacement of HEAD"
    assert pin(store, "2", pinned=True) == PinSet("2", "generation", True, True)
    assert head_on(disk).number == before + 1, "and none where nothing changes"
    go_on(store, range(5, 9))
    assert disk.listdir("state/generations") == ["000002", "000006", "000007", "000008"]
    assert opened(disk).put_back("2").generation == 2
    store = opened(disk)
    store.put_back("8")
    assert pin(store, "2", pinned=False) == PinSet("2", "generation", False, True)
    assert disk.stat("state/generations/000002") is not None, "nothing is deleted by unpinning"
    store.prune()
    assert disk.listdir("state/generations") == ["000006", "000007", "000008"], "the bounds hold without a commit"


def test_d2_a_pinned_night_stays_with_its_model_and_what_was_before_it() -> None:
    disk, store = lived()
    model(disk)
    folded, night = store.in_force().generation, fold(store).generation
    assert pin(store, NIGHT, pinned=True) == PinSet(NIGHT, "night", True, False)
    go_on(store, range(91, 96))
    for number in range(3, 6):
        model(disk, f"2026010{number}T030000")
        fold(store, 100 * number, f"2026010{number}T030000")
        go_on(store, range(100 * number + 1, 100 * number + 5))
    head = head_on(disk)
    assert [one.night for one in head.nights] == [NIGHT, "20260105T030000"]
    assert f"consolidated_models/{NIGHT}" in head.models_needed()
    assert store.put_back(str(folded)).model_path == "", "to right before the night"
    assert store.put_back(NIGHT).generation == night


def test_d2_a_pinned_snapshot_stays_and_needs_its_model() -> None:
    disk, store = lived()
    model(disk)
    fold(store)
    commit(store, 91)
    store.snapshot(DAY)
    assert pin(store, DAY, pinned=True) == PinSet(DAY, "snapshot", True, False)
    for number in range(2, 9):
        commit(store, 100 + number)
        store.snapshot(f"2026-01-{number:02d}")
        store.prune()
    assert disk.listdir("snapshots") == [DAY, "2026-01-07", "2026-01-08"]
    for number in range(3, 6):
        fold(store, 1000 * number, f"2026010{number}T030000")
        go_on(store, range(1000 * number + 1, 1000 * number + 5))
    needed = f"consolidated_models/{NIGHT}"
    assert needed not in {one.model_path for one in head_on(disk).kept}, "no generation stands on it any more"
    assert needed in head_on(disk).models_needed()
    assert pin(store, DAY, pinned=False) == PinSet(DAY, "snapshot", False, True)
    assert store.prune().deleted[-1:] == (f"snapshots/{DAY}",)


@pytest.mark.parametrize("target", ["1", "99", "20270101T030000", "2027-01-01", "", "..", "../..", "-1", "²", "LOCK"])
def test_what_is_not_kept_cannot_be_pinned(target: str) -> None:
    disk, store = lived()
    before = disk.read(HEAD_PATH)
    for wish in (True, False):
        answer = pin(store, target, pinned=wish)
        assert isinstance(answer, PinRefused)
        assert answer.code == "NF-STATE-003"
        assert "2, 3, 4" in answer.why
    assert disk.read(HEAD_PATH) == before
    assert isinstance(pin(opened(SimDisk()), "1", pinned=True), PinRefused)


def test_what_is_not_sound_or_lacks_its_model_cannot_be_pinned() -> None:
    disk, store = lived()
    fold(store)  # its merged model is not there
    for target in (NIGHT, "5"):
        answer = pin(store, target, pinned=True)
        assert isinstance(answer, PinRefused)
        assert f"consolidated_models/{NIGHT}, is not there" in answer.why
    disk.corrupt("state/generations/000003/optimizer.safetensors", random.Random(1))
    answer = pin(store, "3", pinned=True)
    assert isinstance(answer, PinRefused)
    assert (answer.code, "other content" in answer.why) == ("NF-STATE-003", True)


def test_a_head_of_the_version_before_is_read_and_pins_are_fields_it_need_not_know() -> None:
    disk, store = lived()
    store.pin("2", pinned=True)
    whole = msgspec.json.decode(disk.read(HEAD_PATH))
    older = {name: value for name, value in whole.items() if name not in ("snapshots", "went_back", "seal")}
    disk.person_put(HEAD_PATH, msgspec.json.encode(older))
    again = opened(disk)
    assert again.in_force().generation == 4
    assert [one.generation for one in (again.head or pytest.fail("empty")).kept if one.pinned] == [2]


def test_b2_d2_a_power_cut_at_every_operation_of_pinning() -> None:
    for target in ("3", DAY):
        count = 0
        for point in range(1, 100):
            disk, store = lived()
            store.snapshot(DAY)
            # Some cuts keep the half that was done, some lose it.
            fails_at(disk, point, PowerCut("keep_all" if point % 2 else "lose_all", halfway=True))
            try:
                store.pin(target, pinned=True)
            except PowerLost:
                count += 1
                disk = disk.reboot()
            else:
                disk.faults = None
                break
            again = opened(disk)
            assert weights(disk, again) == b"weights 0004"
            again.pin(target, pinned=True)
            for day in range(2, 6):
                again.snapshot(f"2026-01-0{day}")
            go_on(again, range(5, 10))
            assert disk.stat("state/generations/000003" if target == "3" else f"snapshots/{DAY}") is not None
        assert count >= 4


def test_b1_where_head_is_lost_all_that_is_found_is_pinned() -> None:
    """HEAD alone knew what a person had pinned: nothing of it may go because HEAD went."""
    disk, store = lived()
    store.snapshot(DAY)
    store.pin("2", pinned=True)
    disk.person_remove(HEAD_PATH)
    again = opened(disk)
    go_on(again, range(5, 10))
    assert disk.listdir("state/generations")[:2] == ["000002", "000003"]
    assert [one.day for one in head_on(disk).snapshots] == [DAY]
    assert not next(one for one in head_on(disk).kept if one.generation == 9).pinned


def test_a_first_commit_that_was_cut_short_pins_nothing() -> None:
    disk = SimDisk()
    commit(opened(disk), 1)
    disk.person_remove(HEAD_PATH)
    assert not any(one.pinned for one in (opened(disk).head or pytest.fail("empty")).kept)


# Going back.


def test_d2_a_rollback_can_be_undone_however_much_was_learnt_since() -> None:
    disk, store = lived(5)
    store.put_back("3", "2026-01-01T01:00:00")
    go_on(store, range(6, 20))
    head = head_on(disk)
    assert head.went_back is not None
    assert (head.went_back.to, head.went_back.left) == (3, 5)
    assert {3, 5} <= {one.generation for one in head.kept}
    assert min(one.generation for one in head.kept if one.generation > 5) > 6, "retention goes on"
    before = head.generation
    store.put_back("5")
    assert weights(disk, store) == b"weights 0005"
    assert (head_on(disk).went_back or pytest.fail("forgotten")).left == before
    go_on(store, range(20, 25))
    assert disk.stat(f"state/generations/{before:06d}") is not None
    assert disk.stat("state/generations/000003") is None, "the rollback before the last one is no longer held"


def test_going_back_step_by_step_leaves_the_way_to_where_it_began() -> None:
    disk, store = lived(5)
    store.put_back("4")
    store.put_back("3")
    assert (head_on(disk).went_back or pytest.fail("forgotten")).left == 5
    go_on(store, range(6, 12))
    assert {3, 5} <= {one.generation for one in head_on(disk).kept}


def test_a_rollback_that_is_undone_at_once_leaves_no_trace() -> None:
    disk, store = lived(5)
    store.put_back("3")
    store.put_back("5")
    assert head_on(disk).went_back is None
    assert store.put_back("5").generation == 5


def test_numbers_after_a_rollback_go_on_above_the_highest_there_ever_was() -> None:
    _, store = lived(5)
    store.put_back("3")
    store.prune()
    assert commit(store, 50).generation == 6


def test_unpinning_an_end_of_a_rollback_lets_go_of_it() -> None:
    disk, store = lived(5)
    store.put_back("3")
    go_on(store, range(6, 12))
    assert pin(store, "5", pinned=False) == PinSet("5", "generation", False, True)
    store.prune()
    assert {3, 5}.isdisjoint(one.generation for one in head_on(disk).kept)


def test_a_snapshot_becomes_a_generation_again_under_a_new_number() -> None:
    disk, store = lived(2)
    store.snapshot(DAY)
    go_on(store, range(3, 9))
    assert disk.stat("state/generations/000002") is None
    kept = store.put_back(DAY, "2026-02-01T00:00:00")
    assert (kept.generation, kept.global_step, kept.why) == (9, 2, f"snapshot {DAY}")
    assert weights(disk, store) == b"weights 0002"
    assert store.in_force().state == replace(state(2), schema=1)
    assert (head_on(disk).went_back or pytest.fail("forgotten")).left == 8
    assert store.put_back("8").generation == 8
    assert weights(disk, opened(disk)) == b"weights 0008"


def test_a_snapshot_whose_generation_is_kept_is_that_generation() -> None:
    disk, store = lived(2)
    store.snapshot(DAY)
    commit(store, 3)
    assert store.put_back(DAY).generation == 2
    assert disk.listdir("state/generations") == ["000001", "000002", "000003"]


def test_a_damaged_snapshot_is_not_gone_back_to() -> None:
    disk, store = lived(2)
    store.snapshot(DAY)
    go_on(store, range(3, 9))
    disk.corrupt(f"snapshots/{DAY}/adapter_model.safetensors", random.Random(1))
    with pytest.raises(Damaged):
        store.put_back(DAY)
    assert store.in_force().generation == 8
    with pytest.raises(OperatorError, match=DAY):
        store.put_back("2026-03-03")


# The bounds of a config, on a real store.


def test_d2_a_lower_bound_holds_without_a_commit_and_head_lets_go_first() -> None:
    disk = SimDisk()
    store = opened(disk, generations=8)
    for step in range(1, 9):
        commit(store, step)
    size = (store.head or pytest.fail("empty")).kept[0].size_bytes
    bounded = Store(disk, keep_generations=8, keep_snapshots=2, keep_nights=1, generations_bytes_max=3 * size + 20)
    bounded.open()
    disk.log.clear()
    assert len(bounded.prune().deleted) == 5
    assert [one.generation for one in head_on(disk).kept] == [6, 7, 8]
    renamed = [path for _, operation, path in disk.log if operation == "rename"]
    assert renamed[0].endswith(f"-> {HEAD_PATH}"), "HEAD first, the disk second"
    assert all("generations" in path for path in renamed[1:])


def _head_refused(_number: int, _operation: str, path: str) -> Fault | None:
    return IoError() if durable.hidden(HEAD_PATH, "tmp") in path else None


def test_d5_what_head_could_not_let_go_of_is_not_deleted() -> None:
    disk = SimDisk()
    store = opened(disk, generations=8)
    for step in range(1, 6):
        commit(store, step)
    bounded = opened(disk, generations=2)
    disk.faults = _head_refused
    assert bounded.prune().deleted == ()
    disk.faults = None
    assert [one.generation for one in head_on(disk).kept] == [1, 2, 3, 4, 5]
    assert len(bounded.prune().deleted) == 3


def test_the_policy_foretells_what_is_deleted() -> None:
    disk = SimDisk()
    store = opened(disk, generations=6, snapshots=4)
    for step in range(1, 7):
        store.commit(files(step), state(step), "test", "2026-01-01T00:00:00")
        store.snapshot(f"2026-01-0{step}")
    bounded = Store(disk, keep_generations=4, keep_snapshots=2, keep_nights=1, snapshots_bytes_max=1)
    bounded.open()
    told = {one.path for one in bounded.verdicts(measure=True) if not one.stays}
    assert set(bounded.prune().deleted) == told
    assert told == {f"state/generations/00000{n}" for n in (1, 2)} | {f"snapshots/2026-01-0{n}" for n in range(1, 6)}


def test_sealed_heads_hold() -> None:
    disk, store = lived()
    store.pin("2", pinned=True)
    assert seal_holds(sealed(store.head or pytest.fail("empty")))
    assert disk.read(HEAD_PATH) == sealed(store.head or pytest.fail("empty"))
