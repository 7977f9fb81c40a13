"""The bench of checkpoints: every way saves the whole state, at a size that takes no time. Nothing here is timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.real
def test_every_way_takes_its_turn_and_steps_go_on_beside_a_commit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.bench.checkpoint", "--layers", "1", "--rounds", "1", "--steps", "1"]
    ended = subprocess.run(
        [*command, "--in", str(tmp_path), "--json"],
        cwd=PROJECT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert set(found["ways"]) == {
        "nightfold",
        "clone, write in a thread",
        "torch.save, fsync, rename",
        "HF Trainer save_checkpoint",
        "torch DCP save",
        "torch DCP async_save",
    }
    for runs in found["ways"].values():
        assert [0 < blocked <= durable for blocked, durable in runs] == [True]
    assert [len(each) for each in found["steps"]] == [1, 1]
    assert found["megabytes"] > 1
    assert not list(tmp_path.iterdir())
