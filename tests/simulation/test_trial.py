"""A trial of somebody else's actors: lives, weather, faults given back, and promises asked at every moment."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from messages import Message
from runtime import Actor, Branch, Child, durable, on
from runtime.cell import Cell
from runtime.disk import DiskPort
from runtime.hot.envelope import Envelope
from runtime.simulation.deliveries import DeliveriesKeepTheirOrder, NoMessageVanishes
from runtime.simulation.delivery import SeededDelivery
from runtime.simulation.life import ACTING, Life
from runtime.simulation.loop import latency
from runtime.simulation.strikes import Strike, read
from runtime.simulation.trial import Found, Moment, Trial, Violation
from runtime.simulation.weather import Climate
from runtime.trace import Record

COUNT = "count"
WANTED = 12


class CountUp(Message, frozen=True):
    """One more, of which the teller keeps the number: the same one twice counts once."""

    number: int


class Counter(Actor):
    """Keeps a number in a file."""

    write: Callable[[DiskPort, str, bytes], None] = staticmethod(durable.write_file)

    @on
    async def count(self, one: CountUp) -> None:
        await self.blocking(lambda: self._count(one.number))

    def _count(self, number: int) -> None:
        if number == counted(self.disk) + 1:
            self.write(self.disk, COUNT, str(number).encode())


class Careless(Counter):
    """The name is new before the content is durable."""

    @staticmethod
    def write(disk: DiskPort, path: str, data: bytes) -> None:
        handle = disk.create(f"{path}.new")
        disk.write(handle, data)
        disk.close(handle)
        disk.rename(f"{path}.new", path)
        disk.fsync_dir(".")


def counted(disk: DiskPort) -> int:
    return int(disk.read(COUNT)) if disk.stat(COUNT) is not None else 0


class NeverLess:
    """What was counted stays counted."""

    promise = "the count only grows"
    when: tuple[Moment, ...] = ("commit", "reboot", "end")

    def __init__(self) -> None:
        self.most = 0
        self.moments: list[str] = []

    def check(self, trial: Trial) -> None:
        self.moments.append(trial.moment)
        found = counted(trial.disk)
        if trial.moment != "commit" and found < self.most:
            raise Violation(f"it was {self.most} and is {found}")
        if trial.moment != "commit":
            self.most = found


async def people(life: Life) -> None:
    while (number := counted(life.disk)) < WANTED:
        await life.system.send(CountUp(number=number + 1))
        await life.sleep(60.0)


def trial(
    seed: int, actor: type[Counter] = Counter, faults: Sequence[Strike] | None = None, climate: Climate | None = None
) -> tuple[Trial, NeverLess]:
    checker = NeverLess()
    made = Trial(
        seed,
        lambda _: Branch("mine", (Child("counter", actor),)),
        people,
        seconds=3600.0,
        climate=climate or Climate(cut_after=20.0, io=0.02, crash=0.02, job=0.02, aims=(COUNT,)),
        checkers=(checker,),
        commit_path=COUNT,
        faults=faults,
    )
    return made, checker


def run(seed: int, actor: type[Counter] = Counter, faults: Sequence[Strike] | None = None) -> Found:
    return trial(seed, actor, faults)[0].run()


def test_a_sound_program_keeps_its_promise_in_any_weather() -> None:
    found = [run(seed) for seed in range(40)]
    assert [one.violation for one in found if one.violation] == []
    kinds = {strike.kind for one in found for strike in one.strikes}
    assert kinds >= {"cut", "kill", "io_error", "no_space", "short_write", "crash", "job_raises", "job_slow"}
    assert max(one.lives for one in found) > 3


def test_a_careless_program_is_found_out() -> None:
    broken = [one for one in (run(seed, Careless) for seed in range(40)) if one.violation]
    assert broken
    assert {one.promise for one in broken} <= {"the count only grows", "it holds", "the scenario"}


def test_the_recorded_faults_run_the_same_again() -> None:
    for seed in range(12):
        first = run(seed)
        again = run(seed, faults=first.strikes)
        assert (again.trace, again.strikes, again.lives) == (first.trace, first.strikes, first.lives)


def test_a_part_of_the_faults_runs_with_that_part_alone() -> None:
    first = next(one for one in map(run, range(40)) if len(one.strikes) > 2)
    part = first.strikes[:1]
    assert run(first.seed, faults=part).strikes == part
    assert run(first.seed, faults=()).strikes == ()


def test_a_list_of_faults_may_be_written_by_hand() -> None:
    found = run(3, faults=read("1.cut@4:lose_all 2.crash@counter,before,CountUp#1"))
    assert [(one.life, one.kind, one.point) for one in found.strikes] == [(1, "cut", 4), (2, "crash", 1)]
    assert str(found.strikes[0]) == "1.cut@rename,count#1:lose_all"
    assert found.strikes[1].where == "counter before CountUp"
    assert found.violation == ""


def test_a_checker_is_asked_after_each_commit_between_lives_and_at_the_end() -> None:
    made, checker = trial(5, faults=read("1.cut@9:keep_all"))
    made.run()
    assert checker.moments.count("commit") >= WANTED
    assert checker.moments.count("reboot") == made.lives - 1
    assert checker.moments[-1] == "end"


class Undisturbed:
    """Tells how it looks between lives."""

    promise = "none"
    when: tuple[Moment, ...] = ("reboot",)

    def __init__(self) -> None:
        self.found: list[tuple[str, bool]] = []

    def check(self, trial: Trial) -> None:
        self.found.append((trial.ending, trial.undisturbed_for(0.5)))


def test_what_a_power_cut_interrupted_is_wrong_until_the_power_is_back() -> None:
    seen = Undisturbed()
    tree = Branch("mine", (Child("counter", Counter),))
    assert not Trial(7, tree, people, faults=read("1.cut@9:keep_all"), checkers=(seen,)).run().violation
    assert seen.found == [("cut", False), ("stop", True)]


def test_crash_points_are_those_passed_and_those_reached() -> None:
    points = run(3, faults=read("1.cut@4:lose_all")).crash_points
    operations = ("create .*.tmp", "write .*.tmp", "fsync .*.tmp", "rename count", "fsync_dir .")
    assert points.passed >= set(operations)
    assert points.reached == {"rename count"}


def test_code_knows_whose_it_is_in_handlers_and_jobs() -> None:
    heard: list[str] = []

    class Says(Counter):
        def _count(self, number: int) -> None:
            heard.append(ACTING.get())
            super()._count(number)

    run(1, Says, ())
    assert set(heard) == {"counter"}


def test_a_broken_promise_in_the_middle_of_a_life_is_no_crash_of_its_actor() -> None:
    class Fussy(NeverLess):
        def check(self, trial: Trial) -> None:
            if trial.moment == "commit" and counted(trial.disk) == 5:
                raise Violation("five")

    checker = Fussy()
    found = Trial(
        1,
        lambda _: Branch("mine", (Child("counter", Counter),)),
        people,
        checkers=(checker,),
        commit_path=COUNT,
        faults=(),
    ).run()
    assert (found.promise, found.violation, found.lives) == ("the count only grows", "five", 1)


def test_a_supervisor_that_gives_up_without_weather_is_a_violation() -> None:
    class Poisoned(Counter):
        def _count(self, number: int) -> None:
            raise RuntimeError("always")

    found = run(1, Poisoned, ())
    assert found.promise == "it holds"
    assert "counter kept failing" in found.violation


def test_a_scenario_that_never_comes_through_is_a_violation() -> None:
    async def waits(life: Life) -> None:
        while True:
            await life.sleep(600.0)

    found = Trial(1, lambda _: Branch("mine", (Child("counter", Counter),)), waits, seconds=60.0, faults=()).run()
    assert found.promise == "it ends"


def test_a_stop_that_does_not_end_is_a_violation() -> None:
    class Stays(Counter):
        async def on_stop(self) -> None:
            while True:
                await asyncio.sleep(60.0)

    tree = Branch("mine", (Child("counter", Stays, stop_within=10_000.0),))
    found = Trial(1, tree, people, seconds=60.0, faults=()).run()
    assert found.promise == "it ends"
    assert found.violation.startswith("told to stop, it had not ended after 1800 s")


@pytest.mark.parametrize("kind", ["disk_full", "slow_disk"])
def test_what_comes_at_a_time_of_day_goes_again(kind: str) -> None:
    seen: list[float] = []

    async def looks(life: Life) -> None:
        for _ in range(4):
            await life.sleep(60.0)
            seen.append(life.disk.free_bytes() if kind == "disk_full" else life.workers.longest_seconds)

    strike = Strike(0, kind, 90, "7", 60.0)
    found = Trial(
        1, lambda _: Branch("mine", (Child("counter", Counter),)), looks, seconds=600.0, faults=[strike]
    ).run()
    before, during, *after = seen[:4]
    assert during == 7
    assert before == after[0] == after[1] != 7
    assert [(one.life, one.kind, one.point) for one in found.strikes] == [(1, kind, 90)]


def test_the_example_in_the_architecture_runs() -> None:
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Trial(seed" in block)
    source = "from __future__ import annotations\n" + example
    exec(compile(source, "ARCHITECTURE.md", "exec"), {"__name__": "counter_trial"})


def test_each_operation_is_told_with_its_actor_and_a_rename_is_aimed_at_by_either_name() -> None:
    heard: list[tuple[str, str, str]] = []

    class Listens:
        promise = "none"
        when: tuple[Moment, ...] = ("operation",)

        def check(self, trial: Trial) -> None:
            heard.append(trial.writing)

    climate = Climate(cut=100.0, cut_after=1e9, aims=(COUNT,), io=0.0, crash=0.0, job=0.0, device=0.0)
    for seed in range(12):
        made = Trial(seed, Branch("mine", (Child("counter", Counter),)), people, climate=climate, checkers=(Listens(),))
        cuts = [one for one in made.run().strikes if one.kind in ("cut", "kill")]
        if cuts:
            break
    assert cuts, "a rename from a hidden name to the one that is aimed at is passed like any other operation"
    assert {actor for actor, _, _ in heard} == {"counter"}
    assert {operation for _, operation, _ in heard} >= {"create", "write", "fsync", "rename", "fsync_dir"}


def with_promises_of_the_runtime(seed: int) -> Found:
    checkers = (DeliveriesKeepTheirOrder(), NoMessageVanishes())
    tree = Branch("mine", (Child("counter", Counter),))
    return Trial(seed, tree, hurried, checkers=checkers, faults=()).run()


async def hurried(life: Life) -> None:
    for number in range(40):
        await life.system.send(CountUp(number=number))
    await life.sleep(600.0)


def test_messages_keep_their_order_and_none_vanishes() -> None:
    assert with_promises_of_the_runtime(1).violation == ""


def test_messages_that_overtake_each_other_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def carry(self: SeededDelivery, cell: Cell, envelope: Envelope) -> None:
        self._loop.call_later(latency(self._stream, 1.0), cell.mailbox.arrive, envelope)

    monkeypatch.setattr(SeededDelivery, "carry", carry)
    found = with_promises_of_the_runtime(1)
    assert found.promise == "messages keep their order"
    assert "which was sent later" in found.violation


def test_a_message_that_nobody_ever_sees_again_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = SeededDelivery.carry

    def carry(self: SeededDelivery, cell: Cell, envelope: Envelope) -> None:
        if isinstance(envelope.message, CountUp) and envelope.message.number == 7:
            return
        carried(self, cell, envelope)

    monkeypatch.setattr(SeededDelivery, "carry", carry)
    found = with_promises_of_the_runtime(1)
    assert found.promise == "no message vanishes"
    assert "nothing tells what became of it" in found.violation


def test_an_order_is_judged_only_where_the_lanes_are_still_known() -> None:
    """The ring of a long life has let the sending of the oldest deliveries go; a control message may overtake work."""
    message = CountUp(number=1)
    work = Envelope(7, 0, "a", "b", message, 2.0)
    begun = [Record(n, 3.0 + n, "begun", number, 0, "a", "b", "M", 0, 0) for n, number in enumerate((7, 5))]
    trial: Any = SimpleNamespace(records=begun, deliveries=[work])
    DeliveriesKeepTheirOrder().check(trial)
    trial.deliveries = [Envelope(5, 0, "a", "b", message, 1.0), work]
    with pytest.raises(Violation, match="after delivery 7"):
        DeliveriesKeepTheirOrder().check(trial)
