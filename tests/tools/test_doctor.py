"""doctor: a sound home is well, and each thing that can be wrong with one is found and told apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import durable
from runtime.home_lock import HomeLock
from tests.tools.conftest import write_status
from tests.tools.simulated_home import lived_in_home
from tools.checkups import surroundings
from tools.checkups.finding import Finding
from tools.commands.doctor import checks, doctor
from tools.commands.history import read_head


@pytest.fixture
def lived_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = lived_in_home(tmp_path / "home")
    head = read_head(made)
    assert head is not None
    monkeypatch.setattr(surroundings, "fingerprint", lambda _folder: head.base_fingerprint)
    write_status(made, state="stopped", pid=None)
    return made


def bad(home: Path) -> list[Finding]:
    return [finding for finding in checks(home) if finding.level != "ok"]


def test_a_sound_home_is_well(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bad(lived_in) == []
    assert doctor(lived_in, as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all is well"
    assert doctor(lived_in, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is True
    assert {"check", "level", "words", "todo", "code"} == set(found["findings"][0])


def test_a_fresh_home_is_well(home: Path) -> None:
    shutil.copytree(lived_in_home(home.parent / "other") / "model", home / "model")
    assert bad(home) == []


def newest(home: Path) -> Path:
    head = read_head(home)
    assert head is not None
    return home / head.generation_path


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def link_elsewhere(home: Path) -> None:
    (home / "current_model").unlink()
    (home / "current_model").symlink_to("state")


def forge_a_counter(home: Path) -> None:
    """As somebody would who knows of the digests: state, manifest and HEAD agree again, but for the count itself."""
    folder = newest(home)
    state = (folder / "trainer_state.json").read_bytes().replace(b'"global_step": 28', b'"global_step": 99')
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    entry = manifest["files"]["trainer_state.json"]
    entry["digest"] = durable.digest_of_bytes(state)
    del manifest["seal"], manifest["cursor"]  # as the version before wrote it
    raw = json.dumps(manifest).encode()
    head = json.loads((home / "state/HEAD").read_bytes())
    head["kept"][-1]["manifest"] = durable.digest_of_bytes(raw)
    (folder / "trainer_state.json").write_bytes(state)
    (folder / "MANIFEST.json").write_bytes(raw)
    (home / "state/HEAD").write_text(json.dumps(head))


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "config": (lambda home: (home / "nightfold.toml").write_text("[trainor]\n"), "config", "NF-CONF-001"),
    "a file where a folder belongs": (
        lambda home: (home / "snapshots").rename(home / "moved").with_name("snapshots").write_text(""),
        "folders",
        "NF-DISK-002",
    ),
    "the daemon was killed": (lambda home: write_status(home, state="training", pid=424242), "daemon", ""),
    "a damaged HEAD": (lambda home: (home / "state/HEAD").write_text("{"), "HEAD", "NF-STATE-006"),
    "no HEAD": (lambda home: (home / "state/HEAD").unlink(), "HEAD", "NF-STATE-006"),
    "one flipped bit": (lambda home: flip(newest(home) / "optimizer.safetensors"), "generations", "NF-STATE-006"),
    "a missing file": (lambda home: (newest(home) / "adapter_config.json").unlink(), "generations", "NF-STATE-006"),
    "a hand-edited counter": (lambda home: flip(newest(home) / "trainer_state.json"), "generations", "NF-STATE-006"),
    "a forged counter": (forge_a_counter, "generations", "NF-STATE-006"),
    "a damaged delta": (
        lambda home: flip(next((home / "state/deltas").glob("*/adapter_model.safetensors"))),
        "nights",
        "NF-STATE-006",
    ),
    "no merged model": (lambda home: shutil.rmtree(home / "consolidated_models"), "models", "NF-STATE-006"),
    "no base model": (lambda home: shutil.rmtree(home / "model"), "base model", "NF-MODEL-001"),
    "a full disk": (
        lambda home: (home / "nightfold.toml").write_text(f"[disk_guard]\nfree_bytes_min = {1 << 60}\n"),
        "space",
        "NF-DISK-001",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_and_makes_it_unhealthy(lived_in: Path, what: str) -> None:
    damage, check, code = BROKEN[what]
    damage(lived_in)
    errors = [finding for finding in bad(lived_in) if finding.level == "error"]
    assert (check, code) in [(finding.check, finding.code) for finding in errors]
    assert all(finding.todo for finding in errors)
    assert doctor(lived_in, as_json=True) == 4


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a stale .stop": (lambda home: (home / ".stop").touch(), "notes"),
    "paused": (lambda home: (home / ".pause").touch(), "notes"),
    "a spent reserve": (lambda home: (home / "state/RESERVE").unlink(), "reserve"),
    "a reserve of another size": (lambda home: (home / "state/RESERVE").write_bytes(b"1"), "reserve"),
    "a leftover": (lambda home: (home / "state/.abc.tmp").touch(), "leftovers"),
    "a generation that HEAD does not reach": (lambda home: (home / "state/generations/000099").mkdir(), "unreached"),
    "set aside": (lambda home: (home / "state/set_aside/generations-000001").mkdir(parents=True), "set aside"),
    "a link elsewhere": (
        link_elsewhere,
        "current_model",
    ),
    "a damaged snapshot": (
        lambda home: flip(next((home / "snapshots").glob("*/adapter_model.safetensors"))),
        "snapshots",
    ),
    "a problem that the daemon noted": (
        lambda home: write_status(
            home, state="stopped", problems=[{"code": "NF-RUN-005", "message": "m", "when": "w"}]
        ),
        "problems",
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_told_and_leaves_it_healthy(lived_in: Path, what: str) -> None:
    change, check = ODD[what]
    change(lived_in)
    assert [finding.check for finding in bad(lived_in)] == [check]
    assert doctor(lived_in, as_json=True) == 0


def test_another_base_model_is_found(tmp_path: Path) -> None:
    errors = [finding.code for finding in bad(lived_in_home(tmp_path)) if finding.level == "error"]
    assert errors == ["NF-MODEL-010"]


def test_under_a_living_daemon_leftovers_are_its_work(lived_in: Path) -> None:
    (lived_in / "state" / ".abc.tmp").touch()
    with HomeLock(lived_in):
        write_status(lived_in, state="idle", pid=os.getpid())
        assert bad(lived_in) == []


def test_file_systems_are_told_by_the_longest_mount_point() -> None:
    mounts = "/dev/a / ext4 rw 0 0\nserver:/x /srv nfs4 rw 0 0\n/dev/b /srv/fast\\040disk xfs rw 0 0\n"
    assert surroundings.kind_of_mount(Path("/home/x"), mounts) == "ext4"
    assert surroundings.kind_of_mount(Path("/srv/inbox"), mounts) == "nfs4"
    assert surroundings.kind_of_mount(Path("/srv/fast disk/inbox"), mounts) == "xfs"


def test_looking_changes_nothing_and_loads_no_torch(lived_in: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in lived_in.rglob("*")}
    code = (
        "import sys; from pathlib import Path; from tools.commands.doctor import doctor;"
        "from tools.commands.history import history; from tools.commands.ps import ps;"
        "from tools.commands.trace import trace; home = Path(sys.argv[1]); doctor(home, True); history(home, True);"
        "ps(home, True); trace(home, 'show', '1', None); trace(home, 'replay', 'trainer', None);"
        "import tools.commands.rollback; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(lived_in)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path: path.lstat().st_mtime_ns for path in lived_in.rglob("*")} == before
