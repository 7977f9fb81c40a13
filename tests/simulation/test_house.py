"""The whole house, simulated: every promise over many seeds, and the same seed the same bytes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from actors.trainer.jobs import DeviceJobs
from messages import BatchAccepted, BatchOpened, BatchTrained, EngineStumbled, LearningState
from runtime import Actor, Child, on
from tools.simulate import main, run_seed
from tools.simulated_house.campaign import Campaign
from tools.simulated_house.people import DAY, make_plan
from tools.simulated_house.universe import HORIZON, Universe

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
    """Every kind of fault struck, batches were trained and nights folded; most of what can be tried was passed."""
    campaign = Campaign(16)
    for seed in range(16):
        campaign.add(run_seed(seed, 1.0))
    struck = {"crash" if kind.endswith("crashes") else kind.partition(",")[0] for kind in campaign.faults}
    assert struck >= {"power cut", "kill", "no_space", "short_write", "io_error", "crash", "engine", "merge"}
    assert struck >= {"job_raises", "job_slow", "device_raises", "device_hangs", "disk_full", "slow_disk"}
    assert campaign.counts["batches"] > 40
    assert campaign.counts["nights"] > 8
    assert {"rename state/HEAD", "fsync state/HEAD.tmp", "rename trained/FILE.jsonl"} <= campaign.crash_points.passed
    assert len(campaign.crash_points.reached) > 6
    assert len(campaign.orders.pairs()[0]) > 60


def test_the_faults_of_a_universe_given_back_run_the_same_again() -> None:
    for seed in (7, 44, 45):
        first = run_seed(seed, 1.0)
        assert first.strikes
        again = run_seed(seed, 1.0, first.strikes)
        assert (again.trace, again.strikes) == (first.trace, first.strikes)


def test_faults_and_deeds_can_be_left_out() -> None:
    whole = run_seed(44, 1.0)
    assert run_seed(44, 1.0, ()).strikes == ()
    part = run_seed(44, 1.0, whole.strikes[:1], (1, 2))
    assert part.strikes == whole.strikes[:1]
    assert part.deeds == whole.deeds[2:]


def test_the_same_seed_gives_the_same_trace_in_another_process_and_checkout(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.simulate", "--seeds", "3", "--first-seed", "5", "--jobs", "1"]
    # What fails tells where, and what is told fills the disk: a checkout's path must not be in it.
    elsewhere = tmp_path / "a checkout whose path is a good deal longer"
    elsewhere.symlink_to(ROOT)
    lines = []
    for hash_seed, checkout in (("0", ROOT), ("1", elsewhere)):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            check=True,
        )
        lines.append(next(line for line in done.stdout.splitlines() if line.startswith("trace sha256")))
    assert lines[0] == lines[1]
    assert run_seed(7, 1.0).trace != run_seed(8, 1.0).trace


def test_the_pid_of_the_simulating_process_is_not_in_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = run_seed(7, 1.0).trace
    monkeypatch.setattr(os, "getpid", lambda: 10**18)
    assert run_seed(7, 1.0).trace == ours


_open_batch = DeviceJobs.open_batch


def _cursor_forgotten(self: DeviceJobs, state: LearningState, accepted: BatchAccepted) -> BatchOpened | EngineStumbled:
    """An interrupted batch begins again from its first step."""
    if state.cursor is not None:
        state = replace(state, cursor=replace(state.cursor, step=0))
    return _open_batch(self, state, accepted)


@pytest.mark.parametrize("days", [1.0, 7.0, 30.0])
def test_nobody_comes_so_late_that_the_calm_is_over_before(days: float) -> None:
    latest = max(deed.at for seed in range(100) for deed in make_plan(seed, days).deeds)
    assert latest <= days * DAY + HORIZON / 2


def test_a_plug_in_may_live_in_the_simulated_house() -> None:
    heard: list[str] = []

    class Bell(Actor):
        @on
        async def trained(self, done: BatchTrained) -> None:
            heard.append(done.batch)

    outcome = Universe(7, extra=(Child("bell", Bell),)).run()
    assert outcome.violation == ""
    assert len(heard) >= outcome.counts["batches"] // 2 > 0


def test_a_broken_promise_is_told_shrunk_and_runs_again_as_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DeviceJobs, "open_batch", _cursor_forgotten)
    assert main(["--seeds", "1", "--first-seed", "5", "--jobs", "1", "--shrink-seconds", "8"]) == 1
    told = capsys.readouterr().out
    assert "seed 5: no step is skipped or repeated: " in told
    again = next(line for line in told.splitlines() if "--only-faults" in line).partition("tools.simulate ")[2]
    arguments = shlex.split(again)
    assert len(arguments[arguments.index("--only-faults") + 1].split()) < 6
    assert main(arguments) == 1
    assert "seed 5: no step is skipped or repeated: " in capsys.readouterr().out


def test_faults_may_come_from_a_file_and_nonsense_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faults").write_text("1.crash@40  # somebody\n")
    one = ["--seeds", "1", "--jobs", "1", "--uncovered"]
    assert main([*one, "--only-faults", str(tmp_path / "faults")]) == 0
    told = capsys.readouterr().out
    assert "crashes 1\n" in told
    assert "never ended at: rename state/HEAD" in told
    assert "one order only: " in told
    for wrong in ("1.crash", "nowhere"):
        with pytest.raises(SystemExit):
            main([*one, "--only-faults", wrong])
