"""A stop is orderly: last started first, what waits is handled or not as declared, and nothing outlives ``run``."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from messages import Message
from runtime import Actor, Backoff, Child, MailboxSpec, every, on
from runtime.worker import DeviceThread
from tests.runtime.scripted import (
    A,
    AskA,
    B,
    C,
    Deed,
    Scripted,
    ToA,
    ToB,
    asks,
    child,
    crash,
    eventually,
    running,
    sends,
    settle,
    state,
    system_of,
    until,
)


async def test_stopping_runs_backwards() -> None:
    log: list[str] = []
    async with running([child(A, log), child(B, log), child(C, log)]) as system:
        pass
    assert log == ["a:start", "b:start", "c:start", "c:stop", "b:stop", "a:stop"]
    assert [line.state for line in system.describe()] == ["stopped"] * 3
    assert system.stop_reason == "the test is over"


async def test_stopping_twice_is_stopping_once_and_the_first_reason_stands() -> None:
    log: list[str] = []
    async with running([child(A, log)]) as system:
        system.stop("first")
        system.stop("second")
    assert system.stop_reason == "first"
    assert log == ["a:start", "a:stop"]


@pytest.mark.parametrize(("drain", "handled"), [(True, ["a:1", "a:2"]), (False, [])])
async def test_what_waits_at_a_stop_is_handled_if_the_child_drains(drain: bool, handled: list[str]) -> None:
    log: list[str] = []
    gate = asyncio.Event()
    async with running([child(A, log, deeds={"wait": until(gate)}, drain=drain)]) as system:
        for what in ("wait", "1", "2"):
            await system.send(ToA(what))
        await settle()
        system.stop("now")
        await settle()
        gate.set()
    assert log == ["a:start", "a:wait", *handled, "a:stop"]
    dropped = [r.type for r in system.trace.since(0) if r.kind == "dropped"]
    assert dropped == ([] if drain else ["ToA", "ToA"])


async def test_a_busy_sender_does_not_keep_a_draining_actor_from_ending() -> None:
    async def send_for_ever(actor: Scripted) -> None:
        while not actor.system.stopping or state(actor.system, "b") != "stopped":
            await actor.send(ToB("more"))
            await asyncio.sleep(0)

    async def take_a_while(actor: Scripted) -> None:
        await asyncio.sleep(0.001)

    small = MailboxSpec(capacity=4)
    tree = [child(A, [], deeds={"go": send_for_ever}), child(B, [], deeds={"more": take_a_while}, mailbox=small)]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["b"].mailbox.full)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1.0


async def test_one_who_does_not_end_in_time_is_cancelled_and_the_others_still_stop_in_order() -> None:
    log: list[str] = []
    never = asyncio.Event()
    async with running([child(A, log), child(B, log, deeds={"hang": until(never)}, stop_within=0.02)]) as system:
        await system.send(ToB("hang"))
        await settle()
    assert log == ["a:start", "b:start", "b:hang", "a:stop"]
    assert [(note.message, note.why) for note in system.dead_letters] == [(ToB("hang"), "cancelled")]


async def test_a_stop_during_a_back_off_does_not_wait_for_it() -> None:
    slow = Backoff(first=30.0, most=30.0)
    log: list[str] = []
    async with running([child(A, log, deeds={"bad": crash}, backoff=slow)]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: state(system, "a") == "backing_off")
        await system.send(ToA("waits"))
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1.0
    assert log == ["a:start", "a:bad"]


async def test_a_stop_lets_go_of_those_who_wait_for_one_that_is_backing_off() -> None:
    slow = Backoff(first=30.0, most=30.0)
    tree = [
        child(A, [], deeds={"bad": crash}, backoff=slow),
        child(B, [], deeds={"ask": asks(AskA("x"), 30.0)}),
    ]
    async with running(tree) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: state(system, "a") == "backing_off")
        await system.send(ToB("ask"))
        await eventually(lambda: system.cells["b"].waiting_on == "a")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1.0


async def test_a_stop_during_the_start_starts_nothing_more() -> None:
    log: list[str] = []

    async def stop_it(actor: Scripted) -> None:
        actor.system.stop("changed my mind")

    system = system_of([child(A, log, deeds={"start": stop_it}), child(B, log)])
    await asyncio.wait_for(system.run(), 2.0)
    assert log == ["a:start", "a:stop"]


async def test_a_message_to_a_stopped_actor_is_noted_as_dropped() -> None:
    log: list[str] = []
    deeds: dict[str, Deed] = {"stop": sends(ToB("too late"))}
    async with running([child(A, log, deeds=deeds), child(B, log)]) as system:
        pass
    assert "b:too late" not in log
    assert [(r.type, r.recipient) for r in system.trace.since(0) if r.kind == "dropped"] == [("ToB", "b")]


class Busy(Actor):
    """Has a timer, a device thread and a blocking job."""

    @every(0.005)
    async def tick(self) -> None:
        await self.blocking(lambda: None)

    @on
    async def told(self, message: ToA) -> None:
        self.on_device(self._job)

    @on
    async def done(self, message: ToB) -> None: ...

    def _job(self) -> Message:
        while not self.device.interrupted():
            time.sleep(0.001)
        return ToB("interrupted")


async def test_no_task_and_no_thread_outlives_the_run() -> None:
    before = {thread for thread in threading.enumerate() if not thread.name.startswith("AnyIO")}
    async with running([Child("busy", Busy)], make_device=DeviceThread) as system:
        await system.send(ToA("go"))
        await asyncio.sleep(0.02)
        assert any(thread.name == "busy" for thread in threading.enumerate())
    assert len(asyncio.all_tasks()) == 1
    await eventually(lambda: not any(t.name == "busy" for t in set(threading.enumerate()) - before))


async def test_a_run_torn_down_from_outside_leaves_no_timer_and_no_thread_behind() -> None:
    system = system_of([Child("busy", Busy)], make_device=DeviceThread)
    task = asyncio.create_task(system.run())
    await eventually(lambda: state(system, "busy") == "running")
    await system.send(ToA("go"))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = system.trace.count
    await asyncio.sleep(0.02)
    assert [r.kind for r in system.trace.since(count)] in ([], ["device"]), "a timer still fires, or a result arrived"
    await eventually(lambda: not any(thread.name == "busy" for thread in threading.enumerate()))
