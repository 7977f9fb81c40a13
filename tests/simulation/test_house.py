"""The whole house, simulated: every promise over many seeds, the same seed the same bytes, and planted faults found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.checkpointer.head import Head, Kept
from actors.checkpointer.store import Store
from actors.trainer.jobs import DeviceJobs
from messages import BatchAccepted, BatchOpened, EngineStumbled, LearningState
from runtime import durable
from runtime.disk import DiskPort
from tools.simulate import run_seed
from tools.simulated_house.universe import Outcome, Universe

ROOT = Path(__file__).parents[2]
SEEDS = 200
GROUPS = 10
"""The seeds are run in groups, so that parallel test workers share them."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_promise_holds_over_a_simulated_day(group: int, record_property: Callable[[str, object], None]) -> None:
    outcomes = [run_seed(seed, 1.0) for seed in range(group, SEEDS, GROUPS)]
    broken = [f"seed {outcome.seed}: {outcome.violation}" for outcome in outcomes if outcome.violation]
    assert not broken, "\n".join(broken)
    record_property("simulated_days", sum(outcome.days for outcome in outcomes))
    record_property("simulated_seeds", len(outcomes))


def test_the_campaign_did_something() -> None:
    """Power was cut, the disk failed, actors crashed, batches were trained and nights folded."""
    outcomes = [run_seed(seed, 1.0) for seed in range(6)]
    faults = {name for outcome in outcomes for name, count in outcome.faults.items() if count}
    assert any(name.startswith("power cut") for name in faults)
    assert any(name.endswith("crashes") for name in faults)
    assert sum(outcome.counts.get("batches", 0) for outcome in outcomes) > 10
    assert sum(outcome.counts.get("nights", 0) for outcome in outcomes) > 1


def test_the_same_seed_gives_the_same_trace_in_another_process() -> None:
    command = [sys.executable, "-m", "tools.simulate", "--seeds", "3", "--first-seed", "7", "--jobs", "1"]
    lines = []
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        lines.append(next(line for line in done.stdout.splitlines() if line.startswith("trace sha256")))
    assert lines[0] == lines[1]
    assert run_seed(7, 1.0).trace != run_seed(8, 1.0).trace


# The simulation is only worth what it finds. Each of these breaks one protocol, and must be found.


def _no_fsync(disk: DiskPort, path: str, data: bytes) -> None:
    handle = disk.create(path)
    disk.write(handle, data)
    disk.close(handle)


def _file_without_directory_sync(disk: DiskPort, path: str, data: bytes) -> None:
    temporary = durable.hidden(path, "tmp")
    if disk.stat(temporary) is not None:
        disk.unlink(temporary)
    durable.write_new(disk, temporary, data)
    disk.rename(temporary, path)


def _head_before_its_generation(
    self: Store, files: Mapping[str, bytes], state: LearningState, why: str, now: str
) -> Kept:
    """Retention deletes before HEAD has let go."""
    for path in self._prunable():
        durable.remove(self._disk, path)
    head = self.head
    if head is not None:
        for kept in head.kept[:-1]:
            durable.remove(self._disk, kept.path)
    return _commit(self, files, state, why, now)


_commit = Store.commit
_open_batch = DeviceJobs.open_batch
_put_in_force = Store._put_in_force


def _cursor_forgotten(self: DeviceJobs, state: LearningState, accepted: BatchAccepted) -> BatchOpened | EngineStumbled:
    """An interrupted batch begins again from its first step."""
    if state.cursor is not None:
        state = replace(state, cursor=replace(state.cursor, step=0))
    return _open_batch(self, state, accepted)


def _head_not_told(self: Store, head: Head, kept: Kept) -> Head:
    """Committed in memory alone."""
    if head.number % 3:
        return _put_in_force(self, head, kept)
    return replace(head, number=head.number + 1, generation=kept.generation, generation_path=kept.path)


@pytest.mark.parametrize(
    ("target", "name", "broken"),
    [
        pytest.param(durable, "write_new", _no_fsync, id="content is not synced"),
        pytest.param(durable, "write_file", _file_without_directory_sync, id="a replaced file's folder is not synced"),
        pytest.param(Store, "commit", _head_before_its_generation, id="deleted before the commit"),
        pytest.param(DeviceJobs, "open_batch", _cursor_forgotten, id="the cursor is forgotten"),
        pytest.param(Store, "_put_in_force", _head_not_told, id="HEAD is not written every third time"),
    ],
)
@pytest.mark.timeout(300)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, target: object, name: str, broken: Callable[..., object]
) -> None:
    monkeypatch.setattr(target, name, broken)
    if target is durable:
        monkeypatch.setattr(f"actors.checkpointer.store.durable.{name}", broken)
    found = next((outcome for outcome in map(_outcome, range(40)) if outcome.violation), None)
    assert found is not None, "forty seeds did not find it"


def _outcome(seed: int) -> Outcome:
    return Universe(seed).run()
