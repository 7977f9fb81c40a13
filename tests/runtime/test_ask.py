"""An ask ends: with the answer, with why there is none, or at its time-out. Nobody waits in a circle."""

from __future__ import annotations

import asyncio

import pytest

from runtime import AskFailed, AskTimeout, Branch, MailboxSpec, Retry
from runtime.cell import Cell
from runtime.hot.envelope import Envelope
from tests.runtime.scripted import (
    A,
    Answer,
    AskA,
    AskB,
    AskC,
    B,
    C,
    Deed,
    Scripted,
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
    state,
    until,
)


async def test_an_ask_returns_the_answer() -> None:
    async with running([child(A, [])]) as system:
        assert await system.ask(AskA("x"), timeout=1.0) == Answer("x")


async def test_an_ask_of_nobody_fails_at_once() -> None:
    async with running([child(A, [])]) as system:
        with pytest.raises(AskFailed, match="answered by nobody"):
            await system.ask(AskB("x"), timeout=1.0)


async def test_an_ask_ends_at_its_time_out_and_the_late_answer_harms_nobody() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    async with running([child(A, log, deeds={"slow": until(gate)})]) as system:
        with pytest.raises(AskTimeout, match=r"a did not answer AskA within 0\.01 s"):
            await system.ask(AskA("slow"), timeout=0.01)
        gate.set()
        await settle()
        assert await system.ask(AskA("x"), timeout=1.0) == Answer("x")
        assert system.cells["a"].incarnation == 1
        assert system.dead_letters == []


async def test_an_ask_fails_at_once_with_the_reason_when_the_answerer_crashes_over_it() -> None:
    async with running([child(A, [], deeds={"bad": crash})]) as system:
        began = asyncio.get_running_loop().time()
        with pytest.raises(AskFailed, match=r"a crashed over AskA: .*BoomError: a was told to"):
            await system.ask(AskA("bad"), timeout=30.0)
        assert asyncio.get_running_loop().time() - began < 1.0


async def test_a_question_that_waits_is_answered_by_the_next_incarnation() -> None:
    async with running([child(A, [], deeds={"bad": crash})]) as system:
        await system.send(ToA("bad"))
        assert await system.ask(AskA("x"), timeout=2.0) == Answer("x")
        assert system.cells["a"].incarnation == 2


async def test_a_question_is_never_handled_twice() -> None:
    log: list[str] = []
    async with running([child(A, log, deeds={"bad": crash}, on_crash=Retry(3))]) as system:
        with pytest.raises(AskFailed):
            await system.ask(AskA("bad"), timeout=2.0)
        await eventually(lambda: system.cells["a"].incarnation == 2)
    assert log.count("a:bad") == 1


async def test_an_ask_of_a_stopped_actor_fails_at_once() -> None:
    async def leave(actor: Scripted) -> None:
        actor.finish()

    async with running([child(A, [], deeds={"leave": leave}, restart="temporary")]) as system:
        await system.send(ToA("leave"))
        await eventually(lambda: state(system, "a") == "stopped")
        with pytest.raises(AskFailed, match="a is stopped"):
            await system.ask(AskA("x"), timeout=30.0)


async def test_an_ask_of_a_disabled_actor_fails_at_once_and_so_does_one_that_waited() -> None:
    tree = Branch("root", (child(A, [], deeds={"bad": crash}, intensity=0),), isolate=True)
    async with running(tree) as system:
        await system.send(ToA("bad"))
        with pytest.raises(AskFailed, match="a is disabled"):
            await system.ask(AskA("x"), timeout=30.0)
        with pytest.raises(AskFailed, match="a is disabled"):
            await system.ask(AskA("x"), timeout=30.0)


async def test_an_ask_that_waits_when_the_answerer_stops_fails() -> None:
    gate = asyncio.Event()
    async with running([child(A, [], deeds={"slow": until(gate)}, drain=False)]) as system:
        await system.send(ToA("slow"))
        asked = asyncio.create_task(system.ask(AskA("x"), timeout=30.0))
        await settle()
        system.stop("now")
        await settle()
        gate.set()
        with pytest.raises(AskFailed, match="a is stopped"):
            await asked


class SlowDelivery:
    """Each message takes a while, as in the simulation."""

    def carry(self, cell: Cell, envelope: Envelope) -> None:
        asyncio.get_running_loop().call_later(0.02, cell.mailbox.arrive, envelope)


async def test_an_ask_that_is_on_its_way_when_the_answerer_ends_fails_too() -> None:
    async def leave(actor: Scripted) -> None:
        actor.finish()

    async with running([child(A, [], deeds={"start": leave}, restart="temporary")], delivery=SlowDelivery()) as system:
        await asyncio.sleep(0.01)
        with pytest.raises(AskFailed, match="a is stopped"):
            await system.ask(AskA("x"), timeout=2.0)


async def test_a_cancelled_ask_leaves_no_trace_in_the_wait_graph() -> None:
    gate = asyncio.Event()
    tree = [child(A, [], deeds={"go": asks(AskB("slow"), 0.02)}), child(B, [], deeds={"slow": until(gate)})]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].waiting_on == "b")
        assert system.describe()[0].waiting_on == "b"
        await eventually(lambda: system.cells["a"].waiting_on == "")
        gate.set()


# Circles.


def cycle_of(system_dead_letters: list[str]) -> str:
    """The one sentence that names the circle."""
    lines = [line for text in system_dead_letters for line in text.splitlines() if "WaitCycle: " in line]
    assert lines, "no circle was named"
    return lines[0].partition("WaitCycle: ")[2]


async def test_asking_oneself_is_named_at_once() -> None:
    async with running([child(A, [], deeds={"go": asks(AskA("x"), 30.0)})]) as system:
        await system.send(ToA("go"))
        await eventually(lambda: bool(system.dead_letters))
        assert cycle_of([note.why for note in system.dead_letters]) == "a asks AskA of a"


async def test_two_that_ask_each_other_are_named_at_once() -> None:
    tree = [
        child(A, [], deeds={"go": asks(AskB("back"), 30.0)}),
        child(B, [], deeds={"back": asks(AskA("x"), 30.0)}),
    ]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        assert "b asks AskA of a; a asks AskB of b" in system.dead_letters[0].why


async def test_three_that_ask_in_a_ring_are_named_in_order() -> None:
    tree = [
        child(A, [], deeds={"go": asks(AskB("on"), 30.0)}),
        child(B, [], deeds={"on": asks(AskC("back"), 30.0)}),
        child(C, [], deeds={"back": asks(AskA("x"), 30.0)}),
    ]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        assert "c asks AskA of a; a asks AskB of b; b asks AskC of c" in system.dead_letters[0].why


async def test_a_send_into_ones_own_full_mailbox_is_named_at_once() -> None:
    deeds: dict[str, Deed] = {"go": sends(ToA("1"), ToA("2"))}
    async with running([child(A, [], deeds=deeds, mailbox=MailboxSpec(capacity=1))]) as system:
        await system.send(ToA("go"))
        await eventually(lambda: bool(system.dead_letters))
        assert cycle_of([note.why for note in system.dead_letters]) == "a waits to send ToA into the full mailbox of a"


async def test_full_mailboxes_in_a_ring_are_named_at_once() -> None:
    gate = asyncio.Event()

    async def fill(actor: Scripted) -> None:
        await gate.wait()
        await actor.send(ToB("1"))
        await actor.send(ToB("2"))

    async def fill_back(actor: Scripted) -> None:
        await gate.wait()
        await actor.send(ToA("1"))
        await actor.send(ToA("2"))

    one = MailboxSpec(capacity=1)
    tree = [child(A, [], deeds={"go": fill}, mailbox=one), child(B, [], deeds={"go": fill_back}, mailbox=one)]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await system.send(ToB("go"))
        await settle()
        gate.set()
        await eventually(lambda: bool(system.dead_letters))
        named = cycle_of([note.why for note in system.dead_letters])
        assert sorted(named.split("; ")) == [
            "a waits to send ToB into the full mailbox of b",
            "b waits to send ToA into the full mailbox of a",
        ]


async def test_an_ask_and_a_full_mailbox_make_a_circle_too() -> None:
    async def answer_loudly(actor: Scripted) -> None:
        await actor.send(ToA("1"))
        await actor.send(ToA("2"))

    one = MailboxSpec(capacity=1)
    tree = [
        child(A, [], deeds={"go": asks(AskB("loud"), 30.0)}, mailbox=one),
        child(B, [], deeds={"loud": answer_loudly}),
    ]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        assert "b waits to send ToA into the full mailbox of a; a asks AskB of b" in system.dead_letters[0].why


async def test_a_circle_over_the_second_of_two_asks_at_once_is_seen() -> None:
    gate = asyncio.Event()

    async def both(actor: Scripted) -> None:
        await asyncio.gather(actor.ask(AskB("back"), timeout=2.0), actor.ask(AskC("slow"), timeout=2.0))

    async def back(actor: Scripted) -> None:
        await settle()
        await actor.ask(AskA("x"), timeout=2.0)

    tree = [
        child(A, [], deeds={"go": both}),
        child(B, [], deeds={"back": back}),
        child(C, [], deeds={"slow": until(gate)}),
    ]
    async with running(tree) as system:
        began = asyncio.get_running_loop().time()
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        assert asyncio.get_running_loop().time() - began < 1.0
        gate.set()
        await system.send(ToC("x"))
