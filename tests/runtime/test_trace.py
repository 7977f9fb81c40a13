"""One record for each edge; causes lead back to what began it all; ``describe`` tells what is going on."""

from __future__ import annotations

import asyncio

from runtime import AskFailed
from runtime.trace import Trace
from tests.runtime.scripted import (
    A,
    AskA,
    AskB,
    B,
    C,
    ToA,
    ToB,
    ToC,
    asks,
    child,
    crash,
    eventually,
    running,
    sends,
    settle,
    until,
)


async def test_every_edge_of_a_conversation_is_recorded_in_order() -> None:
    tree = [child(A, [], deeds={"go": asks(AskB("x"))}), child(B, [])]
    async with running(tree) as system:
        before = system.trace.count
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].handled == 1)
        edges = [(r.kind, r.sender, r.recipient, r.type) for r in system.trace.since(before)]
    assert edges == [
        ("sent", "outside", "a", "ToA"),
        ("begun", "outside", "a", "ToA"),
        ("sent", "a", "b", "AskB"),
        ("begun", "a", "b", "AskB"),
        ("done", "a", "b", "AskB"),
        ("replied", "b", "a", "Answer"),
        ("done", "outside", "a", "ToA"),
    ]


async def test_an_ask_that_failed_is_recorded_as_failed() -> None:
    async with running([child(A, [], deeds={"bad": crash})]) as system:
        before = system.trace.count
        try:
            await system.ask(AskA("bad"), timeout=1.0)
        except AskFailed:
            kinds = [r.kind for r in system.trace.since(before)]
    assert kinds[:5] == ["sent", "begun", "crashed", "dead", "failed"]


async def test_the_cause_chain_leads_back_to_the_beginning() -> None:
    tree = [
        child(A, [], deeds={"go": sends(ToB("on"))}),
        child(B, [], deeds={"on": sends(ToC("end"))}),
        child(C, []),
    ]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["c"].handled == 1)
        last = next(r for r in system.trace.since(0) if r.kind == "sent" and r.type == "ToC")
        assert system.trace.cause_chain(last.id) == (
            "ToC from b to c",
            "ToB from a to b",
            "ToA from outside to a",
        )
        assert system.trace.cause_chain(last.id, limit=2) == ("ToC from b to c", "ToB from a to b")
        assert last.body == ToC("end")


def test_the_ring_forgets_the_oldest_and_a_reader_sees_each_record_once() -> None:
    trace = Trace(capacity=3)
    for number in range(1, 6):
        trace.add(0.0, "sent", number, number - 1, "a", "b", "T")
    assert [r.number for r in trace.since(0)] == [3, 4, 5]
    assert [r.number for r in trace.since(4)] == [5]
    assert trace.since(5) == []
    assert trace.cause_chain(5) == ("T from a to b",) * 3, "a chain ends where the ring does"
    assert trace.cause_chain(1) == ()


async def test_describe_tells_what_each_actor_is_at() -> None:
    gate = asyncio.Event()
    tree = [child(A, [], deeds={"wait": until(gate), "bad": crash}), child(B, [])]
    async with running(tree) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        for what in ("x", "wait", "1", "2"):
            await system.send(ToA(what))
        await settle()
        await asyncio.sleep(0.005)
        first, second = system.describe()
        gate.set()
    assert (first.name, first.state, first.incarnation, first.restarts) == ("a", "running", 2, 1)
    assert (first.depth, first.capacity, first.handled, first.dead_letters) == (2, 256, 1, 1)
    assert (first.in_hand, first.last_message) == ("ToA", "ToA")
    assert first.in_hand_s >= 0.005
    assert first.oldest_waiting_s >= 0.005
    assert 0 < first.busy_share <= 1
    assert (second.state, second.in_hand, second.depth, second.busy_share) == ("running", "", 0, 0.0)
