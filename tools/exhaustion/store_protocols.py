"""Scenarios of the Checkpointer's store: commits, nights, going back, retention, and what start-up heals.

What is seen is read off HEAD and the folders it names, never asked of the store that wrote them.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

from actors.checkpointer.head import (
    DELTAS,
    GENERATIONS,
    HEAD_PATH,
    SET_ASIDE,
    SNAPSHOTS,
    TRAINER_STATE,
    Head,
    decode,
    decode_state,
)
from actors.checkpointer.healing import Healer
from actors.checkpointer.store import ADAPTER_FILES, Store
from actors.checkpointer.verification import Damaged, verify
from messages import LearningState
from runtime import durable
from runtime.disk import DiskPort
from runtime.simulation import SimDisk
from tools.exhaustion.scenario import Broken, Scenario, Shown, nothing_to_recover

NOW = "2026-11-23T03:00:00+00:00"
DAY = "2026-11-23"
NIGHT = "20261123T030000"
MODEL = f"consolidated_models/{NIGHT}"
WEIGHTS = b"merged weights"


def store(disk: DiskPort, *, keep: int = 2) -> Store:
    """A store that is open."""
    made = Store(disk, keep_generations=keep, keep_snapshots=1, keep_nights=1)
    made.open()
    return made


def learnt(step: int) -> tuple[dict[str, bytes], LearningState]:
    """What the Trainer hands over at a step."""
    files = {name: f"{name} at {step}".encode() for name in (*ADAPTER_FILES, "optimizer.safetensors")}
    return files, LearningState(global_step=step, adapter_step=step, learning_since=NOW, base_fingerprint="base")


def commit(made: Store, step: int) -> None:
    """As the Checkpointer does it: the commit, then what may not fail it.

    Retention runs by the clock too, so also after a commit that was refused.
    """
    try:
        made.commit(*learnt(step), "test", NOW)
        with contextlib.suppress(OSError):  # tried at the next commit
            made.snapshot(DAY)
    finally:
        made.prune()


def head_of(disk: SimDisk) -> Head | None:
    """HEAD, and everything it names is there and sound."""
    if disk.stat(HEAD_PATH) is None:
        return None
    head = decode(disk.read(HEAD_PATH), Head, HEAD_PATH)
    named = [(kept.path, kept.manifest) for kept in head.kept] + [(delta.path, delta.digest) for delta in head.deltas]
    for folder, manifest in named:
        try:
            verify(disk, folder, manifest)
        except Damaged as error:
            raise Broken(f"HEAD names what is not sound: {error}") from error
    for kept in head.kept:
        if kept.model_path and disk.stat(kept.model_path) is None:
            raise Broken(f"generation {kept.generation} stands on {kept.model_path}, which is gone")
    return head


def step_of(disk: SimDisk) -> int:
    """The step that is in force, 0 if nothing is; its files are those of that step."""
    head = head_of(disk)
    if head is None:
        return 0
    path = head.generation_path
    step = decode_state(disk.read(f"{path}/{TRAINER_STATE}"), TRAINER_STATE).global_step
    for name, data in learnt(step)[0].items():
        if not head.in_force.why.startswith("night") and disk.read(f"{path}/{name}") != data:
            raise Broken(f"{path}/{name} is not of step {step}")
    return step


def steps(old: int, new: int) -> Callable[[SimDisk], Shown]:
    """Is the one or the other step in force?"""

    def shown(disk: SimDisk) -> Shown:
        step = step_of(disk)
        if step not in (old, new):
            raise Broken(f"step {step} is in force, which is neither {old} nor {new}")
        return "new" if step == new else "old"

    return shown


def only_what_is_reached(disk: SimDisk) -> None:
    """After start-up: generations that HEAD keeps, deltas it knows, and a link to what is in force."""
    head = head_of(disk)
    reached = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas} if head else set()
    for path in disk.tree():
        if path.startswith((f"{GENERATIONS}/", "state/deltas/")) and path.count("/") == 2 and path not in reached:
            raise Broken(f"{path} is reached by nothing")
    if head is not None and disk.tree().get("current_model") != head.generation_path:
        raise Broken("current_model does not point at what is in force")


def committed(*numbers: int) -> Callable[[DiskPort], None]:
    """A home in which these steps were committed one after the other."""

    def prepare(disk: DiskPort) -> None:
        made = store(disk)
        for step in numbers:
            commit(made, step)

    return prepare


def _refused_and_asked_again(step: int) -> Callable[[DiskPort, Any], None]:
    """The Trainer sends the commit that was refused again; the house never commits an older step over a newer."""
    return lambda _, made: commit(made, step)


# A night.


def prepare_night(disk: DiskPort) -> None:
    """Step 5 is in force and its merged model lies there, proven."""
    committed(3, 5)(disk)
    durable.ensure_directory(disk, MODEL)
    durable.write_file(disk, f"{MODEL}/weights", WEIGHTS)


def commit_night(made: Store, digest: str = "") -> None:
    """As the Checkpointer does it, once the adapter of what is in force is in the merged model."""
    head = made.head
    assert head is not None, "a night folds what is in force"
    if made.in_force().ledger:
        return  # an earlier try came through; only its last sync, or its announcement, did not
    fresh = LearningState(global_step=5, adapter_id="a0002", base=NIGHT, base_fingerprint="base")
    try:
        made.commit_night(
            learnt(0)[0],
            fresh,
            night=NIGHT,
            due_date=DAY,
            folded=head.generation,
            model_path=MODEL,
            now=NOW,
            model_digest=digest,
        )
    finally:
        made.prune()


def night_shown(disk: SimDisk) -> Shown:
    """Yesterday, or the night with all that belongs to it."""
    head = head_of(disk)
    if head is None:
        raise Broken("HEAD is gone")
    in_force = (head.ledger, head.model_path, head.in_force.adapter_id)
    if in_force == ((), "", "a0001"):
        return "old"
    if in_force != ((NIGHT,), MODEL, "a0002"):
        raise Broken(f"half a night: {in_force}")
    delta = head.deltas_in_force()[0]
    if disk.read(f"{delta.path}/{ADAPTER_FILES[1]}") != learnt(5)[0][ADAPTER_FILES[1]]:
        raise Broken("the delta is not the adapter of the step that was folded")
    if disk.read(f"{MODEL}/weights") != WEIGHTS:
        raise Broken("the merged model is not whole")
    return "new"


# Pinning, and letting go.


def _pin(target: str, *, pinned: bool) -> Callable[[DiskPort, Any], None]:
    def act(_: DiskPort, made: Store) -> None:
        made.pin(target, pinned=pinned)

    return act


def _pinned(target: str, step: int) -> Callable[[SimDisk], Shown]:
    """HEAD says that it is pinned, or it does not; either way it is there, and what is in force stays so."""

    def shown(disk: SimDisk) -> Shown:
        if step_of(disk) != step:
            raise Broken("pinning changed what is in force")
        head = head_of(disk)
        assert head is not None, "something was committed"
        pins = {str(kept.generation) for kept in head.kept if kept.pinned} | {one.day for one in head.snapshots}
        if target == DAY:
            verify(disk, f"{SNAPSHOTS}/{DAY}")
        return "new" if target in pins else "old"

    return shown


def _unpinned(target: str, step: int) -> Callable[[SimDisk], Shown]:
    pinned = _pinned(target, step)

    def shown(disk: SimDisk) -> Shown:
        return "old" if pinned(disk) == "new" else "new"

    return shown


def _pinned_before(disk: DiskPort) -> None:
    committed(3, 5)(disk)
    made = store(disk)
    made.pin("1", pinned=True)


def _many(disk: DiskPort) -> None:
    """Five generations, and a snapshot beside the newest, of a config that kept more."""
    made = store(disk, keep=5)
    for step in range(1, 6):
        made.commit(*learnt(step), "test", NOW)
        made.snapshot(f"2026-11-0{step}")


def _bounded(disk: DiskPort) -> Store:
    """The same home with bounds of bytes that nothing fits."""
    made = Store(
        disk,
        keep_generations=5,
        keep_snapshots=5,
        keep_nights=1,
        generations_bytes_max=1,
        snapshots_bytes_max=1,
        set_aside_bytes_max=1,
    )
    made.open()
    return made


def _let_go(_: DiskPort, made: Store) -> None:
    made._sync_head()
    made._let_go()
    made.prune()  # what would not go is tried again by the clock


def _bounds_hold(disk: SimDisk) -> Shown:
    """What is in force never changes. HEAD keeps five or two; of snapshots and folders, no more than before."""
    if step_of(disk) != 5:
        raise Broken("retention changed what is in force")
    head = head_of(disk)
    assert head is not None, "something was committed"
    numbers = [kept.generation for kept in head.kept]
    if numbers not in ([1, 2, 3, 4, 5], [4, 5]):
        raise Broken(f"HEAD keeps {numbers}")
    if disk.stat(f"{SNAPSHOTS}/2026-11-05") is None:
        raise Broken("the newest snapshot is gone")
    return "new" if numbers == [4, 5] else "old"


def _nothing_left(disk: SimDisk) -> None:
    """Of what the bounds do not allow, once a try was not disturbed."""
    left = [*disk.listdir(GENERATIONS), *disk.listdir(SNAPSHOTS)]
    if left != ["000004", "000005", "2026-11-05"]:
        raise Broken(f"retention has left {left}")


# What start-up heals.


def _damaged(path: str) -> Callable[[DiskPort], None]:
    def prepare(disk: DiskPort) -> None:
        committed(3, 5)(disk)
        assert isinstance(disk, SimDisk), "only a simulated disk can be damaged"
        disk.corrupt(path, random.Random(1))  # noqa: S311 - chance, not secrets

    return prepare


def _no_head(disk: DiskPort) -> None:
    committed(3, 5)(disk)
    disk.unlink(HEAD_PATH)
    disk.fsync_dir("state")


def _snapshot_alone(disk: DiskPort) -> None:
    _no_head(disk)
    for name in disk.listdir(GENERATIONS):
        durable.remove(disk, f"{GENERATIONS}/{name}")


def _healed(step: int) -> Callable[[SimDisk], Shown]:
    """Damage is seen until start-up has healed it; then the newest sound step is in force."""

    def shown(disk: SimDisk) -> Shown:
        try:
            found = step_of(disk)
        except (Broken, ValueError):
            return "old"
        if found not in (0, step):
            raise Broken(f"step {found} is in force instead of {step}")
        return "new" if found else "old"

    return shown


# A delta that is damaged at rest.


def _damaged_delta(disk: DiskPort) -> None:
    prepare_night(disk)
    commit_night(store(disk))
    assert isinstance(disk, SimDisk), "only a simulated disk can be damaged"
    disk.corrupt(f"{DELTAS}/{NIGHT}/{ADAPTER_FILES[1]}", random.Random(1))  # noqa: S311 - chance, not secrets


def _start_and_scrub(disk: DiskPort) -> Store:
    made = store(disk)
    Healer(disk, made, round_every_seconds=1.0).ledger()
    return made


def _heal(disk: DiskPort, made: Store) -> None:
    for damage in Healer(disk, made, round_every_seconds=1.0).ledger():
        if not damage.healed:
            raise OSError(damage.instead)


def _delta_shown(disk: SimDisk) -> Shown:
    """The night is in force, and HEAD names the damaged delta or a sound one; never one that is not there."""
    head = decode(disk.read(HEAD_PATH), Head, HEAD_PATH)
    [delta] = head.deltas_in_force()
    verify(disk, head.in_force.path, head.in_force.manifest)
    try:
        verify(disk, delta.path, delta.digest)
    except Damaged as error:
        if disk.stat(f"{delta.path}/{ADAPTER_FILES[1]}") is None:
            raise Broken(f"HEAD names a delta that is gone: {error}") from error
        return "old"
    if disk.read(f"{delta.path}/{ADAPTER_FILES[1]}") != learnt(5)[0][ADAPTER_FILES[1]]:
        raise Broken("the delta is not the adapter of the step that was folded")
    return "new"


def _unreached(disk: DiskPort) -> None:
    committed(3)(disk)
    durable.write_directory(disk, f"{GENERATIONS}/000009", {"adapter": b"sound, and reached by nothing"})
    for number in range(4):
        durable.ensure_directory(disk, SET_ASIDE)
        durable.write_directory(disk, f"{SET_ASIDE}/generations-00000{number}", {"adapter": b"older"})


def _set_aside(disk: SimDisk) -> Shown:
    """It is never gone: under its own name, or set aside."""
    tree = disk.tree()
    places = [path for path, data in tree.items() if data == b"sound, and reached by nothing"]
    if len(places) != 1:
        raise Broken(f"the generation that nothing reaches is in {len(places)} places")
    return "new" if places[0].startswith(f"{SET_ASIDE}/") else "old"


def _nothing(_: DiskPort, __: Any) -> None:
    """Start-up is the protocol."""


STORE: tuple[Scenario, ...] = (
    Scenario(
        name="store: the first commit",
        prepare=nothing_to_recover,
        recover=store,
        act=_refused_and_asked_again(5),
        shown=steps(0, 5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: a commit, a snapshot and retention",
        prepare=committed(1, 3),
        recover=store,
        act=_refused_and_asked_again(5),
        shown=steps(3, 5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: a night",
        prepare=prepare_night,
        recover=store,
        act=lambda _, made: commit_night(made),
        shown=night_shown,
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: going back",
        prepare=committed(3, 5),
        recover=store,
        act=lambda _, made: made.put_back("1"),
        shown=steps(5, 3),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: going back to a snapshot",
        prepare=committed(1, 3, 5),
        recover=store,
        act=lambda _, made: made.put_back(DAY, NOW),
        shown=steps(5, 1),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: pinning a generation",
        prepare=committed(3, 5),
        recover=store,
        act=_pin("1", pinned=True),
        shown=_pinned("1", 5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: pinning a snapshot",
        prepare=committed(3, 5),
        recover=store,
        act=_pin(DAY, pinned=True),
        shown=_pinned(DAY, 5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: unpinning a generation",
        prepare=_pinned_before,
        recover=store,
        act=_pin("1", pinned=False),
        shown=_unpinned("1", 5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: letting go of what bytes do not allow",
        prepare=_many,
        recover=_bounded,
        act=_let_go,
        shown=_bounds_hold,
        tidy=only_what_is_reached,
        after_retry=_nothing_left,
    ),
    Scenario(
        name="store: start-up after damage",
        prepare=_damaged(f"{GENERATIONS}/000002/{ADAPTER_FILES[1]}"),
        recover=store,
        act=_nothing,
        shown=_healed(3),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: start-up with a damaged HEAD",
        prepare=_damaged(HEAD_PATH),
        recover=store,
        act=_nothing,
        shown=_healed(5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: start-up without HEAD",
        prepare=_no_head,
        recover=store,
        act=_nothing,
        shown=_healed(5),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: start-up from a snapshot alone",
        prepare=_snapshot_alone,
        recover=store,
        act=_nothing,
        shown=_healed(3),
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: a damaged delta is healed",
        prepare=_damaged_delta,
        recover=_start_and_scrub,
        act=_heal,
        shown=_delta_shown,
        tidy=only_what_is_reached,
    ),
    Scenario(
        name="store: start-up sets aside what nothing reaches",
        prepare=_unreached,
        recover=store,
        act=_nothing,
        shown=_set_aside,
        tidy=only_what_is_reached,
    ),
)
