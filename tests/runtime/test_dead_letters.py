"""What is not handled is told once or counted; a storm does not become a second one."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from messages import ActorStuck, BatchClaimed, Message, MessageDeadLettered
from runtime import Actor, Child, on
from runtime import system as system_module
from runtime.hot.envelope import Envelope
from tests.runtime.scripted import A, AskA, Scripted, ToA, UrgentA, child, crash, eventually, running, settle


class Listener(Actor):
    def __init__(self, heard: list[Message]) -> None:
        self.heard = heard

    @on
    async def news(self, message: MessageDeadLettered | ActorStuck) -> None:
        self.heard.append(message)


def listener(heard: list[Any]) -> Child:
    return Child("listener", Listener, make=lambda: Listener(heard))


async def test_a_dead_letter_keeps_message_reason_and_cause_chain() -> None:
    heard: list[Any] = []
    async with running([listener(heard), child(A, [], deeds={"bad": crash})]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: bool(heard))
        note = system.dead_letters[0]
        assert (note.actor, note.message, note.cause_chain) == ("a", ToA("bad"), ("ToA from outside to a",))
        assert "Traceback" in note.why
        assert "BoomError: a was told to" in note.why
        assert (heard[0].actor, heard[0].message_type, heard[0].count) == ("a", "ToA", 1)


async def test_a_storm_of_ten_thousand_is_told_a_few_times_and_counted_to_the_last() -> None:
    heard: list[Any] = []
    async with running([listener(heard), child(A, [])]) as system:
        for number in range(50):
            await system.send(UrgentA(str(number)))  # so that the trace is not empty
            await settle()
        cell = system.cells["a"]
        began = time.perf_counter()
        for number in range(10_000):
            system.dead_letter(cell, Envelope(0, 0, "test", "a", ToA(str(number)), 0.0), "storm")
        took = time.perf_counter() - began
        await settle()
        assert len(heard) == system_module.STORM_AFTER
        assert len(system.dead_letters) == 1000
        assert system.describe()[1].dead_letters == 10_000
    assert took < 5.0
    assert sum(told.count for told in heard) == 10_000, "what was held back is told at the latest at the stop"
    assert len(heard) == system_module.STORM_AFTER + 1


async def test_a_dead_letter_says_which_batch_it_was_about_until_it_is_one_of_a_storm() -> None:
    heard: list[Any] = []
    async with running([listener(heard), child(A, [])]) as system:
        for number in range(1, 9):
            claim = BatchClaimed(batch=f"{number:06d}", name="a.jsonl", path="state/batches/a.jsonl", size_bytes=1)
            system.dead_letter(system.cells["a"], Envelope(0, 0, "test", "a", claim, 0.0), "it crashed")
        await settle()
        assert [told.subject for told in heard] == ["000001", "000002", "000003", "000004", "000005"]
    assert [(told.subject, told.count) for told in heard[5:]] == [("", 3)]


async def test_a_storm_that_goes_on_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_module, "STORM_TOLD_EVERY_SECONDS", 0.03)
    monkeypatch.setattr(system_module, "STUCK_LOOK_SECONDS", 0.01)
    heard: list[Any] = []
    async with running([listener(heard), child(A, [])]) as system:
        for number in range(100):
            system.dead_letter(system.cells["a"], Envelope(number + 1, 0, "test", "a", ToA("x"), 0.0), "storm")
        await settle()
        assert len(heard) == system_module.STORM_AFTER
        await eventually(lambda: len(heard) == system_module.STORM_AFTER + 1)
        assert heard[-1].count == 95


class Deaf(Actor):
    @on
    async def news(self, message: MessageDeadLettered) -> None:
        raise ValueError("cannot bear it")


async def test_a_listener_that_crashes_over_dead_letters_does_not_make_more_of_them() -> None:
    async with running([Child("deaf", Deaf), child(A, [], deeds={"bad": crash})]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["deaf"].dead_letters == 1)
        await settle()
        assert len(system.dead_letters) == 2


async def test_an_ask_that_failed_is_no_dead_letter_for_its_asker_was_told() -> None:
    async with running([child(A, [], deeds={"bad": crash})]) as system:
        with pytest.raises(Exception, match="crashed over AskA"):
            await system.ask(AskA("bad"), timeout=1.0)
        assert system.dead_letters == []


async def test_a_handler_that_takes_very_long_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_module, "STUCK_LOOK_SECONDS", 0.005)
    heard: list[Any] = []

    async def hang(actor: Scripted) -> None:
        await eventually(lambda: len(heard) > 1 or actor.clock.monotonic() - began > 0.06)

    async with running([listener(heard), child(A, [], deeds={"hang": hang})], stuck_after_seconds=0.01) as system:
        began = system.clock.monotonic()
        await system.ask(AskA("hang"), timeout=1.0)
    assert [told.actor for told in heard] == ["a"]
    where, *frames = heard[0].stack.splitlines()
    assert where == "in AskA"
    assert any(frame.endswith("<locals>.hang") for frame in frames)
    assert any(frame.endswith("in eventually") for frame in frames), "down to where it waits"


async def test_a_device_job_that_takes_very_long_is_told_with_the_stack_it_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system_module, "STUCK_LOOK_SECONDS", 0.005)
    heard: list[Any] = []
    gate = threading.Event()

    async def work(actor: Scripted) -> None:
        def stand_still() -> ToA:
            gate.wait(3.0)
            return ToA("done")

        actor.on_device(stand_still)

    tree = [listener(heard), child(A, [], deeds={"go": work})]
    async with running(tree, stuck_after_seconds=0.01) as system:
        await system.send(ToA("go"))
        await eventually(lambda: bool(heard))
        gate.set()
    assert heard[0].stack.startswith("in a device job\n")
    assert "in stand_still" in heard[0].stack
