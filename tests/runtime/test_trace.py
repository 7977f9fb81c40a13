"""One record for each edge; causes lead back to what began it all; ``describe`` tells what is going on."""

from __future__ import annotations

import asyncio

from runtime import AskFailed
from runtime.hot.envelope import Envelope, Turn
from runtime.trace import Record, Trace
from runtime.trace_files import decode, encode
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
        await eventually(lambda: system.cells["a"].desk.handled == 1)
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
        await eventually(lambda: system.cells["c"].desk.handled == 1)
        last = next(r for r in system.trace.since(0) if r.kind == "sent" and r.type == "ToC")
        assert system.trace.cause_chain(last.id) == (
            "ToC from b to c",
            "ToB from a to b",
            "ToA from outside to a",
        )
        assert system.trace.cause_chain(last.id, limit=2) == ("ToC from b to c", "ToB from a to b")
        assert last.body == ToC("end")


def test_the_ring_forgets_the_oldest_and_a_reader_sees_each_record_once() -> None:
    trace = Trace(capacity=4)
    sent = [Envelope(number, number - 1, "a", "b", ToA(str(number)), float(number)) for number in range(1, 6)]
    for envelope in sent:
        trace.ring.entries.append(envelope)
    first = trace.since(0)
    assert [(r.kind, r.id, r.at) for r in first] == [("sent", n, float(n)) for n in (2, 3, 4, 5)]
    assert trace.since(first[-1].number) == []
    trace.ring.entries.append(Turn(6.0, None, sent[3]))
    trace.ring.entries.append(Turn(7.0, sent[3], sent[4]))
    trace.ring.doubles += 1
    fresh = trace.since(first[-1].number)
    assert [(r.kind, r.id, r.at) for r in fresh] == [("begun", 4, 6.0), ("done", 4, 7.0), ("begun", 5, 7.0)]
    assert [(r.kind, r.id) for r in trace.since(fresh[-2].number)] == [("begun", 5)], "in the middle of an entry, too"
    assert [r.number for r in first + fresh] == [2, 3, 4, 5, 6, 7, 8], "none is left out"
    assert trace.count == 8
    assert trace.since(trace.count) == []
    assert trace.cause_chain(5) == ("ToA from a to b", "ToA from a to b"), "a chain ends where the ring does"
    assert trace.cause_chain(1) == ()


def test_the_ring_is_cut_back_before_it_has_grown_by_more_than_a_quarter() -> None:
    trace = Trace(capacity=8)
    for number in range(100):
        trace.add(0.0, "clock", 0, 0, "a", "b", str(number))
        assert len(trace.ring.entries) <= 10
    assert [r.type for r in trace.since(0)] == [str(number) for number in range(92, 100)]


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


def test_f7_a_name_that_is_no_text_costs_its_record_the_body_and_the_trace_nothing() -> None:
    bodies = ["before", ("caf\udce9.jsonl",), "after"]
    records = [Record(n, 1.0, "job", n, n, "a", "a", "tuple", 0, 0, body) for n, body in enumerate(bodies, 1)]
    assert [(record.number, record.body.value) for record in decode(encode(records))] == [
        (1, "before"),
        (2, "tuple, not kept"),
        (3, "after"),
    ]
