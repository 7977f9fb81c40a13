"""A device is a thread with one job at a time that can be asked, never killed; blocking jobs are always whole."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from messages import Message
from runtime import Actor, Child, on
from runtime.worker import DeviceBusyError, DeviceThread, run_job
from tests.runtime.scripted import (
    QUICK,
    A,
    BoomError,
    Scripted,
    ToA,
    ToB,
    ToC,
    child,
    eventually,
    failure_of,
    running,
    settle,
)


class Driver(Actor):
    """Runs a job for each ``ToA``; its results are ``ToB``."""

    def __init__(self, log: list[str], gate: threading.Event) -> None:
        self.log, self.gate = log, gate

    @on
    async def told(self, message: ToA) -> None:
        self.on_device(lambda: self._job(message.what))

    def _job(self, what: str) -> Message:
        if what == "raise":
            int("not a number")
        if what == "wait":
            self.gate.wait(3.0)
        if what == "until interrupted":
            while not self.device.interrupted():
                time.sleep(0.001)
        return ToB(f"result of {what}")

    @on
    async def result(self, message: ToB) -> None:
        self.log.append(message.what)

    @on
    async def crash(self, message: ToC) -> None:
        if message.what == "crash":
            raise BoomError
        self.log.append(str(await self.device_call(lambda: threading.current_thread().name)))


def driver(log: list[str], gate: threading.Event | None = None) -> Child:
    held = gate or threading.Event()
    return Child("driver", Driver, make=lambda: Driver(log, held), backoff=QUICK)


async def test_a_device_result_arrives_as_a_message_with_its_cause() -> None:
    log: list[str] = []
    async with running([driver(log)]) as system:
        await system.send(ToA("x"))
        await eventually(lambda: log == ["result of x"])
        records = system.trace.since(0)
        result = next(r for r in records if r.kind == "sent" and r.type == "ToB")
        assert system.trace.cause_chain(result.id) == ("ToB from driver to driver", "ToA from outside to driver")
        assert any(r.kind == "device" and r.cause == result.cause for r in records)


async def test_an_exception_on_the_device_crashes_the_actor_with_the_jobs_traceback() -> None:
    log: list[str] = []
    async with running([driver(log)]) as system:
        await system.send(ToA("raise"))
        await eventually(lambda: system.cells["driver"].incarnation == 2)
        why = system.dead_letters[0].why
        assert "ValueError: invalid literal for int()" in why
        assert "in _job" in why, "the traceback of the device's own thread is told"
        assert 'File "runtime/worker.py", line' in why, "named from where the packages lie: the same text everywhere"


async def test_a_result_for_an_instance_that_is_gone_is_dropped() -> None:
    log: list[str] = []
    gate = threading.Event()
    async with running([driver(log, gate)]) as system:
        await system.send(ToA("wait"))
        await system.send(ToC("crash"))
        await eventually(lambda: system.cells["driver"].state == "backing_off")
        gate.set()
        await eventually(lambda: system.cells["driver"].state == "running")
        await system.send(ToA("x"))
        await eventually(lambda: bool(log))
    assert log == ["result of x"]


async def test_a_result_that_waited_when_its_instance_died_is_dropped_too() -> None:
    log: list[str] = []
    async with running([driver(log)]) as system:
        cell = system.cells["driver"]
        await system.send(ToC("crash"))
        system.put(cell, "driver", 0, ToB("old result"), incarnation=cell.incarnation)
        system.put(cell, "driver", 0, ToB("anybody's"))
        await eventually(lambda: bool(log))
    assert log == ["anybody's"]


async def test_the_next_incarnation_begins_when_the_device_is_quiet() -> None:
    log: list[str] = []
    async with running([driver(log)]) as system:
        await system.send(ToA("until interrupted"))
        await system.send(ToC("crash"))
        await eventually(lambda: system.cells["driver"].state == "running" and system.cells["driver"].incarnation == 2)
        assert system.cells["driver"].device_busy_seconds == 0.0
        await system.send(ToC("which thread"))
        await eventually(lambda: log == ["driver"])


async def test_a_device_that_never_comes_to_rest_is_a_crash_that_escalates_and_not_a_hang() -> None:
    gate = threading.Event()
    log: list[str] = []
    tree = [
        Child("driver", Driver, make=lambda: Driver(log, gate), backoff=QUICK, start_within=0.01, stop_within=0.05,
              intensity=2)
    ]  # fmt: skip
    failure = await failure_of(tree, ToA("wait"), ToC("crash"))
    assert "the device job of the instance before did not end" in str(failure)
    gate.set()


async def test_device_call_returns_or_raises_what_the_job_did() -> None:
    caught: list[str] = []

    async def call(actor: Scripted) -> None:
        assert await actor.device_call(lambda: 7) == 7
        try:
            await actor.device_call(lambda: int("x"))
        except ValueError as error:
            caught.append(str(error))

    async with running([child(A, [], deeds={"go": call})]) as system:
        await system.send(ToA("go"))
        await eventually(lambda: bool(caught))


async def test_a_second_job_while_one_is_in_hand_is_refused() -> None:
    device = DeviceThread("device")
    gate = threading.Event()
    device.start(gate.wait, lambda result: None)
    with pytest.raises(DeviceBusyError):
        device.start(gate.wait, lambda result: None)
    assert device.busy_seconds >= 0.0
    gate.set()
    await device.join()
    assert device.busy_seconds == 0.0
    device.close()


async def test_interrupt_is_seen_by_the_job_in_hand_and_cleared_for_the_next() -> None:
    device = DeviceThread("device")
    results: list[Any] = []

    def work() -> str:
        while not device.interrupted():
            time.sleep(0.001)
        return "asked to return"

    device.start(work, results.append)
    device.interrupt()
    await asyncio.wait_for(device.join(), 2.0)
    await settle()
    device.start(device.interrupted, results.append)
    await device.join()
    await settle()
    assert results == ["asked to return", False]
    device.close()


async def test_a_closed_device_ends_its_thread_after_the_job_in_hand_and_takes_no_more() -> None:
    device = DeviceThread("a device to close")
    results: list[Any] = []
    gate = threading.Event()
    device.start(lambda: gate.wait(3.0), results.append)
    device.close()
    device.close()
    gate.set()
    await device.join()
    await settle()
    assert results == [True]
    await eventually(lambda: not any(t.name == "a device to close" for t in threading.enumerate()))
    with pytest.raises(DeviceBusyError, match="closed"):
        device.start(lambda: None, results.append)


def test_a_jobs_exception_keeps_its_text_and_lets_its_frames_go() -> None:
    def work() -> None:
        try:
            int("first")
        except ValueError as error:
            raise BoomError("second") from error

    error = run_job(work)
    assert isinstance(error, BoomError)
    assert error.__traceback__ is None
    assert error.__cause__ is None
    assert error.__context__ is None
    assert "first" in error.__notes__[0]
    assert "in work" in error.__notes__[0]


async def test_a_blocking_job_is_waited_for_when_its_actor_is_cancelled() -> None:
    done: list[str] = []

    def whole() -> None:
        time.sleep(0.05)
        done.append("whole")

    async def block(actor: Scripted) -> None:
        await actor.blocking(whole)
        done.append("not reached")

    async with running([child(A, [], deeds={"go": block}, stop_within=0.01)]) as system:
        await system.send(ToA("go"))
        await asyncio.sleep(0.01)
    assert done == ["whole"]


async def test_the_trace_keeps_small_results_of_jobs_and_only_a_word_about_large_ones() -> None:
    async def block(actor: Scripted) -> None:
        await actor.blocking(lambda: {"name": 1, "path": ["a"]})
        await actor.blocking(lambda: {"weights": bytes(1 << 20)})
        await actor.blocking(threading.Lock)

    async with running([child(A, [], deeds={"go": block})]) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].desk.handled == 1)
        bodies = [r.body for r in system.trace.since(0) if r.kind == "job"]
    assert bodies == [{"name": 1, "path": ["a"]}, "dict, not kept", "lock, not kept"]
