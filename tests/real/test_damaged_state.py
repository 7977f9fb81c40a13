"""Damage under ``state/`` on a real disk: the store finds it, says so, and puts the newest sound thing in force.

The generations are made by hand, for what they hold is nothing to the store but bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.checkpointer.store import Opened, Store
from messages import LearningState
from runtime.disk import Disk
from runtime.errors import EXIT_CONFIG, OperatorError

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("damaged_state")]

FILES = ("adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors", "rng.safetensors")
EVERY_FILE = (*FILES, "trainer_state.json", "MANIFEST.json")
NEWEST, BEFORE = "state/generations/000003", "state/generations/000002"


def opened(home: Path) -> tuple[Store, Opened]:
    """The store as a start finds it."""
    store = Store(Disk(home), keep_generations=5, keep_snapshots=3, keep_nights=2)
    return store, store.open()


@pytest.fixture(scope="module")
def three_generations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generations of ten steps each, and a snapshot of the second."""
    home = tmp_path_factory.mktemp("three_generations")
    store, _ = opened(home)
    for number in (1, 2, 3):
        files = {name: f"{name} {number} ".encode() * 100 for name in FILES}
        state = LearningState(global_step=10 * number, adapter_step=10 * number, base_fingerprint="f")
        store.commit(files, state, "interval", f"2026-11-2{number}T12:00:00")
        if number == 2:
            assert store.snapshot("2026-11-22") == "snapshots/2026-11-22"
    return home


@pytest.fixture
def home(three_generations: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(three_generations, tmp_path / "home", symlinks=True))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace(file: Path) -> None:
    file.write_bytes(b"\x00not JSON")


def delete(file: Path) -> None:
    file.unlink()


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def assert_falls_back(home: Path) -> None:
    """The second generation is in force, the third set aside as it was found, and it is told once."""
    as_found = everything_in(home / NEWEST)
    store, found = opened(home)
    [(what, why, instead)] = found.damage
    assert (what, instead) == (NEWEST, BEFORE)
    assert NEWEST in why
    force = store.in_force()
    assert (force.generation, force.state.global_step) == (2, 20)
    assert (home / "current_model").resolve() == home / BEFORE
    assert everything_in(home / "state/set_aside/generations-000003") == as_found
    _, again = opened(home)
    assert (again.damage, again.removed, again.set_aside) == ((), (), ())
    # Work goes on, and nothing is mistaken for what was set aside.
    kept = store.commit(
        dict.fromkeys(FILES, b"new"), LearningState(global_step=25, adapter_step=25), "interval", "2026-11-24T12:00:00"
    )
    assert store.in_force().state.global_step == 25
    assert Path(kept.path).name not in ("000001", "000002")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, replace, delete], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", EVERY_FILE)
def test_b1_a_damaged_file_of_the_newest_generation(home: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(home / NEWEST / name)
    assert_falls_back(home)


def test_b4_a_step_count_edited_by_hand(home: Path) -> None:
    file = home / NEWEST / "trainer_state.json"
    text = file.read_text()
    assert '"global_step": 30' in text
    file.write_text(text.replace('"global_step": 30', '"global_step": 99'))
    assert_falls_back(home)


def test_b4_a_step_count_edited_by_hand_in_the_manifest_too(home: Path) -> None:
    for name in ("trainer_state.json", "MANIFEST.json"):
        file = home / NEWEST / name
        file.write_text(file.read_text().replace('"global_step": 30', '"global_step": 99'))
    assert_falls_back(home)


def test_b7_without_its_moments_a_generation_is_refused_as_a_whole(home: Path) -> None:
    (home / NEWEST / "optimizer.safetensors").unlink()
    assert_falls_back(home)


def test_b1_a_file_too_many_counts_as_damage(home: Path) -> None:
    (home / NEWEST / "adapter_model.bin").write_bytes(b"what PEFT would load first")
    assert_falls_back(home)


def test_b1_the_whole_newest_folder_is_gone(home: Path) -> None:
    for file in (home / NEWEST).iterdir():
        file.unlink()
    (home / NEWEST).rmdir()
    store, found = opened(home)
    assert [(what, instead) for what, _, instead in found.damage] == [(NEWEST, BEFORE)]
    assert store.in_force().state.global_step == 20


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, replace, delete], ids=lambda damage: damage.__name__)
def test_r1_a_damaged_head_is_rebuilt_from_the_newest_sound_generation(
    home: Path, damage: Callable[[Path], None]
) -> None:
    damage(home / "state/HEAD")
    store, found = opened(home)
    assert found.head is not None
    assert (found.head.generation, store.in_force().state.global_step) == (3, 30)
    _, again = opened(home)
    assert again.damage == ()


def test_r2_no_sound_generation_is_left_and_the_snapshot_is_used(home: Path) -> None:
    for number in (1, 2, 3):
        flip_a_bit(home / f"state/generations/00000{number}/adapter_model.safetensors")
    store, found = opened(home)
    assert store.in_force().state.global_step == 20
    # Found once by what HEAD keeps; the search that follows must not tell the same again.
    assert [what for what, _, _ in found.damage][:3] == [f"state/generations/00000{number}" for number in (3, 2, 1)]
    assert len({what for what, _, _ in found.damage}) == len(found.damage)
    assert (home / "snapshots/2026-11-22").is_dir()


def test_r2_nothing_sound_is_left_and_nothing_is_deleted(home: Path) -> None:
    for file in home.rglob("adapter_model.safetensors"):
        if "current_model" not in file.parts:
            flip_a_bit(file)
    before = everything_in(home)
    with pytest.raises(OperatorError) as refused:
        opened(home)
    assert (refused.value.code, refused.value.exit_code) == ("NF-STATE-002", EXIT_CONFIG)
    for number in (1, 2, 3):
        assert f"state/generations/00000{number}" in str(refused.value)
    assert everything_in(home) == before


@pytest.mark.parametrize("name", ["HEAD", "generations/000003/MANIFEST.json"])
def test_b8_what_a_newer_version_wrote_is_refused_untouched(home: Path, name: str) -> None:
    if name != "HEAD":
        (home / "state/HEAD").unlink()  # which would have known the manifest by its digest
    file = home / "state" / name
    record = json.loads(file.read_text())
    record.pop("seal", None)  # how a newer version seals is its own business
    file.write_text(json.dumps({**record, "schema": 2, "only_the_newer_one_knows": [1]}))
    before = everything_in(home)
    with pytest.raises(OperatorError, match="schema 2") as refused:
        opened(home)
    assert (refused.value.code, refused.value.exit_code) == ("NF-STATE-004", EXIT_CONFIG)
    assert everything_in(home) == before
