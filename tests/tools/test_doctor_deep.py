"""doctor --deep reads every byte that can be held against something, and finds what a look at a part would not."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.checkpointer.head import TRAINER_STATE
from messages import Cursor
from runtime.disk import Disk
from tests.tools.conftest import write_status
from tests.tools.simulated_home import lived_in_home
from tools.checkups import deep, surroundings
from tools.checkups.finding import Finding
from tools.commands.doctor import WatchedDisk, checks, doctor
from tools.commands.history import read_head
from tools.house import read_config


def weights(values: int = 64) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, 4 * values]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * values)


@pytest.fixture
def lived_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = lived_in_home(tmp_path / "home")
    head = read_head(made)
    assert head is not None
    monkeypatch.setattr(surroundings, "fingerprint", lambda _folder: head.base_fingerprint)
    (made / "model/config.json").write_text("{}")
    (made / "model/model.safetensors").write_bytes(weights())
    write_status(made, state="stopped", pid=None)
    return made


def found(home: Path) -> list[Finding]:
    return [one for one in checks(home, WatchedDisk(home, shown=False)) if one.level != "ok"]


def test_a_sound_home_is_well_however_deep_one_looks(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert found(lived_in) == []
    assert doctor(lived_in, as_json=False, deep=True) == 0
    told = capsys.readouterr()
    assert "base weights" in told.out
    assert "4 receipt(s) and report(s) readable" in told.out
    assert told.err == ""


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def one_of(home: Path, pattern: str) -> Path:
    return min(home.glob(pattern))


BROKEN: dict[str, tuple[Callable[[Path], object], str, int]] = {
    "a weight file cut short": (lambda home: cut(home / "model/model.safetensors"), "base weights", 4),
    "a weight file's header": (lambda home: flip(home / "model/model.safetensors", 9), "base weights", 4),
    "a delta": (lambda home: flip(one_of(home, "state/deltas/*/adapter_model.safetensors")), "nights", 4),
    "a snapshot's manifest": (lambda home: flip(one_of(home, "snapshots/*/MANIFEST.json"), -20), "snapshots", 0),
    "a trained file": (lambda home: flip(one_of(home, "trained/*.jsonl")), "papers", 0),
    "a receipt": (lambda home: one_of(home, "trained/*.receipt.json").write_bytes(b"{"), "papers", 0),
    "a report": (lambda home: one_of(home, "rejected/*.report.json").write_bytes(b"\xff"), "papers", 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_thing_is_found_and_said_with_what_to_do(
    name: str, lived_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, check, code = BROKEN[name]
    damage(lived_in)
    told = [one for one in found(lived_in) if one.check == check]
    assert len(told) == 1
    assert told[0].todo
    assert doctor(lived_in, as_json=True, deep=True) == code
    capsys.readouterr()


def test_a_base_from_the_hub_is_held_against_the_digest_it_was_fetched_by(lived_in: Path) -> None:
    import hashlib

    blobs = lived_in / "blobs"
    blobs.mkdir()
    blob = blobs / hashlib.sha256(weights()).hexdigest()
    blob.write_bytes(weights())
    model = lived_in / "model/model.safetensors"
    model.unlink()
    model.symlink_to(blob)
    assert found(lived_in) == []
    flip(blob)  # in the middle of a tensor: nothing else would know
    assert [(one.check, one.words) for one in found(lived_in)] == [
        ("base weights", "model.safetensors is not what was fetched from the hub")
    ]


def test_the_file_in_training_is_held_against_the_digest_it_was_begun_with(
    lived_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "state/batches/000009/a.jsonl"
    (lived_in / path).parent.mkdir()
    (lived_in / path).write_bytes(b"{}\n")
    disk = Disk(lived_in)
    assert [one.level for one in deep.batches(lived_in, disk)] == ["ok"]
    cursor = Cursor("000009", "a.jsonl", path, "blake3:another", 1, step=1, steps=2, epochs=1, first_global_step=0)
    monkeypatch.setattr(deep, "_cursor", lambda _home, _disk: cursor)
    assert [one.code for one in deep.batches(lived_in, disk)] == ["NF-TRAIN-003", ""]


def test_the_cursor_is_read_from_what_is_in_force(lived_in: Path) -> None:
    head = read_head(lived_in)
    assert head is not None
    assert (lived_in / head.generation_path / TRAINER_STATE).is_file()
    assert deep._cursor(lived_in, Disk(lived_in)) is None


def test_progress_is_shown_on_a_terminal_and_taken_away(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = WatchedDisk(lived_in, shown=True)
    assert all(one.level == "ok" for one in checks(lived_in, disk))
    assert deep.to_read(lived_in, read_config(lived_in)) > 1000
    disk.clear()
    told = capsys.readouterr().err
    shown = [int(part.split(" %")[0]) for part in told.split("everything: ")[1:]]
    assert shown == sorted(shown)
    assert shown[-1] > 80
    assert told.endswith("\r\x1b[K")
