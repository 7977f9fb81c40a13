"""The scrub: everything kept is read in every round, at its pace, and whatever is damaged is told once and healed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from actors.checkpointer import store as store_module
from actors.checkpointer.actor import Checkpointer, CheckpointerSettings
from actors.checkpointer.head import HEAD_PATH, Head, Kept, Manifest, decode
from actors.checkpointer.healing import NO_COPY, Damage, Healer
from actors.checkpointer.scrub import Scrub, Thing, things_of
from actors.checkpointer.store import Store
from actors.checkpointer.verification import Damaged, verify, verify_alone, verify_kept
from messages import (
    CommitGeneration,
    CommitNight,
    Cursor,
    DamageFound,
    DamageHealed,
    GenerationCommitted,
    GenerationDamaged,
    LearningState,
    NightCommitted,
    NightNotCommitted,
    ScrubFinished,
    StateWanted,
)
from runtime import Child, durable
from runtime.manifest import MANIFEST, encode, sealed
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import IoError
from tests.actors.checkpointer.test_checkpointer import NO_ROOM
from tests.actors.checkpointer.test_store import commit, files, fold, opened, state
from tests.actors.stage import Stage, clone

PIECE = 1 << 30
NIGHT = "20260102T030000"
DELTA = f"state/deltas/{NIGHT}"
HEALED = f"{DELTA}.2"


@pytest.fixture(autouse=True)
def _versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "library_versions", lambda: {"nightfold": "0"})


def lived_in() -> SimDisk:
    """Generations 1 to 4, a night that folded 3, and a snapshot of the first."""
    disk = SimDisk()
    store = opened(disk, generations=4)
    commit(store, 1)
    store.snapshot("2026-01-01")
    commit(store, 2)
    commit(store, 3)
    fold(store, 3)
    return disk


def turn(disk: SimDisk, path: str) -> None:
    disk.corrupt(path, random.Random(path))


def healer(disk: SimDisk) -> tuple[Healer, Store]:
    store = opened(disk, generations=4)
    return Healer(disk, store, round_every_seconds=100.0), store


def a_round(scrubbing: Healer, *, piece: int = PIECE, now: float = 0.0) -> list[Damage]:
    """What one whole round finds."""
    found: list[Damage] = []
    for _ in range(10_000):
        one = scrubbing.piece(piece, now)
        found += [one.damage] if one.damage is not None else []
        if one.finished is not None:
            return found
    raise AssertionError("the round does not end")


def every_file(disk: SimDisk) -> list[str]:
    return [
        path
        for path, data in disk.tree().items()
        if isinstance(data, bytes) and path.startswith(("state/generations/", "state/deltas/", "snapshots/"))
    ]


DAMAGES: dict[str, Callable[[SimDisk, str], None]] = {
    "a bit": turn,
    "cut short": lambda disk, path: disk.person_put(path, disk.read(path)[:-1]),
    "empty": lambda disk, path: disk.person_put(path, b""),
    "gone": lambda disk, path: disk.person_remove(path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_b1_whatever_happens_to_any_file_of_anything_kept_one_round_finds_it(damage: str) -> None:
    home = lived_in()
    paths = every_file(home)
    assert len(paths) > 25
    for path in paths:
        disk = clone(home)
        scrubbing, _ = healer(disk)
        DAMAGES[damage](disk, path)
        [found] = a_round(scrubbing)
        assert path.startswith(found.what), path
        assert found.healed or found.in_force


def test_b1_every_bit_of_a_manifest_that_nothing_else_vouches_for_is_looked_at() -> None:
    home = lived_in()
    path = "snapshots/2026-01-01"
    raw = home.read(f"{path}/{MANIFEST}")
    for at in range(0, len(raw), 3):
        disk = clone(home)
        disk.person_put(f"{path}/{MANIFEST}", raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :])
        scrubbing, _ = healer(disk)
        assert [one.what for one in a_round(scrubbing)] == [path], raw[at - 9 : at + 9]


def test_what_is_sound_stays_as_it_is() -> None:
    disk = lived_in()
    scrubbing, _ = healer(disk)
    before = disk.tree()
    assert a_round(scrubbing) == []
    assert disk.tree() == before


@pytest.mark.parametrize("piece", [1, 100, 500])
def test_a_piece_reads_no_more_than_it_may_and_the_round_sees_all_the_same(piece: int) -> None:
    disk = lived_in()
    scrubbing, _ = healer(disk)
    turn(disk, "state/generations/000002/optimizer.safetensors")
    largest = max(len(disk.read(path)) for path in [*every_file(disk), HEAD_PATH])
    counted: list[int] = []
    real = disk.chunks

    def chunks(path: str, size: int) -> object:
        for one in real(path, size):
            counted.append(len(one))
            yield one

    disk.chunks = chunks  # type: ignore[method-assign, assignment]
    finished = None
    while finished is None:
        counted.clear()
        finished = scrubbing.piece(piece, 0.0).finished
        assert sum(counted) <= piece + largest
    assert (finished.things, finished.damaged) == (7, 1)


# What is healed.


def test_b1_a_generation_not_in_force_is_let_go_of_and_set_aside() -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    turn(disk, "state/generations/000002/adapter_model.safetensors")
    [found] = a_round(scrubbing)
    assert (found.what, found.healed, found.in_force) == ("state/generations/000002", True, 0)
    assert store.head is not None
    assert [kept.generation for kept in store.head.kept] == [1, 3, 4]
    assert store.head.generation == 4
    assert disk.stat("state/set_aside/generations-000002") is not None
    assert a_round(scrubbing, now=200.0) == []
    assert opened(disk, generations=4).head == decode(disk.read(HEAD_PATH), Head, HEAD_PATH)


def test_b1_a_night_whose_generation_is_damaged_can_not_be_gone_back_to() -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    store.commit(files(9), state(9, "a0002"), "test", "2026-01-03T00:00:00")
    turn(disk, "state/generations/000004/adapter_model.safetensors")
    assert [one.what for one in a_round(scrubbing)] == ["state/generations/000004"]
    assert store.head is not None
    assert (store.head.nights, store.head.ledger) == ((), (NIGHT,))


def test_r1_head_is_written_anew_from_memory() -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    before = disk.read(HEAD_PATH)
    for damage in DAMAGES.values():
        damage(disk, HEAD_PATH)
        assert [one.what for one in a_round(scrubbing)] == [HEAD_PATH]
        assert decode(disk.read(HEAD_PATH), Head, HEAD_PATH).kept == store.head.kept  # type: ignore[union-attr]
        assert len(disk.read(HEAD_PATH)) == len(before)


def test_b1_a_snapshot_is_set_aside_and_the_date_may_have_another() -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    turn(disk, f"snapshots/2026-01-01/{MANIFEST}")
    [found] = a_round(scrubbing)
    assert "set aside" in found.instead
    assert disk.stat("state/set_aside/snapshots-2026-01-01") is not None
    assert store.snapshot("2026-01-01") == "snapshots/2026-01-01"


def test_b1_head_unpins_a_damaged_snapshot_before_it_is_set_aside() -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    store.pin("2026-01-01", pinned=True)
    turn(disk, "snapshots/2026-01-01/adapter_model.safetensors")
    before = len(disk.log)
    [found] = a_round(scrubbing)
    assert (found.what, found.healed, "its pin with it" in found.instead) == ("snapshots/2026-01-01", True, True)
    renamed = [path.rpartition(" -> ")[2] for _, operation, path in list(disk.log)[before:] if operation == "rename"]
    assert renamed == [HEAD_PATH, "state/set_aside/snapshots-2026-01-01"]
    assert decode(disk.read(HEAD_PATH), Head, HEAD_PATH).snapshots == ()
    # Who comes to bear its date is not pinned by a word about another.
    store.snapshot("2026-01-01")
    assert not store.pin("2026-01-01", pinned=False).pinned


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", MANIFEST])
@pytest.mark.parametrize("damage", DAMAGES)
def test_b1_a_delta_is_made_anew_from_the_generation_that_was_folded(name: str, damage: str) -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    DAMAGES[damage](disk, f"{DELTA}/{name}")
    [found] = a_round(scrubbing)
    assert found.healed
    assert store.head is not None
    [delta] = store.head.deltas
    assert delta.path == HEALED
    assert verify(disk, delta.path, delta.digest).global_step == 3
    assert disk.read(f"{HEALED}/adapter_model.safetensors") == b"weights 0003"
    assert disk.stat("state/set_aside/deltas-" + NIGHT) is not None
    again = opened(disk, generations=4)
    assert again.head is not None
    assert again.head.deltas == (delta,)
    assert a_round(scrubbing, now=200.0) == []


def test_b1_a_delta_is_made_anew_from_a_snapshot_of_the_same_bytes() -> None:
    disk = SimDisk()
    store = opened(disk)
    commit(store, 3)
    store.snapshot("2026-01-01")
    fold(store, 3)
    scrubbing, store = healer(disk)
    turn(disk, f"{DELTA}/adapter_model.safetensors")
    turn(disk, "state/generations/000001/adapter_model.safetensors")
    found = {one.what: one for one in a_round(scrubbing)}
    assert found[DELTA].healed
    assert disk.read(f"{HEALED}/adapter_model.safetensors") == b"weights 0003"


def without_copies() -> SimDisk:
    """The delta is damaged, and nobody else has its bytes."""
    disk = lived_in()
    store = opened(disk, generations=1, nights=0)
    for step in (4, 5, 6):
        store.commit(files(step), state(step, "a0002"), "test", "2026-01-03T00:00:00")
    store.prune()
    turn(disk, f"{DELTA}/adapter_model.safetensors")
    return disk


def test_b1_a_copy_that_is_itself_damaged_is_not_taken() -> None:
    disk = lived_in()
    scrubbing, _ = healer(disk)
    for path in (DELTA, "state/generations/000003"):
        turn(disk, f"{path}/adapter_model.safetensors")
    found = {one.what: one for one in a_round(scrubbing)}
    assert (found[DELTA].healed, found[DELTA].instead) == (False, NO_COPY)
    assert disk.listdir("state/deltas") == [NIGHT]


def test_b1_without_a_copy_it_is_told_once_and_again_when_it_is_restored() -> None:
    disk = without_copies()
    sound = lived_in().read(f"{DELTA}/adapter_model.safetensors")
    stage = Stage(NO_ROOM, checkpointer(scrub_round_every_seconds=600.0), disk=disk)

    async def act(stage: Stage) -> None:
        await stage.hears(ScrubFinished, 3)
        [told] = stage.heard(DamageFound)
        assert (told.what, told.instead) == (DELTA, NO_COPY)
        force = await stage.system.ask(StateWanted(ledger=True), timeout=30.0)
        assert len(force.ledger_damage) == 1
        assert DELTA in force.ledger_damage[0]
        assert stage.count(DamageFound) == 1
        disk.person_put(f"{DELTA}/adapter_model.safetensors", sound)
        healed = await stage.hears(DamageHealed)
        assert healed.what == DELTA
        force = await stage.system.ask(StateWanted(ledger=True), timeout=30.0)
        assert force.ledger_damage == ()

    stage.play(act)


def _retention_after_a_night(disk: SimDisk, *, keep_out: str = "") -> Stage:
    """A commit after which nothing holds the folded generation any more; the scrub has read nothing yet."""
    turn(disk, f"{DELTA}/adapter_model.safetensors")
    stage = Stage(
        NO_ROOM,
        checkpointer(keep_generations=2, keep_nights=1, scrub_every_seconds=3600.0, retry_deletes_every_seconds=60.0),
        disk=disk,
    )

    async def act(stage: Stage) -> None:
        if keep_out:
            disk.faults = lambda _number, _operation, path: IoError() if keep_out in path else None
        for step in (4, 5):
            ticket = stage.system.cloakroom.leave(files(step))
            await stage.tell(CommitGeneration(ticket=ticket, state=state(step, "a0002"), why="test"))
            await stage.hears(GenerationCommitted, step - 3)
        await stage.rest(200.0)
        disk.faults = None
        await stage.rest(200.0)

    stage.play(act)
    return stage


def two_nights() -> SimDisk:
    """The second night lets go of the first, and of generation 3, which was folded then."""
    disk = lived_in()
    store = opened(disk, generations=4)
    fold(store, 3, "20260103T030000")
    return disk


def test_b1_the_last_copy_of_a_delta_heals_it_before_retention_takes_it() -> None:
    disk = two_nights()
    stage = _retention_after_a_night(disk)
    [told] = stage.heard(DamageFound)
    assert (told.what, HEALED in told.instead) == (DELTA, True)
    assert disk.read(f"{HEALED}/adapter_model.safetensors") == b"weights 0003"
    assert disk.stat("state/generations/000003") is None, "then it goes as any other"


def test_b1_d5_the_last_copy_of_a_delta_stays_while_the_disk_refuses_the_healing() -> None:
    disk = two_nights()
    stage = _retention_after_a_night(disk, keep_out="state/deltas")
    assert [told.instead.partition(" (")[0] for told in stage.heard(DamageFound)] == [
        "the disk refused to let it be healed",
        f"{HEALED}, made anew from a sound copy",
    ]
    assert disk.read(f"{HEALED}/adapter_model.safetensors") == b"weights 0003"
    assert disk.stat("state/generations/000003") is None


def test_d5_a_disk_that_refuses_the_healing_is_told_and_it_is_tried_again() -> None:
    disk = lived_in()
    scrubbing, store = healer(disk)
    turn(disk, "state/generations/000002/adapter_model.safetensors")
    disk.faults = lambda _number, _operation, path: IoError() if HEAD_PATH in path or "state/." in path else None
    [found] = a_round(scrubbing)
    assert not found.healed
    assert "tried again" in found.instead
    disk.faults = None
    [found] = a_round(scrubbing, now=200.0)
    assert found.healed
    assert [kept.generation for kept in store.head.kept] == [1, 3, 4]  # type: ignore[union-attr]


# The order and the place.


def test_a_round_goes_over_everything_once_and_then_rests() -> None:
    scrub = Scrub(100.0)
    things = things_of(opened(lived_in(), generations=4).head, ["snapshots/2026-01-01"])
    assert [thing.path for thing in things] == [
        HEAD_PATH,
        "state/generations/000004",
        DELTA,
        "state/generations/000003",
        "state/generations/000002",
        "state/generations/000001",
        "snapshots/2026-01-01",
    ]
    scrub.begin(things, 0.0)
    seen: list[Thing] = []
    while (thing := scrub.next()) is not None:
        assert scrub.under_way()
        seen.append(thing)
        scrub.done(damaged=False)
    assert tuple(seen) == things
    assert scrub.tally.things == len(things)
    assert not scrub.under_way()
    assert scrub.next_at == 100.0


def test_retention_in_the_middle_of_a_thing_is_no_damage() -> None:
    disk = lived_in()
    scrubbing, _ = healer(disk)
    while "000001" not in str(scrubbing._scrub.next()):
        scrubbing.piece(1, 0.0)
    scrubbing.piece(1, 0.0)
    store = scrubbing._store
    for step in range(4, 9):
        store.commit(files(step), state(step, "a0002"), "test", "2026-01-03T00:00:00")
    store.prune()
    assert disk.stat("state/generations/000001") is None
    assert a_round(scrubbing, piece=1) == []


# Counters and the chain.


def in_force(disk: SimDisk) -> tuple[Kept, Head]:
    head = decode(disk.read(HEAD_PATH), Head, HEAD_PATH)
    return head.in_force, head


def forged(disk: SimDisk, **changed: object) -> None:
    """A manifest with other counters, and a HEAD that knows it by its digest: only the counters can tell."""
    kept, head = in_force(disk)
    manifest = decode(disk.read(f"{kept.path}/{MANIFEST}"), Manifest, MANIFEST)
    raw = sealed(replace(manifest, **changed))
    disk.person_put(f"{kept.path}/{MANIFEST}", raw)
    known = replace(kept, manifest=durable.digest_of_bytes(raw))
    disk.person_put(HEAD_PATH, sealed(replace(head, kept=(*head.kept[:-1], known))))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("global_step", 77),
        ("adapter_step", 77),
        ("adapter_id", "a0009"),
        ("base_fingerprint", "another"),
        ("model_path", "consolidated_models/other"),
        ("ledger", ("20250101T000000",)),
    ],
)
def test_b4_a_counter_that_differs_between_state_manifest_and_head_is_damage(field: str, value: object) -> None:
    disk = lived_in()
    forged(disk, **{field: value})
    kept, head = in_force(disk)
    verify(disk, kept.path, kept.manifest)  # every digest is right
    with pytest.raises(Damaged, match=field):
        verify_kept(disk, kept, head.kept)


def test_b4_a_cursor_that_differs_is_damage() -> None:
    disk = SimDisk()
    store = opened(disk)
    cursor = Cursor("000001", "a", "p", "d", 3, step=2, steps=9, epochs=1, first_global_step=0)
    store.commit(files(2), replace(state(2), cursor=cursor), "test", "2026-01-01T00:00:00")
    kept, head = in_force(disk)
    assert verify_kept(disk, kept, head.kept).cursor == cursor
    manifest = decode(disk.read(f"{kept.path}/{MANIFEST}"), Manifest, MANIFEST)
    assert manifest.cursor is not None
    forged(disk, cursor=replace(manifest.cursor, step=3))
    kept, head = in_force(disk)
    with pytest.raises(Damaged, match="cursor"):
        verify_kept(disk, kept, head.kept)


@pytest.mark.parametrize(
    "after", [state(1), replace(state(5), adapter_step=4), replace(state(1), adapter_id="a0002", adapter_step=0)]
)
def test_b4_a_commit_that_goes_back_behind_its_parent_is_refused_before_anything_is_written(
    after: LearningState,
) -> None:
    disk = SimDisk()
    store = opened(disk)
    commit(store, 3)
    before = disk.tree()
    with pytest.raises(Damaged, match="do not go on from generation 1"):
        store.commit(files(5), after, "test", "2026-01-01T00:00:00")
    assert disk.tree() == before


def test_what_the_version_before_wrote_is_read_as_it_is() -> None:
    disk = lived_in()
    kept, head = in_force(disk)
    manifest = decode(disk.read(f"{kept.path}/{MANIFEST}"), Manifest, MANIFEST)
    raw = encode(manifest)
    lines = [line for line in raw.decode().splitlines() if '"seal"' not in line]
    start = next(number for number, line in enumerate(lines) if '"cursor"' in line)
    end = next(number for number in range(start, len(lines)) if lines[number].strip().startswith("}"))
    old = "\n".join([*lines[:start], *lines[end + 1 :]]).rstrip().rstrip("}").rstrip().rstrip(",") + "\n}\n"
    assert "cursor" not in old
    disk.person_put(f"{kept.path}/{MANIFEST}", old.encode())
    known = replace(kept, manifest=durable.digest_of_bytes(old.encode()))
    assert verify_kept(disk, known, head.kept).global_step == 3
    assert verify_alone(disk, kept.path).cursor is None


# The actor.


def checkpointer(**settings: float) -> Child:
    quick = {"scrub_every_seconds": 1.0, "scrub_round_every_seconds": 3600.0, **settings}
    return Child("checkpointer", Checkpointer, settings=CheckpointerSettings(**quick))  # type: ignore[arg-type]


def test_b1_in_force_and_damaged_whoever_trains_is_told_and_its_next_commit_takes_the_place() -> None:
    disk = lived_in()
    stage = Stage(NO_ROOM, checkpointer(), disk=disk)

    async def act(stage: Stage) -> None:
        turn(disk, "state/generations/000004/adapter_model.safetensors")
        told = await stage.hears(GenerationDamaged)
        assert (told.generation, told.path) == (4, "state/generations/000004")
        assert stage.heard(DamageFound)[0].instead == "what is in memory is committed anew"
        look = await stage.system.ask(StateWanted(only_look=True), timeout=30.0)
        assert (look.generation, "other content" in look.damage) == (4, True)
        ticket = stage.system.cloakroom.leave(files(8))
        await stage.tell(CommitGeneration(ticket=ticket, state=state(8, "a0002"), why="test"))
        done = await stage.hears(GenerationCommitted)
        assert done.generation == 5
        await stage.rest(5.0)
        head = decode(disk.read(HEAD_PATH), Head, HEAD_PATH)
        assert 4 not in {kept.generation for kept in head.kept}
        assert disk.stat("state/set_aside/generations-000004") is not None
        assert stage.count(DamageFound) == 1

    stage.play(act)


def test_b1_in_force_and_damaged_whoever_loads_gets_the_one_before() -> None:
    disk = lived_in()
    stage = Stage(NO_ROOM, checkpointer(scrub_every_seconds=3600.0), disk=disk)

    async def act(stage: Stage) -> None:
        turn(disk, "state/generations/000004/adapter_model.safetensors")
        force = await stage.system.ask(StateWanted(), timeout=30.0)
        assert (force.generation, force.damage) == (3, "")

    stage.play(act)


def test_a_round_is_told_with_what_it_came_to_and_the_next_begins_when_it_is_due() -> None:
    disk = lived_in()
    stage = Stage(NO_ROOM, checkpointer(scrub_round_every_seconds=500.0), disk=disk)

    async def act(stage: Stage) -> None:
        told = await stage.hears(ScrubFinished, 2)
        assert (told.things, told.damaged) == (7, 0)
        size = sum(len(disk.read(path)) for path in [*every_file(disk), HEAD_PATH])
        assert told.size_bytes == size
        assert 500 < stage.loop.time() < 600

    stage.play(act)


def test_a_night_is_not_committed_when_a_delta_was_damaged_while_the_merge_read_it() -> None:
    disk = lived_in()
    stage = Stage(NO_ROOM, checkpointer(scrub_every_seconds=3600.0), disk=disk)
    second = "20260103T030000"

    def asked(stage: Stage) -> CommitNight:
        ticket = stage.system.cloakroom.leave(files(3))
        fresh = replace(state(3, "a0003"), adapter_step=0)
        return CommitNight(second, "2026-01-03", 4, f"consolidated_models/{second}", ticket, fresh)

    async def act(stage: Stage) -> None:
        turn(disk, f"{DELTA}/adapter_model.safetensors")
        answer = await stage.system.ask(asked(stage), timeout=30.0)
        assert isinstance(answer, NightNotCommitted)
        assert "while the merge read it" in answer.why
        assert (await stage.hears(DamageHealed)).what == DELTA
        answer = await stage.system.ask(asked(stage), timeout=30.0)
        assert isinstance(answer, NightCommitted)

    stage.play(act)
