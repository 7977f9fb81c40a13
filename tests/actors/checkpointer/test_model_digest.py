"""HEAD knows what each merged model must be: through commits, a lost HEAD, going back, and from an earlier version."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from actors.checkpointer.head import HEAD_PATH, Head, decode
from actors.checkpointer.store import Store
from messages import MergedModel
from runtime import durable
from runtime.simulation.disk import SimDisk
from tests.actors.checkpointer.test_store import NIGHT, commit, files, home, opened, state

MODEL = f"consolidated_models/{NIGHT}"


def fold(store: Store, digest: str = "blake3:model") -> None:
    store.commit_night(
        files(90),
        state(90, "a0002"),
        night=NIGHT,
        due_date="2026-01-02",
        folded=store.in_force().generation,
        model_path=MODEL,
        now="2026-01-02T03:10:00",
        model_digest=digest,
    )


def test_the_digest_goes_on_with_every_commit_on_the_model() -> None:
    store = opened(home(), generations=10)
    assert (store.in_force().model_digest, store.head.models() if store.head else None) == ("", ())
    fold(store)
    commit(store, 95)
    assert store.in_force().model_digest == "blake3:model"
    assert store.head is not None
    (model,) = store.head.models()
    assert model == MergedModel(path=MODEL, digest="blake3:model", deltas=store.head.deltas_in_force(), in_force=True)
    store.put_back("2")
    assert store.in_force().model_digest == ""
    assert [one.in_force for one in store.head.models()] == [False]


def test_r1_a_head_that_is_rebuilt_knows_it_from_the_generations() -> None:
    disk = home()
    fold(opened(disk))
    disk.person_remove(HEAD_PATH)
    assert opened(disk).in_force().model_digest == "blake3:model"


def test_where_head_is_lost_a_snapshot_is_pinned_with_the_model_that_it_stands_on() -> None:
    disk = home()
    store = opened(disk)
    fold(store)
    store.snapshot("2026-01-02")
    disk.person_remove(HEAD_PATH)
    head = opened(disk).head
    assert head is not None
    (pinned,) = head.snapshots
    assert (pinned.model_path, pinned.model_digest, pinned.ledger) == (MODEL, "blake3:model", (NIGHT,))


def test_b8_a_head_and_manifests_without_the_field_are_read_as_they_are() -> None:
    disk = home()
    fold(opened(disk), digest="")
    head = json.loads(disk.read(HEAD_PATH))
    for kept in head["kept"]:
        del kept["model_digest"]
        path = f"{kept['path']}/MANIFEST.json"
        manifest = json.loads(disk.read(path))
        for field in ("model_digest", "cursor", "seal"):
            del manifest[field]
        raw = json.dumps(manifest).encode()
        disk.person_put(path, raw)
        kept["manifest"] = durable.digest_of_bytes(raw)
    del head["seal"]
    disk.person_put(HEAD_PATH, json.dumps(head).encode())
    store = opened(disk)
    assert (store.in_force().model_path, store.in_force().model_digest) == (MODEL, "")
    commit(store, 95)
    assert decode(disk.read(HEAD_PATH), Head, "").in_force.model_digest == ""


def test_b9_leaving_a_model_puts_the_newest_sound_generation_on_another_in_force() -> None:
    disk = home(3)
    store = opened(disk, generations=10)
    fold(store)
    commit(store, 95)
    disk.person_put("state/generations/000003/optimizer.safetensors", b"damaged")
    left = store.leave_models((MODEL,))
    assert left is not None
    assert (left.generation, left.model_path) == (2, "")
    force = store.in_force()
    assert (force.generation, force.ledger, force.models_needed) == (2, (), (MODEL,))
    assert store.head is not None
    number = store.head.number
    assert store.leave_models((MODEL,)) == left, "asked again, it is done already"
    assert store.head.number == number
    assert opened(disk, generations=10).in_force().generation == 2
    disk.person_mkdir("consolidated_models")
    disk.person_mkdir(MODEL)
    assert store.put_back("5").model_digest == "blake3:model", "the way forward is open for whoever restores it"


@pytest.mark.parametrize("kept", ["nothing", "only on it"])
def test_b9_leaving_a_model_changes_nothing_where_there_is_nothing_else(kept: str) -> None:
    store = opened(SimDisk() if kept == "nothing" else home())
    if kept == "only on it":
        fold(store)
        assert store.head is not None
        on_it = tuple(one for one in store.head.kept if one.model_path)
        store.head = replace(store.head, kept=on_it)
    before = store.head
    assert store.leave_models((MODEL,)) is None
    assert store.head == before
