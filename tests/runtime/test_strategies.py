"""Who is restarted with whom, in what order, and that their mailboxes are kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runtime import Backoff, Branch
from tests.runtime.scripted import (
    A,
    AskA,
    AskB,
    AskC,
    B,
    BoomError,
    C,
    Deed,
    Scripted,
    ToA,
    ToB,
    ToC,
    asks,
    child,
    crash,
    crash_times,
    eventually,
    running,
    settle,
    state,
    until,
)


def tree(strategy: str, log: list[str], deeds: dict[str, Deed], **more: Any) -> Branch:
    three = (child(A, log, deeds=deeds, **more), child(B, log, deeds=deeds, **more), child(C, log, deeds=deeds, **more))
    return Branch("root", three, strategy=strategy)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strategy", "after_the_crash"),
    [
        ("one_for_one", ["b:start"]),
        ("one_for_all", ["c:stop", "a:stop", "a:start", "b:start", "c:start"]),
        ("rest_for_one", ["c:stop", "b:start", "c:start"]),
    ],
)
async def test_the_strategy_says_who_stops_and_starts_again_and_the_order_is_kept(
    strategy: str, after_the_crash: list[str]
) -> None:
    log: list[str] = []
    async with running(tree(strategy, log, {"bad": crash})) as system:
        log.clear()
        await system.send(ToB("bad"))
        await eventually(lambda: len(log) == 1 + len(after_the_crash))
        assert log == ["b:bad", *after_the_crash]
        await system.ask(AskC("x"), timeout=1.0)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_those_restarted_with_another_keep_what_waits_in_their_mailboxes(strategy: str) -> None:
    log: list[str] = []
    gate = asyncio.Event()
    async with running(tree(strategy, log, {"bad": crash, "wait": until(gate)})) as system:
        await system.send(ToC("wait"))
        await system.send(ToB("bad"))
        for what in ("1", "2"):
            await system.send(ToC(what))
        await eventually(lambda: state(system, "c") == "stopping")
        gate.set()
        await eventually(lambda: "c:2" in log)
        assert [note.message for note in system.dead_letters] == [ToB("bad")]
    c_log = [entry for entry in log if entry.startswith("c:")]
    assert c_log == ["c:start", "c:wait", "c:stop", "c:start", "c:1", "c:2", "c:stop"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("first", ["a", "b"])
async def test_two_that_crash_at_once_are_each_started_once_again(strategy: str, first: str) -> None:
    log: list[str] = []
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def crash_at_the_gate(actor: Scripted) -> None:
        await gates[actor.name].wait()
        raise BoomError

    async with running(tree(strategy, log, {"bad": crash_at_the_gate})) as system:
        await system.send(ToA("bad"))
        await system.send(ToB("bad"))
        await settle()
        log.clear()
        for name in (first, "b" if first == "a" else "a"):
            gates[name].set()
        await eventually(lambda: state(system, "a") == state(system, "c") == "running" and len(log) >= 4)
        await asyncio.sleep(0.02)
        assert sorted(entry for entry in log if entry.endswith("start")) == ["a:start", "b:start", "c:start"]
        assert [entry for entry in log if entry.endswith("start")] == ["a:start", "b:start", "c:start"]
        assert [system.cells[name].incarnation for name in "abc"] == [2, 2, 2]


async def test_one_that_crashes_while_it_is_stopped_for_another_is_started_once() -> None:
    log: list[str] = []
    async with running(tree("rest_for_one", log, {"bad": crash, "stop": crash_times(1)})) as system:
        await system.send(ToB("bad"))
        await eventually(lambda: system.cells["c"].incarnation == 2)
        await asyncio.sleep(0.02)
        assert system.cells["c"].incarnation == 2
        assert system.cells["b"].incarnation == 2


async def test_a_temporary_sibling_is_stopped_with_the_group_and_not_started_again() -> None:
    log: list[str] = []
    three = (child(A, log, deeds={"bad": crash}), child(B, log, restart="temporary"), child(C, log))
    async with running(Branch("root", three, strategy="one_for_all")) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["c"].incarnation == 2)
        assert state(system, "b") == "stopped"
        assert system.cells["b"].incarnation == 1


async def test_a_disabled_sibling_is_not_brought_back_by_the_group() -> None:
    deeds: dict[str, Deed] = {"bad": crash}
    three = (child(A, [], deeds=deeds), child(B, [], deeds=deeds, intensity=0), child(C, [], deeds=deeds))
    async with running(Branch("root", three, strategy="one_for_all", isolate=True)) as system:
        await system.send(ToB("bad"))
        await eventually(lambda: state(system, "b") == "disabled")
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["c"].incarnation == 2)
        await asyncio.sleep(0.01)
        assert system.cells["b"].incarnation == 1


async def test_a_branch_is_restarted_as_a_whole_with_the_one_before_it() -> None:
    log: list[str] = []
    inner = Branch("inner", (child(B, log), child(C, log)))
    async with running(Branch("root", (child(A, log, deeds={"bad": crash}), inner), strategy="rest_for_one")) as system:
        log.clear()
        await system.send(ToA("bad"))
        await eventually(lambda: len(log) == 6)
        assert log == ["a:bad", "c:stop", "b:stop", "a:start", "b:start", "c:start"]
        await system.send(ToB("x"))
        await system.ask(AskC("x"), timeout=1.0)


async def test_a_restarted_branch_does_not_bring_back_the_one_that_had_finished() -> None:
    async def leave(actor: Scripted) -> None:
        actor.finish()

    inner = Branch("inner", (child(B, [], deeds={"leave": leave}, restart="transient"), child(C, [])))
    root = Branch("root", (child(A, [], deeds={"bad": crash}), inner), strategy="rest_for_one")
    async with running(root) as system:
        await system.send(ToB("leave"))
        await eventually(lambda: state(system, "b") == "stopped")
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["c"].incarnation == 2)
        assert (state(system, "b"), system.cells["b"].incarnation) == ("stopped", 1)


async def test_a_restarted_branch_still_watches_its_children() -> None:
    log: list[str] = []
    deeds: dict[str, Deed] = {"bad": crash}
    inner = Branch("inner", (child(B, log, deeds=deeds),))
    async with running(Branch("root", (child(A, log, deeds=deeds), inner), strategy="one_for_all")) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["b"].incarnation == 2 and state(system, "b") == "running")
        await system.send(ToB("bad"))
        await system.ask(AskB("x"), timeout=1.0)
        assert system.cells["b"].incarnation == 3


async def test_a_stop_while_a_branch_waits_for_its_restart_settles_it_too() -> None:
    inner = Branch("inner", (child(B, []),))
    slow = Backoff(first=30.0, most=30.0)
    root = Branch("root", (child(A, [], deeds={"bad": crash}, backoff=slow), inner), strategy="rest_for_one")
    async with running(root) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: state(system, "b") == "backing_off")
        asked = asyncio.create_task(system.ask(AskB("x"), timeout=30.0))
        also = asyncio.create_task(system.ask(AskA("x"), timeout=30.0))
        await settle()
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1.0
    for task in (asked, also):
        assert "is stopped" in str(task.exception())
    assert state(system, "b") == "stopped"


async def test_a_restart_whose_on_start_asks_another_that_restarts_too_does_not_hold_that_up() -> None:
    log: list[str] = []
    late = Backoff(first=0.05, most=0.05)
    tree = [
        child(A, log, deeds={"first": crash_times(1)}, backoff=late),
        child(B, log, deeds={"start": asks(AskA("first"), timeout=30.0)}),
    ]
    async with running(tree) as system:
        await eventually(lambda: state(system, "b") == "running")
        assert (system.cells["a"].incarnation, system.cells["b"].incarnation) == (2, 2)
