"""The bench of the kernel: every case does what it says, at a size that takes no time. Nothing here is timed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from messages import TrainingProgress
from runtime import ActorSystem, Child
from tests.runtime.scripted import eventually
from tools.bench import loop_lag
from tools.bench.heartbeat import Heartbeat, HeartbeatSettings, Lateness, bare_loop, lateness_of
from tools.bench.runtime import __main__ as bench
from tools.bench.runtime import nightfold, tracing
from tools.bench.runtime.bridge import CALLER
from tools.bench.runtime.cases import CASES
from tools.bench.runtime.shape import CPU, WALL, Case, Lost, Run, Sample, Tally, Way, repeat, until_heard
from tools.bench.runtime.table import TARGETS, ratio, show

SIZE = 230
"""Not a multiple of anything; more than there are tokens in the ring."""
FEW = 12
EVERY_WAY = [(case, way) for case, of in CASES.items() for way in of.ways]


@pytest.fixture(autouse=True)
def _switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize(("case_name", "way_name"), EVERY_WAY)
def test_every_contestant_of_every_case_handles_exactly_what_it_is_given(case_name: str, way_name: str) -> None:
    case, way = CASES[case_name], CASES[case_name].ways[way_name]
    if way.missing:
        pytest.skip(f"{way.missing} is not installed")
    case.prepared()
    size = FEW if case.fixed else SIZE
    sample = repeat(way, first=size, seconds=0.0, fixed=case.fixed)
    assert sample.count == size
    for column in case.columns:
        assert sample.figure(column) > 0 or case_name == "memory"


def a_way(loses: int) -> Way:
    tally = Tally()

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Run]:
        async def run(count: int) -> int:
            async def send() -> None:
                for _ in range(count):
                    tally.left -= 1
                tally.done()

            return await until_heard(tally, count, send) - loses

        yield run

    return Way(opened)


def test_a_contestant_that_loses_a_message_is_found_out() -> None:
    assert repeat(a_way(loses=0), first=7, seconds=0.0, fixed=False).count == 7
    with pytest.raises(Lost, match="7 were sent and 6 arrived"):
        repeat(a_way(loses=1), first=7, seconds=0.0, fixed=False)


def test_a_pass_grows_until_it_takes_long_enough() -> None:
    sample = repeat(a_way(loses=0), first=1, seconds=0.002, fixed=False)
    assert sample.count > 1
    assert sample.wall >= 0.002


async def test_the_ring_visits_every_actor_and_the_trace_and_the_supervision_are_on() -> None:
    seen: list[ActorSystem] = []
    async with nightfold._ring(1) as run:
        assert await run(205) == 205
    async with nightfold.sends_to(2, prepared=seen.append) as run:
        assert await run(20) == 20
        handled = {each.name: each.handled for each in seen[0].describe()}
        assert handled == {"hearer 0": 10, "hearer 1": 10, "sender": 1, "last": 0}
        kinds = [record.kind for record in seen[0].trace.since(0) if record.type == "Note"]
        assert kinds.count("sent") == kinds.count("begun") == kinds.count("done") == 20


async def test_a_trace_that_is_let_go_at_once_keeps_nothing_of_a_message_that_is_told() -> None:
    seen: list[ActorSystem] = []

    def prepared(system: ActorSystem) -> None:
        tracing.forgetful(system)
        seen.append(system)

    async with nightfold.sends_to(1, prepared=prepared) as run:
        assert await run(20) == 20
        assert not [record for record in seen[0].trace.since(0) if record.type == "Note"]


def test_each_round_has_its_own_ratio_and_their_median_is_told() -> None:
    def cpu(*seconds: float) -> list[Sample]:
        return [Sample(1, 9.0, each) for each in seconds]

    assert ratio(cpu(1, 6, 9), cpu(1, 3, 10)) == 1.0
    assert ratio(cpu(2, 2), cpu(1, 4)) == 1.25


@pytest.mark.parametrize(("cpu", "verdicts"), [(0.4e-6, ["met", "met"]), (0.6e-6, ["NOT MET", "NOT MET"])])
def test_a_target_says_whether_it_is_met(cpu: float, verdicts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    ours, peers = [Sample(1, cpu, cpu)], [Sample(1, 0.7e-6, 0.7e-6)]
    show("tell", CASES["tell"], {"nightfold": ours, "asyncio.Queue": peers}, {})
    told = [line for line in capsys.readouterr().out.splitlines() if "target" in line]
    assert [line.rsplit(": ", 1)[-1] for line in told] == verdicts


def test_every_target_is_of_a_case_and_of_figures_it_has() -> None:
    sample = Sample(10, 1.0, 1.0, {"bytes": 5.0, CALLER: 1.0})
    for name, targets in TARGETS.items():
        assert name in CASES
        assert all(target.of([sample], [sample]) > 0 for target in targets)
    for case in CASES.values():
        assert not case.peer or case.peer in case.ways
        assert all(column in (CPU, WALL) or sample.figure(column) for column in case.columns)


def test_the_command_runs_each_in_a_process_of_its_own_and_writes_its_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "samples.json"
    only = ["--only", "asyncio.Queue", "deque"]
    given = ["tell", "--rounds", "2", "--seconds", "0", "--size", "40", "--json", str(out), *only]
    assert bench.main(given) == 0
    samples = json.loads(out.read_text())["samples"]["tell"]
    assert set(samples) >= {"asyncio.Queue", "deque, one waiter"}
    assert [each["count"] for each in samples["deque, one waiter"]] == [40, 40]
    assert "x asyncio.Queue" in capsys.readouterr().out


def test_a_contestant_that_cannot_run_is_left_out_and_one_of_ours_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(case: str, way: str, seconds: float, size: int) -> Sample:
        if way == "nightfold":
            raise bench.RepetitionFailedError("it fell over")
        return Sample(size, 1.0, 1.0)

    monkeypatch.setattr(bench, "once", failing)
    absent = Way(CASES["tell"].ways["nightfold"].opened, needs=("no_such_package_anywhere",))
    ways = {"nightfold": CASES["tell"].ways["nightfold"], "asyncio.Queue": absent}
    monkeypatch.setattr(bench, "CASES", {"tell": Case("what", "unit", 1, ways)})
    assert bench.main(["--rounds", "1", "--size", "3"]) == 1
    said = capsys.readouterr().out
    assert "left out: it fell over" in said
    assert "no_such_package_anywhere is not installed" in said


def test_a_case_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["tel"])
    assert "no case is called tel" in capsys.readouterr().err


# How late the loop is.


def test_lateness_is_told_in_milliseconds() -> None:
    told = lateness_of([number / 1e3 for number in range(200)], start_max=0.5, slices=3)
    assert (told.beats, told.p50, told.p99, told.most) == (200, 100.0, 198.0, 199.0)
    assert (told.start_max, told.slices) == (500.0, 3)


async def test_a_bare_loop_beats() -> None:
    assert (await bare_loop(0.03)).beats >= 1


async def test_the_heartbeat_opens_its_window_after_so_many_slices_and_writes_what_it_saw(tmp_path: Path) -> None:
    out = tmp_path / "heartbeat.json"
    settings = HeartbeatSettings(str(out), after_slices=2, settle_seconds=0.0, window_seconds=0.03)
    progress = TrainingProgress("b", "n", 1, 2, 1, 1, None, 0.1, None, 1.0, 1.0)
    async with nightfold.running(Child("heartbeat", Heartbeat, settings=settings)) as system:
        await system.send(progress)
        await asyncio.sleep(0.05)
        assert not out.exists()
        await system.send(progress)
        await eventually(out.exists)
    told = msgspec.json.decode(out.read_bytes(), type=Lateness)
    assert told.beats >= 1
    assert told.slices == 0


@pytest.mark.parametrize(("p99", "most", "code"), [(9.0, 240.0, 0), (11.0, 20.0, 1), (2.0, 251.0, 1)])
def test_the_loops_lateness_is_held_against_its_target(p99: float, most: float, code: int) -> None:
    quiet = Lateness(1000, 0.1, 1.0, 2.0)
    late = msgspec.structs.replace(quiet, p99=p99, most=most)
    results = {way: [loop_lag.Pair(quiet, quiet)] for way in loop_lag.WAYS}
    results["training daemon"] = [loop_lag.Pair(late, quiet)]
    assert loop_lag.show(results) == code


def test_the_sleeper_and_the_loop_each_run_in_a_process_of_their_own() -> None:
    pair = loop_lag.bare(0.05)
    assert min(pair.loop.beats, pair.control.beats) >= 1


def test_a_daemon_that_ends_early_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "nightfold.toml").write_text("[no_such_section]\n")
    with pytest.raises(RuntimeError, match="no_such_section"):
        loop_lag.in_daemon(tmp_path, 0.1, 0.0, 0)
