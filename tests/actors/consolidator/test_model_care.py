"""The half of the Consolidator that keeps merged models sound: it reads them through, and makes a damaged one anew."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.consolidator.model_care import Scrub
from actors.consolidator.model_manifest import manifest_of, verify_model
from messages import (
    DamageFound,
    Delta,
    HealModel,
    LeaveModels,
    MergedModel,
    ModelGivenUp,
    ModelHealed,
    ModelNotHealed,
    ModelsLeft,
    SpaceNeeded,
)
from runtime import OperatorError, durable
from runtime.errors import EXIT_CONFIG
from runtime.manifest import MANIFEST, FileEntry, FolderDamaged, table_digest
from runtime.simulation.disk import SimDisk
from tests.actors.consolidator.test_consolidator import DAY, House
from tests.actors.stage import Stage

PATH = "consolidated_models/20260103T030000"
CONTENT = {"config.json": b"{}\n", "weights": b"merged " * 1000}
DELTAS = tuple(Delta(f"2026010{day}T030000", f"state/deltas/2026010{day}T030000", "d", "", day, day) for day in (2, 3))


def entries(content: dict[str, bytes]) -> dict[str, FileEntry]:
    return {name: FileEntry(len(data), durable.digest_of_bytes(data)) for name, data in content.items()}


DIGEST = table_digest(entries(CONTENT))
MODEL = MergedModel(path=PATH, digest=DIGEST, deltas=DELTAS, in_force=True)


def put_model(disk: SimDisk, path: str = PATH, content: dict[str, bytes] = CONTENT) -> None:
    durable.ensure_directory(disk, "consolidated_models")
    durable.write_directory(disk, path, {**content, MANIFEST: manifest_of((), "base", (), entries(content))})


def damage(disk: SimDisk, name: str = "weights", path: str = PATH) -> None:
    disk.corrupt(f"{path}/{name}", random.Random(1))


@dataclass
class Caring(House):
    """A house in which one merged model is needed; ``merged`` is what a merge writes."""

    merged: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))
    refusals: list[MergeRefused] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.needed = (MODEL,)
        self.force = self.force.__class__(
            generation=7, path="g", state=self.force.state, ledger=DELTAS, model_path=PATH, models_needed=(PATH,)
        )
        put_model(self.disk)

    async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
        self.merges.append(request)
        if self.refusals:
            return self.refusals.pop(0)
        self.disk.mkdir(request.out)
        for name, data in {**self.merged, MANIFEST: manifest_of((), "base", (), entries(self.merged))}.items():
            durable.write_new(self.disk, f"{request.out}/{name}", data)
        self.disk.fsync_dir(request.out)
        return MergeDone(1, 1, 0.0, 1.0, table_digest(entries(self.merged)))


QUIET: dict[str, Any] = {"nightly": False, "scrub_bytes_per_second": 0}


def heals(house: Caring) -> Stage:
    """Ask for it once, and see that it is sound afterwards."""

    async def act(stage: Stage) -> None:
        await stage.tell(HealModel(path=PATH, why="test"))
        await stage.hears(ModelHealed, within=DAY)

    stage = house.stage(**QUIET).play(act)
    verify_model(house.disk, PATH, house.needed[0].digest)
    assert house.models() == [PATH.rpartition("/")[2]]
    return stage


def test_a_sound_model_is_left_as_it_is() -> None:
    house = Caring()
    stage = heals(house)
    assert stage.heard(ModelHealed) == [ModelHealed(path=PATH, anew=False, seconds=0.0)]
    assert (house.merges, stage.count(DamageFound)) == ([], 0)


@pytest.mark.parametrize("name", [*CONTENT, MANIFEST])
def test_b9_a_damaged_model_is_merged_anew_from_base_and_deltas(name: str) -> None:
    house = Caring()
    damage(house.disk, name)
    stage = heals(house)
    (healed,) = stage.heard(ModelHealed)
    assert healed.anew
    (found,) = stage.heard(DamageFound)
    assert found.what == PATH
    (request,) = house.merges
    assert request.deltas == tuple(delta.path for delta in DELTAS)
    assert request.nights == tuple(delta.night for delta in DELTAS)
    assert (request.proof, request.base_fingerprint) == ("none", "blake3:base")
    assert {name: house.disk.read(f"{PATH}/{name}") for name in CONTENT} == CONTENT


def test_b9_a_model_that_is_gone_is_merged_anew() -> None:
    house = Caring()
    durable.remove(house.disk, PATH)
    assert heals(house).heard(ModelHealed)[0].anew


def test_b9_a_model_of_an_earlier_version_is_taken_as_it_is_and_proven_when_it_is_made_anew() -> None:
    house = Caring()
    house.needed = (MergedModel(path=PATH, digest="", deltas=DELTAS, in_force=True),)
    house.disk.person_remove(f"{PATH}/{MANIFEST}")
    damage(house.disk)  # nobody can tell
    assert not heals(house).heard(ModelHealed)[0].anew
    durable.remove(house.disk, PATH)
    assert heals(house).heard(ModelHealed)[0].anew
    assert house.merges[-1].proof == "tensors", "there is no digest to say that it is the same"


@pytest.mark.parametrize("code", ["NF-MERGE-001", "NF-MERGE-002", "NF-MERGE-005", "NF-DISK-001"])
def test_b9_what_may_pass_is_tried_again_and_gives_nothing_up(code: str) -> None:
    house = Caring(refusals=[MergeRefused(code, "not now")] * 3)
    damage(house.disk)
    stage = heals(house)
    assert [one.again_in_s for one in stage.heard(ModelNotHealed)] == [60, 120, 240]
    assert stage.count(DamageFound) == 1, "told once"
    assert house.count(LeaveModels) == 0


def test_b9_without_space_it_waits_for_it() -> None:
    house = Caring(free=False)
    damage(house.disk)

    async def act(stage: Stage) -> None:
        await stage.tell(HealModel(path=PATH, why="test"))
        assert (await stage.hears(ModelNotHealed)).code == "NF-DISK-001"
        assert house.merges == []
        house.free = True
        assert (await stage.hears(ModelHealed)).anew

    house.stage(**QUIET).play(act)
    assert house.count(SpaceNeeded) == 2


def test_b9_other_bytes_than_were_committed_are_not_put_in_its_place() -> None:
    house = Caring(merged={**CONTENT, "weights": b"of a damaged base"})
    damage(house.disk)
    before = house.disk.read(f"{PATH}/weights")
    house.left = ModelsLeft(generation=5, path="state/generations/000005", model_path="")

    async def act(stage: Stage) -> None:
        await stage.tell(HealModel(path=PATH, why="test"))
        given_up = await stage.hears(ModelGivenUp)
        assert (given_up.code, given_up.instead) == ("NF-MERGE-050", "state/generations/000005")

    house.stage(**QUIET).play(act)
    assert [one for one in house.asked if isinstance(one, LeaveModels)] == [LeaveModels(paths=(PATH,))]
    assert house.disk.read(f"{PATH}/weights") == before
    assert house.models() == [PATH.rpartition("/")[2]], "what was merged anew is gone"


def test_b9_a_delta_that_is_damaged_while_it_is_merged_anew_is_healed_and_it_is_merged_once_more() -> None:
    healed = (DELTAS[0], msgspec.structs.replace(DELTAS[1], path=f"{DELTAS[1].path}-healed"))

    class Damaging(Caring):
        async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
            if self.merges:
                return await super().merge(request)
            self.merges.append(request)
            self.needed = (msgspec.structs.replace(MODEL, deltas=healed),)
            return MergeRefused("NF-MERGE-012", "a delta is damaged")

    house = Damaging()
    damage(house.disk)
    stage = heals(house)
    assert [request.deltas for request in house.merges] == [
        tuple(delta.path for delta in DELTAS),
        tuple(delta.path for delta in healed),
    ]
    assert stage.heard(ModelHealed)[0].anew
    assert house.count(LeaveModels) == 0


def test_b9_with_nothing_else_to_stand_on_the_daemon_ends_in_words() -> None:
    house = Caring(refusals=[MergeRefused("NF-MERGE-012", "the base is cut short")])
    damage(house.disk)

    async def act(stage: Stage) -> None:
        await stage.tell(HealModel(path=PATH, why="test"))
        await stage.rest(60)

    with pytest.raises(OperatorError) as ended:
        house.stage(**QUIET).play(act)
    assert (ended.value.code, ended.value.exit_code) == ("NF-MERGE-051", EXIT_CONFIG)
    assert "NF-MERGE-012" in str(ended.value)
    assert house.disk.stat(PATH) is not None


# Reading them through.


def test_b9_the_scrub_finds_rot_and_heals_it_while_nobody_waits() -> None:
    house = Caring()

    async def act(stage: Stage) -> None:
        await stage.rest(DAY / 2)
        assert stage.count(DamageFound) == 0
        damage(house.disk)
        await stage.rest(DAY / 4)
        assert stage.count(DamageFound) == 0, "a round is once a day"
        assert (await stage.hears(ModelHealed, within=DAY)).anew

    stage = house.stage(nightly=False).play(act)
    verify_model(house.disk, PATH, DIGEST)
    assert stage.count(DamageFound) == 1


def test_b9_rot_that_cannot_be_healed_takes_nothing_out_of_force_while_it_is_in_memory() -> None:
    house = Caring(merged={"weights": b"other"})
    damage(house.disk)

    async def act(stage: Stage) -> None:
        told = await stage.hears(ModelNotHealed, within=DAY)
        assert (told.code, told.again_in_s) == ("NF-MERGE-050", DAY)
        await stage.hears(ModelNotHealed, 2, within=2 * DAY)

    stage = house.stage(nightly=False).play(act)
    assert house.count(LeaveModels) == 0
    assert stage.count(DamageFound) == 1


def test_a_round_reads_every_model_in_pieces_of_the_size_that_is_set() -> None:
    disk = SimDisk()
    large = {"weights": b"x" * (5 << 20), "config.json": b"{}"}
    paths = [f"consolidated_models/{number}" for number in (1, 2)]
    for path in paths:
        put_model(disk, path, large)
    damage(disk, "weights", paths[1])
    digest = table_digest(entries(large))
    models = tuple(MergedModel(path=path, digest=digest, deltas=(), in_force=False) for path in paths)
    scrub = Scrub(disk, (MergedModel(path="gone", digest="", deltas=(), in_force=False), *models))
    pieces, found, done = 0, "", False
    while not done:
        found, done = scrub.read(2 << 20)
        pieces += 1
    assert found == paths[1], "the last of them"
    assert pieces == 6, "ten MiB and two configs, two MiB at a time"


def test_a_scrub_that_is_turned_off_reads_nothing() -> None:
    house = Caring()
    damage(house.disk)

    async def act(stage: Stage) -> None:
        await stage.rest(3 * DAY)

    assert house.stage(**QUIET).play(act).count(DamageFound) == 0


# The manifest.


def test_looking_only_at_sizes_misses_a_turned_bit_and_nothing_larger() -> None:
    disk = SimDisk()
    put_model(disk)
    damage(disk)
    verify_model(disk, PATH, DIGEST, deep=False)
    with pytest.raises(FolderDamaged, match="other content"):
        verify_model(disk, PATH, DIGEST)
    disk.person_put(f"{PATH}/weights", b"short")
    with pytest.raises(FolderDamaged, match="5 bytes, expected 7000"):
        verify_model(disk, PATH, DIGEST, deep=False)
    disk.person_remove(f"{PATH}/{MANIFEST}")
    with pytest.raises(FolderDamaged, match="MANIFEST"):
        verify_model(disk, PATH, DIGEST, deep=False)
    verify_model(disk, PATH)  # of an earlier version


def test_every_byte_of_a_manifest_is_sealed() -> None:
    raw = manifest_of(("n",), "base", (entries(CONTENT),), entries(CONTENT))
    disk = SimDisk()
    put_model(disk)
    for index in range(len(raw)):
        turned = bytearray(raw)
        turned[index] ^= 1 << index % 8
        disk.person_put(f"{PATH}/{MANIFEST}", bytes(turned))
        with pytest.raises(FolderDamaged):
            verify_model(disk, PATH, DIGEST)


def test_a_manifest_in_a_folder_below_counts_with_its_path() -> None:
    disk = SimDisk()
    put_model(disk)
    disk.person_mkdir(f"{PATH}/additional_chat_templates")
    disk.person_put(f"{PATH}/additional_chat_templates/tool.jinja", b"x")
    with pytest.raises(FolderDamaged, match=r"unknown files: additional_chat_templates/tool\.jinja"):
        verify_model(disk, PATH, DIGEST)
