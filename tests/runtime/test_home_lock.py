"""The home's lock against real processes: the kernel, not the file, says whether a daemon lives."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import EXIT_DISK, EXIT_LOCKED, OperatorError
from runtime.home_lock import LOCK, HomeLock, living_pid

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from runtime.home_lock import HomeLock
with HomeLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of ``tmp_path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_home_without_a_daemon_has_no_living_pid(tmp_path: Path) -> None:
    assert living_pid(tmp_path) is None
    assert not (tmp_path / "state").exists(), "asking must leave no trace"


def test_the_lock_notes_pid_and_start(tmp_path: Path) -> None:
    with HomeLock(tmp_path):
        assert living_pid(tmp_path) == os.getpid()
        note = json.loads((tmp_path / LOCK).read_text())
        assert note["pid"] == os.getpid()
        assert "T" in note["started"]
    assert living_pid(tmp_path) is None


def test_a_second_daemon_is_refused_and_told_the_living_pid(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert living_pid(tmp_path) == holder.pid
    with pytest.raises(OperatorError) as caught, HomeLock(tmp_path):
        pytest.fail("two daemons on one home")
    assert caught.value.code == "NF-STATE-001"
    assert caught.value.exit_code == EXIT_LOCKED
    assert f"pid {holder.pid}" in caught.value.what
    assert living_pid(tmp_path) == holder.pid, "a refused one leaves the living one's note alone"


def test_a_lock_left_by_a_killed_daemon_is_taken_over(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert str(holder.pid) in (tmp_path / LOCK).read_text()
    assert living_pid(tmp_path) is None
    with HomeLock(tmp_path):
        assert living_pid(tmp_path) == os.getpid()


def test_a_child_process_does_not_keep_the_lock_alive(tmp_path: Path) -> None:
    with HomeLock(tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", "print('up', flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
    try:
        assert living_pid(tmp_path) is None
    finally:
        child.communicate(b"\n")


def test_a_passing_look_does_not_turn_a_starting_daemon_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader holds the lock, shared, while the daemon takes it; the daemon must ask again."""
    (tmp_path / "state").mkdir()
    reader = os.open(tmp_path / LOCK, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr("runtime.home_lock.time.sleep", lambda seconds: fcntl.flock(reader, fcntl.LOCK_UN))
    try:
        with HomeLock(tmp_path):
            assert living_pid(tmp_path) == os.getpid()
    finally:
        os.close(reader)


def test_a_lock_whose_note_is_unreadable_still_says_that_a_daemon_lives(tmp_path: Path) -> None:
    with HomeLock(tmp_path):
        (tmp_path / LOCK).write_text("not json")
        assert living_pid(tmp_path) == 0


def test_a_lock_file_replaced_while_it_is_being_taken_is_not_mistaken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runtime.home_lock as module

    real = module._is_still
    swapped: list[Path] = []

    def swap_once(path: Path, handle: int) -> bool:
        if not swapped:
            swapped.append(path)
            path.unlink()
        return real(path, handle)

    monkeypatch.setattr(module, "_is_still", swap_once)
    with HomeLock(tmp_path):
        assert swapped
        assert living_pid(tmp_path) == os.getpid()


def test_a_home_that_cannot_be_locked_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder belongs")
    with pytest.raises(OperatorError) as caught, HomeLock(tmp_path):
        pytest.fail("locked a file's inside")
    assert caught.value.code == "NF-CONF-006"
    assert caught.value.exit_code == EXIT_DISK
