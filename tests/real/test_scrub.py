"""Damage to any file of a generation, under the real daemon: found, told by status and doctor, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.real.conftest import Live
from tests.real.daemons import Home, Nursery, command, lesson
from tools.commands.doctor import doctor

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("scrub")]

FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "optimizer.safetensors",
    "rng.safetensors",
    "trainer_state.json",
    "MANIFEST.json",
)
SCRUB = {"scrub_every_seconds": 0.05, "scrub_round_every_seconds": 1.0}


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": flip_a_bit,
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
}


def has_told(home: Home, times: int) -> bool:
    return len(home.events("DamageFound")) >= times


def has_moved_on(home: Home, generation: int) -> bool:
    return bool(home.head()["generation"] > generation)


def test_b1_a_living_daemon_finds_what_happens_to_any_file_in_force_and_commits_what_it_holds_anew(
    home: Home, live: Live
) -> None:
    home.configure(checkpointer=SCRUB)
    home.drop("a.jsonl", lesson(1, 8))
    daemon = live("run", home.path)
    daemon.until("it has trained", lambda: home.has("trained/a.jsonl") and home.status()["state"] == "idle")
    learnt = home.learnt()
    told = 0
    for name in FILES:
        for damage in DAMAGES.values():
            before = home.head()
            damage(home.path / before["generation_path"] / name)
            daemon.until(f"{name} is told", partial(has_told, home, told + 1))
            daemon.until("committed anew", partial(has_moved_on, home, before["generation"]))
            told = len(home.events("DamageFound"))
            assert home.events("DamageFound")[-1]["what"] == before["generation_path"]
            assert home.learnt() == learnt
    assert told == len(FILES) * len(DAMAGES)
    status = home.status()
    assert status["last_error"]["code"] == "NF-STATE-006"
    daemon.until("a sound round", lambda: (home.status()["last_scrub"] or {"damaged": 1})["damaged"] == 0)
    assert home.status()["last_scrub"]["things"] > 3
    told_by_doctor = command("doctor", home.path, "--deep")
    assert "were set aside" in told_by_doctor.stdout, told_by_doctor.stdout
    assert told_by_doctor.returncode == 0, told_by_doctor.stdout
    home.drop("b.jsonl", lesson(2, 8))
    daemon.until("it goes on", lambda: home.has("trained/b.jsonl"))
    assert command("stop", home.path).returncode == 0
    assert daemon.end() == 0, daemon.said


def test_b1_older_generations_snapshots_and_head_are_healed_while_it_trains(home: Home, live: Live) -> None:
    home.configure(checkpointer=SCRUB)
    home.drop("a.jsonl", lesson(1, 24))
    daemon = live("run", home.path)
    daemon.until("it has trained", lambda: home.has("trained/a.jsonl") and home.status()["state"] == "idle")
    older = next(one for one in home.head()["kept"] if one["generation"] != home.head()["generation"])
    snapshot = next((home.path / "snapshots").iterdir())
    flip_a_bit(home.path / older["path"] / "optimizer.safetensors")
    flip_a_bit(snapshot / "MANIFEST.json")
    whole = (home.path / "state/HEAD").read_bytes()
    daemon.until("both are told", lambda: len(home.events("DamageFound")) == 2)
    daemon.until("set aside", lambda: not snapshot.exists() and not (home.path / older["path"]).exists())
    assert older["generation"] not in {one["generation"] for one in home.head()["kept"]}
    whole = (home.path / "state/HEAD").read_bytes()
    (home.path / "state/HEAD").write_bytes(whole[:100])
    daemon.until("HEAD is written anew", lambda: (home.path / "state/HEAD").read_bytes() == whole)
    daemon.kill()
    assert live("run", home.path, "--until-idle").end() == 0
    assert doctor(home.path, as_json=True) == 0


@pytest.fixture(scope="module")
def trained(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Home:
    """A home with several generations, stopped in order."""
    home = Home(tmp_path_factory.mktemp("trained") / "home", tiny_model)
    home.drop("a.jsonl", lesson(1, 24))
    daemon = nursery.bear("run", home.path, "--until-idle")
    assert daemon.end() == 0, daemon.said
    return home


@pytest.mark.parametrize("name", FILES)
def test_b1_a_start_goes_on_from_the_generation_before_and_doctor_and_status_say_so(
    name: str, trained: Home, live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home.__new__(Home)
    home.path = Path(shutil.copytree(trained.path, tmp_path / "home", symlinks=True))
    newest = home.head()["generation_path"]
    flip_a_bit(home.path / newest / name)
    assert doctor(home.path, as_json=False) == 4
    assert "in force, is damaged" in capsys.readouterr().out
    home.drop("b.jsonl", lesson(2, 4))
    daemon = live("run", home.path, "--until-idle")
    assert daemon.end() == 0, daemon.said
    assert [event["what"] for event in home.events("DamageFound")] == [newest]
    assert f"damage     {newest}" in daemon.said
    assert any(newest in problem["message"] for problem in home.status()["problems"])
    assert home.has("trained/b.jsonl")
    assert doctor(home.path, as_json=True) == 0
