"""A sample of the crash matrix: real daemons meet a fault, and the script comes to the bytes of the undisturbed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.daemons import PROJECT, environment

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def crash_matrix(work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.crash_matrix", "--work", str(work), "--jobs", "1", *arguments],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_sample_recovers_bit_exact_and_is_not_tried_again(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "model").symlink_to(tiny_model)
    # A power cut is a kill that also takes what was not synced.
    asked = ("--sample", "3", "--faults", "power")
    first = crash_matrix(tmp_path, *asked)
    assert first.returncode == 0, first.stdout + first.stderr
    assert first.stdout.endswith("3 of 3 points recovered bit-exact\n")
    assert ", 0 of them tried before" in first.stdout
    assert list((tmp_path / "cases").iterdir()) == [], "nothing is kept of what recovered"

    results = (tmp_path / "results.jsonl").read_text()
    again = crash_matrix(tmp_path, *asked)
    cases = len(results.splitlines())
    assert f"{cases} cases to try, {cases} of them tried before" in again.stdout
    assert (tmp_path / "results.jsonl").read_text() == results

    # One that did not recover is told, with the command that repeats it.
    (tmp_path / "results.jsonl").write_text(results.replace('"why":""', '"why":"the optimizer differs"', 1))
    broken = crash_matrix(tmp_path, *asked)
    assert broken.returncode == 1
    assert "the optimizer differs" in broken.stdout
    assert f"python -m tools.crash_matrix --work {tmp_path} --only '" in broken.stdout
    assert broken.stdout.endswith("2 of 3 points recovered bit-exact\n")
