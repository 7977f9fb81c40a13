"""The simulated loop: virtual time, seeded order, and runs that end whatever the program does."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from runtime.clock import Clock
from runtime.simulation import (
    PowerLost,
    SimClock,
    SimDeadlock,
    SimDevice,
    SimDisk,
    SimEscape,
    SimHorizon,
    SimLivelock,
    SimLoop,
    SimWorkers,
    simulate,
)
from runtime.simulation.faults import PowerCut
from runtime.simulation.loop import SimTask
from runtime.worker import Device, DeviceBusyError, Workers


def test_a_private_detail_of_python_3_11_still_holds() -> None:
    """The loop finds a handle's task through ``_callback.__self__``; a Python that changes this must be re-verified."""
    seen: list[Any] = []
    loop = SimLoop()
    really = loop._run_once

    def watching() -> None:
        seen.extend(getattr(handle._callback, "__self__", None) for handle in loop._ready)
        really()

    loop._run_once = watching  # type: ignore[method-assign]

    async def waits() -> None:
        future = loop.create_future()
        loop.call_later(1, future.set_result, None)
        await future  # first step, then a wake-up

    loop.run(waits())
    tasks = [owner for owner in seen if type(owner) is SimTask]
    assert len(tasks) == 2, "a first step and a wake-up, both owned by the task"
    assert {"_run_once", "_timer_handle_cancelled", "_check_closed", "call_soon", "call_later"} <= set(
        dir(asyncio.BaseEventLoop)
    )
    # The loop makes its handles itself, and runs them.
    assert {*asyncio.Handle.__slots__, *asyncio.TimerHandle.__slots__} == {
        "_args",
        "_callback",
        "_cancelled",
        "_context",
        "_loop",
        "_repr",
        "_scheduled",
        "_source_traceback",
        "_when",
        "__weakref__",
    }


def test_time_begins_at_zero_and_jumps_by_assignment() -> None:
    async def main(loop: SimLoop) -> list[float]:
        times = [loop.time()]
        for _ in range(10):
            await anyio.sleep(0.1)
            times.append(loop.time())
        await anyio.sleep(12 * 3600)
        return [*times, anyio.current_time()]

    times = simulate(main)
    assert times[0] == 0.0
    assert times[3] == 0.1 + 0.1 + 0.1
    assert times[-1] == times[-2] + 43_200


def test_the_wall_clock_can_jump_and_timers_do_not_notice() -> None:
    async def main(loop: SimLoop) -> tuple[datetime, datetime, float, int]:
        clock: Clock = SimClock(loop, ZoneInfo("Europe/Berlin"))
        before = clock.now()
        loop.jump_wall_clock(-1800)
        await anyio.sleep(60)
        return before, clock.now(), clock.monotonic(), loop.wall_ns()

    before, after, monotonic, wall_ns = simulate(main, epoch=datetime(2026, 3, 29, 0, 59, tzinfo=UTC))
    assert before.isoformat() == "2026-03-29T01:59:00+01:00"
    assert after.isoformat() == "2026-03-29T01:30:00+01:00"
    assert monotonic == 60.0
    assert wall_ns == int(after.timestamp()) * 10**9


def test_spring_forward_shows_on_the_wall() -> None:
    async def main(loop: SimLoop) -> str:
        await anyio.sleep(60)
        return loop.wall(ZoneInfo("Europe/Berlin")).isoformat()

    assert simulate(main, epoch=datetime(2026, 3, 29, 0, 59, tzinfo=UTC)) == "2026-03-29T03:00:00+02:00"


def test_plain_callbacks_and_equal_timers_keep_their_order() -> None:
    async def main(loop: SimLoop) -> list[int]:
        order: list[int] = []
        for number in range(50):
            loop.call_soon(order.append, number)
        for number in range(50, 100):
            loop.call_later(1, order.append, number)
        await anyio.sleep(2)
        return order

    for seed in range(8):
        assert simulate(main, seed) == list(range(100))


def test_cancelled_timers_do_not_hold_time_or_memory() -> None:
    async def main(loop: SimLoop) -> tuple[float, int]:
        for number in range(1000):
            loop.call_later(number + 1, lambda: None).cancel()
        kept = len(loop._timers)
        await anyio.sleep(0.5)
        return loop.time(), kept

    now, kept = simulate(main)
    assert now == 0.5
    assert kept <= 201


async def _race(loop: SimLoop) -> int:
    """Three tasks add to a counter three times each, reading and writing it in different steps."""
    counter = 0

    async def adds() -> None:
        nonlocal counter
        for _ in range(3):
            seen = counter
            await asyncio.sleep(0)
            counter = seen + 1

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(adds)
    return counter


def test_different_seeds_find_different_interleavings() -> None:
    results = {simulate(_race, seed) for seed in range(200)}
    assert len(results) >= 4, f"the race always ends the same way: {results}"

    fingerprints = set()
    for seed in range(50):
        loop = SimLoop(seed)
        loop.run(_race(loop))
        fingerprints.add(loop.fingerprint())
    assert len(fingerprints) > 40


def test_nothing_to_run_and_no_timer_is_a_deadlock_that_names_who_waits() -> None:
    async def waits_for_ever() -> None:
        await anyio.Event().wait()

    async def main(loop: SimLoop) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(waits_for_ever, name="the sleeper")

    with pytest.raises(SimDeadlock, match=r"the sleeper waits in Event\.wait"):
        simulate(main)


def test_sleeping_for_ever_is_not_a_timer() -> None:
    async def main(loop: SimLoop) -> None:
        await anyio.sleep_forever()

    with pytest.raises(SimDeadlock):
        simulate(main)


def test_a_heartbeat_does_not_hide_a_goal_that_is_never_reached() -> None:
    async def main(loop: SimLoop) -> None:
        while True:
            await anyio.sleep(1)

    with pytest.raises(SimHorizon, match="3600 virtual seconds"):
        simulate(main, horizon=3600)


def test_spinning_without_time_is_a_livelock() -> None:
    loop = SimLoop(steps_per_instant=1000)

    async def spins() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimLivelock, match="1000 steps"):
        loop.run(spins())


@pytest.mark.parametrize("seed", range(12))
def test_cancellation_of_many_reaches_all_of_them(seed: int) -> None:
    """Every swarm mode must let anyio's self-posting cancellation through (an unfair order starves it)."""

    async def main(loop: SimLoop) -> int:
        ended = 0

        async def works() -> None:
            nonlocal ended
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.25)
                ended += 1

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(works)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        return ended

    assert simulate(main, seed) == 50


def test_a_task_is_passed_over_a_bounded_number_of_times() -> None:
    """Chance alone has no bound: one task waits for ever some day, and no time-out can tell, for time stands still."""
    loop = SimLoop(steps_per_instant=10_000)
    loop._slip_one_in, loop._slip_most = 1, 5  # passed over whenever it may be

    async def main() -> int:
        longest = 0

        async def spins() -> None:
            nonlocal longest
            for _ in range(10):
                before = loop._rounds
                await asyncio.sleep(0)
                longest = max(longest, loop._rounds - before)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(spins)
        return longest

    assert loop.run(main()) == 6


def test_anyio_time_outs_run_on_virtual_time() -> None:
    async def main(loop: SimLoop) -> tuple[bool, float]:
        with anyio.move_on_after(5) as scope:
            await anyio.sleep(3600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await loop.create_future()
        return scope.cancelled_caught, loop.time()

    assert simulate(main) == (True, 12.0)


def test_a_halt_runs_nothing_more() -> None:
    ran: list[str] = []
    loop = SimLoop()
    disk_is_frozen = False
    seen_frozen: list[bool] = []

    async def victim() -> None:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            ran.append("cancelled")
            raise
        finally:
            seen_frozen.append(disk_is_frozen)

    def freeze() -> None:
        nonlocal disk_is_frozen
        disk_is_frozen = True

    def cut() -> None:
        loop.halt(PowerLost("now"))
        loop.call_soon(ran.append, "after the cut")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(victim)
            await anyio.sleep(1)
            loop.call_soon(cut)
            loop.call_soon(ran.append, "same round")
            await anyio.sleep(1)
            ran.append("main went on")

    loop.at_end(freeze)
    with pytest.raises(PowerLost):
        loop.run(main())
    assert ran == []
    assert seen_frozen == [True], "what Python runs on throwing a coroutine away comes after the freeze"


def test_a_power_cut_in_a_task_stops_the_loop_too() -> None:
    went_on: list[int] = []
    loop = SimLoop()
    disk = SimDisk(loop.wall_ns)
    disk.on_power_cut = loop.halt
    disk.faults = lambda number, operation, path: PowerCut() if number == 3 else None

    async def other() -> None:
        while True:
            await asyncio.sleep(0)
            if disk.operations >= 3:
                went_on.append(1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            for number in range(5):
                disk.mkdir(str(number))
                await asyncio.sleep(0)

    with pytest.raises(PowerLost):
        loop.run(main())
    assert went_on == []
    assert disk.operations == 3


def test_halted_and_deadlocked_loops_leave_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(1)
            await anyio.sleep(1)

    async def fails() -> None:
        raise ValueError("nobody asked")

    for ending in ("halt", "deadlock"):
        loop = SimLoop()

        async def main(loop: SimLoop = loop, ending: str = ending) -> None:
            tasks = [loop.create_task(stubborn()), loop.create_task(fails())]
            await anyio.sleep(1)
            if ending == "halt":
                loop.halt(PowerLost("now"))
            await anyio.Event().wait()
            tasks.clear()

        with pytest.raises((PowerLost, SimDeadlock)):
            loop.run(main())
        del loop
        gc.collect()
    assert caplog.records == []


def test_tasks_left_behind_by_a_clean_end_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main(loop: SimLoop) -> None:
        loop.create_task(anyio.sleep(5), name="forgotten")
        await anyio.sleep(1)

    simulate(main)
    gc.collect()
    assert "Task was destroyed but it is pending" in caplog.text
    assert "forgotten" in caplog.text


def test_a_callback_that_raises_fails_the_run() -> None:
    def breaks() -> None:
        raise KeyError("told")

    async def main(loop: SimLoop) -> None:
        loop.call_later(1, breaks)
        await anyio.sleep(3600)

    with pytest.raises(KeyError, match="told"):
        simulate(main)


def test_the_executor_is_the_loop_itself_and_takes_virtual_time() -> None:
    async def main(loop: SimLoop) -> tuple[int, float, int]:
        thread = await loop.run_in_executor(None, threading.get_ident)
        value = await asyncio.to_thread(lambda: 7)
        return thread, loop.time(), value

    thread, now, value = simulate(main)
    assert thread == threading.get_ident()
    assert now > 0
    assert now * 1024 == int(now * 1024), "dyadic, so that sums are exact"
    assert value == 7


def test_a_real_thread_is_an_escape() -> None:
    loop = SimLoop()
    raised: list[BaseException] = []

    def outside() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except SimEscape as escape:
            raised.append(escape)

    async def main() -> None:
        thread = threading.Thread(target=outside, name="runaway")
        thread.start()
        thread.join()
        await anyio.sleep(1)

    with pytest.raises(SimEscape, match="runaway"):
        loop.run(main())
    assert len(raised) == 1


def test_streams_of_chance_are_named_and_independent() -> None:
    one, two, other = SimLoop(5), SimLoop(5), SimLoop(6)
    one.random("noise").random()
    drawn = [one.random("mine").random() for _ in range(3)]
    assert drawn == [two.random("mine").random() for _ in range(3)]
    assert drawn != [other.random("mine").random() for _ in range(3)]
    for loop in (one, two, other):
        loop.close()


def test_tasks_are_numbered_by_their_loop() -> None:
    async def main(loop: SimLoop) -> str:
        return loop.create_task(anyio.sleep(0)).get_name()

    assert {simulate(main) for _ in range(3)} == {"task-2"}


def test_a_signal_is_delivered_by_the_simulation() -> None:
    async def main(loop: SimLoop) -> int:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            loop.call_later(5, loop.deliver_signal, signal.SIGTERM)
            async for number in signals:
                return int(number)
        return 0

    assert simulate(main) == signal.SIGTERM


def test_notes_are_part_of_the_fingerprint() -> None:
    prints = set()
    for text in ("a", "b"):
        loop = SimLoop()
        loop.note(text)
        loop.run(anyio.sleep(1))
        prints.add(loop.fingerprint())
    assert len(prints) == 2


def test_workers_run_a_job_whole_and_hand_its_error_back() -> None:
    async def main(loop: SimLoop) -> list[str]:
        workers: Workers = SimWorkers(loop)
        told = []
        told.append(await workers.call(lambda: "done"))
        try:
            await workers.call([].pop)
        except IndexError as error:
            told.append(str(error))
        return told

    assert simulate(main) == ["done", "pop from empty list"]


def test_cancelling_a_scope_waits_until_the_job_is_over() -> None:
    async def main(loop: SimLoop) -> list[str]:
        workers = SimWorkers(loop, longest_seconds=4)
        order: list[str] = []
        with anyio.CancelScope() as scope:
            loop.call_later(1 / 4096, scope.cancel)
            await workers.call(lambda: order.append("job"))
        order.append("left")
        await anyio.sleep(5)
        return order

    for seed in range(10):
        assert simulate(main, seed) == ["job", "left"]


def test_cancelling_the_task_waits_until_the_job_is_over_too() -> None:
    async def main(loop: SimLoop) -> list[str]:
        order: list[str] = []
        workers = SimWorkers(loop)

        async def work() -> None:
            try:
                await workers.call(lambda: order.append("job"))
            finally:
                order.append("left")

        task = loop.create_task(work())
        await anyio.sleep(1 / 4096)
        task.cancel()
        task.cancel()
        await anyio.sleep(1)
        assert task.cancelled()
        return order

    for seed in range(10):
        assert simulate(main, seed) == ["job", "left"]


def test_whoever_is_cancelled_in_the_queue_for_a_thread_leaves_at_once_and_its_job_is_not_done() -> None:
    async def main(loop: SimLoop) -> list[str]:
        order: list[str] = []
        workers = SimWorkers(loop, threads=1, longest_seconds=4)
        tasks = []
        for number in "123":
            tasks.append(loop.create_task(workers.call(lambda number=number: order.append(number))))  # type: ignore[misc]
            await anyio.sleep(1 / 8192)
        tasks[1].cancel()
        await anyio.sleep(1 / 8192)
        assert tasks[1].cancelled()
        await anyio.sleep(9)
        return order

    for seed in range(10):
        assert simulate(main, seed) == ["1", "3"]


@pytest.mark.parametrize("place", ["workers", "device", "executor"])
def test_power_lost_in_a_job_stops_everything(place: str) -> None:
    went_on: list[str] = []
    loop = SimLoop()
    # A program may have a handler of its own for callbacks that raise; the power goes all the same.
    loop.set_exception_handler(lambda loop, context: None)

    def job() -> None:
        raise PowerLost("in the job")

    async def main() -> None:
        try:
            if place == "workers":
                await SimWorkers(loop).call(job)
            elif place == "executor":
                await loop.run_in_executor(None, job)
            else:
                device = SimDevice(loop)
                device.start(job, lambda _: went_on.append("done"))
                await device.join()
        finally:
            went_on.append("finally")

    # What Python runs on throwing the coroutine away comes after the end, where nothing it does counts.
    at_the_end: list[list[str]] = []
    loop.at_end(lambda: at_the_end.append(list(went_on)))
    with pytest.raises(PowerLost):
        loop.run(main())
    assert at_the_end == [[]]


def test_the_device_has_one_slot_and_a_flag() -> None:
    async def main(loop: SimLoop) -> list[Any]:
        device = SimDevice(loop)
        port: Device = device  # what the runtime is written against
        assert port.busy_seconds == 0.0
        told: list[Any] = []
        device.interrupt()
        device.start(device.interrupted, told.append)
        states = [device.busy]
        with pytest.raises(DeviceBusyError):
            device.start(device.interrupted, told.append)
        await device.join()
        states.append(device.busy)
        assert states == [True, False]
        device.start(device.interrupted, told.append)
        device.interrupt()
        await anyio.sleep(1 / 2048)
        assert device.busy_seconds == 1 / 2048
        await device.join()
        device.start(set[int]().pop, told.append)
        await device.join()
        return told

    told = simulate(main)
    assert told[:2] == [False, True]
    assert isinstance(told[2], KeyError)
    assert told[2].__traceback__ is None


def test_the_result_or_the_error_of_main_comes_out() -> None:
    async def fails(loop: SimLoop) -> None:
        await anyio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        simulate(fails)
    assert gc.isenabled()
