"""A mailbox is bounded, its control lane is not, and what a full one does is declared."""

from __future__ import annotations

import asyncio

import pytest

from messages import ActorStarted, Message, MessagesDropped
from runtime import Actor, Child, MailboxSpec, on
from runtime.cell import Cell
from runtime.hot.envelope import Envelope
from runtime.hot.mailbox import Mailbox
from tests.runtime.scripted import (
    A,
    AskA,
    B,
    Scripted,
    ToA,
    ToB,
    ToC,
    UrgentA,
    child,
    eventually,
    running,
    sends,
    settle,
    state,
    until,
)


def envelope(number: int, message: Message, *, control: bool = False) -> Envelope:
    return Envelope(number, 0, "test", "it", message, 0.0, control=control)


async def test_control_overtakes_work() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    async with running([child(A, log, deeds={"wait": until(gate)})]) as system:
        await system.send(ToA("wait"))
        await settle()
        await system.send(ToA("work"))
        await system.send(UrgentA("urgent"))
        gate.set()
        await settle()
    assert log == ["a:start", "a:wait", "a:urgent", "a:work", "a:stop"]


async def test_equal_control_messages_wait_only_once_and_different_ones_each() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    async with running([child(A, log, deeds={"wait": until(gate)})]) as system:
        await system.send(ToA("wait"))
        await settle()
        for what in ("x", "x", "y", "x"):
            await system.send(UrgentA(what))
        gate.set()
        await settle()
    assert log == ["a:start", "a:wait", "a:x", "a:y", "a:stop"]


def test_a_control_message_for_a_dead_incarnation_does_not_swallow_its_like_for_the_next() -> None:
    mailbox = Mailbox(MailboxSpec())
    for incarnation in (1, 2, 2):
        mailbox.put(Envelope(incarnation, 0, "test", "it", UrgentA("x"), 0.0, control=True, incarnation=incarnation))
    assert mailbox.depth == 2


async def test_control_enters_a_full_mailbox() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    async with running([child(A, log, deeds={"wait": until(gate)}, mailbox=MailboxSpec(capacity=1))]) as system:
        for what in ("wait", "work"):
            await system.send(ToA(what))
            await settle()
        assert system.cells["a"].mailbox.full
        await asyncio.wait_for(system.send(UrgentA("urgent")), 1.0)
        gate.set()
        await settle()
    assert log == ["a:start", "a:wait", "a:urgent", "a:work", "a:stop"]


async def test_a_full_mailbox_makes_the_sender_wait_and_wakes_senders_in_order() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    async with running([child(A, log, deeds={"wait": until(gate)}, mailbox=MailboxSpec(capacity=1))]) as system:
        for what in ("wait", "0"):
            await system.send(ToA(what))
            await settle()
        senders = []
        for number in range(1, 5):
            senders.append(asyncio.create_task(system.send(ToA(str(number)))))
            await settle()
        assert not any(sender.done() for sender in senders)
        assert system.cells["a"].mailbox.depth == 1
        gate.set()
        await asyncio.wait_for(asyncio.gather(*senders), 2.0)
        await settle()
    assert log == ["a:start", "a:wait", "a:0", "a:1", "a:2", "a:3", "a:4", "a:stop"]


async def test_a_newcomer_does_not_take_the_place_of_one_who_waited() -> None:
    mailbox = Mailbox(MailboxSpec(capacity=1))
    mailbox.put(envelope(1, ToA("1")))
    waiting = asyncio.create_task(mailbox.room())
    await settle()
    await mailbox.next()
    assert mailbox.full, "the place is kept, though nothing is in it yet"
    await waiting
    assert not mailbox.full


async def test_a_cancelled_sender_gives_its_place_to_the_next() -> None:
    mailbox = Mailbox(MailboxSpec(capacity=1))
    mailbox.put(envelope(1, ToA("1")))
    first, second, third = (asyncio.create_task(mailbox.room()) for _ in range(3))
    await settle()
    third.cancel()
    await mailbox.next()
    first.cancel()  # it has its place, and has not run yet
    await asyncio.wait_for(second, 1.0)
    assert not mailbox.full
    for task in (first, third):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_mailbox_overfilled_by_the_runtime_lets_nobody_in_before_it_is_below_its_bound() -> None:
    mailbox = Mailbox(MailboxSpec(capacity=1))
    for number in range(3):
        mailbox.put(envelope(number, ToA(str(number))))
    waiting = asyncio.create_task(mailbox.room())
    for _ in range(2):
        await settle()
        await mailbox.next()
        mailbox.acknowledge()
        await settle()
        assert not waiting.done()
    await mailbox.next()
    await asyncio.wait_for(waiting, 1.0)


async def test_cancelling_the_wait_for_a_message_loses_none() -> None:
    mailbox = Mailbox(MailboxSpec())
    waiting = asyncio.create_task(mailbox.next())
    await settle()
    mailbox.put(envelope(1, ToA("1")))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await mailbox.next()).message == ToA("1")


async def test_the_message_in_hand_stays_until_it_is_acknowledged() -> None:
    mailbox = Mailbox(MailboxSpec())
    mailbox.put(envelope(1, ToA("1")))
    mailbox.put(envelope(2, ToA("2")))
    assert await mailbox.next() is await mailbox.next()
    mailbox.acknowledge()
    assert (await mailbox.next()).id == 2


class Observer(Actor):
    def __init__(self, log: list[str], gate: asyncio.Event) -> None:
        self.log, self.gate = log, gate

    @on
    async def told(self, message: ToB | ToC) -> None:
        self.log.append(message.what)
        await self.gate.wait()


class News(Actor):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    @on
    async def dropped(self, message: MessagesDropped) -> None:
        self.log.append(f"{message.actor} {message.count}")


async def test_an_observers_full_mailbox_never_makes_a_sender_wait_and_counts_what_it_lets_go() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    news: list[str] = []
    spec = MailboxSpec(capacity=2, overflow="dead_letter")
    tree = [
        Child("observer", Observer, make=lambda: Observer(log, gate), mailbox=spec),
        Child("news", News, make=lambda: News(news)),
        child(A, [], deeds={"go": sends(*(ToB(str(number)) for number in range(13)))}),
    ]
    async with running(tree) as system:
        await system.send(ToB("in hand"))
        await settle()
        await asyncio.wait_for(system.ask(AskA("go"), timeout=1.0), 1.0)
        observer = system.describe()[0]
        assert (observer.dropped, observer.depth, observer.capacity) == (11, 2, 2)
        dropped = [r for r in system.trace.since(0) if r.kind == "dropped"]
        assert len(dropped) == 11
        assert {r.sender for r in dropped} == {"a"}
        gate.set()
        await settle()
    assert log == ["in hand", "0", "1"]
    assert news == ["observer 1", "observer 2", "observer 4", "observer 8"]


async def test_of_a_latest_type_only_the_newest_waits_in_the_place_of_the_older() -> None:
    gate = asyncio.Event()
    log: list[str] = []
    spec = MailboxSpec(capacity=3, latest=(ToB,))
    async with running([Child("observer", Observer, make=lambda: Observer(log, gate), mailbox=spec)]) as system:
        for message in (ToC("in hand"), ToC("first"), ToB("old"), ToC("second")):
            await system.send(message)
            await settle()
        for number in range(100):
            await asyncio.wait_for(system.send(ToB(str(number))), 1.0)
        assert system.cells["observer"].mailbox.depth == 3
        gate.set()
        await settle()
    assert log == ["in hand", "first", "99", "second"]


class UrgentNews(Actor):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    @on(control=True)
    async def started(self, message: ActorStarted) -> None:
        self.log.append(message.actor)

    @on
    async def told(self, message: ToB) -> None:
        await asyncio.sleep(0)


async def test_the_runtimes_news_enters_the_control_lane_of_a_full_observer() -> None:
    log: list[str] = []
    spec = MailboxSpec(capacity=0, overflow="dead_letter")
    async with running([Child("news", UrgentNews, make=lambda: UrgentNews(log), mailbox=spec), child(A, [])]):
        await eventually(lambda: "a" in log)


async def test_a_sender_that_waits_is_let_go_when_the_receiver_is_done_for_good() -> None:
    gate = asyncio.Event()

    async def leave(actor: Scripted) -> None:
        await gate.wait()
        actor.finish()

    tree = [
        child(A, [], deeds={"leave": leave}, restart="temporary", mailbox=MailboxSpec(capacity=1)),
        child(B, [], deeds={"go": sends(ToA("1"), ToA("2"), ToA("3"))}),
    ]
    async with running(tree) as system:
        await system.send(ToA("leave"))
        await system.send(ToB("go"))
        await eventually(lambda: system.cells["b"].waiting_on == "a")
        gate.set()
        await eventually(lambda: state(system, "a") == "stopped" and system.cells["b"].desk.handled == 1)


async def test_what_travels_takes_up_room() -> None:
    arrived: list[tuple[Cell, Envelope]] = []

    class Road:
        def carry(self, cell: Cell, envelope: Envelope) -> None:
            arrived.append((cell, envelope))

    log: list[str] = []
    async with running([child(A, log, mailbox=MailboxSpec(capacity=2))], delivery=Road()) as system:
        await system.send(ToA("1"))
        await system.send(ToA("2"))
        third = asyncio.create_task(system.send(ToA("3")))
        await settle()
        assert len(arrived) == 2
        assert not third.done(), "two are on their way, and there is room for two"
        while arrived:
            cell, envelope = arrived.pop(0)
            cell.mailbox.arrive(envelope)
            await settle()
        assert third.done()
        # The order to stop travels this road, too.
        system.stop("the test is over")
        await settle()
        cell, envelope = arrived.pop(0)
        cell.mailbox.arrive(envelope)
    assert log == ["a:start", "a:1", "a:2", "a:3", "a:stop"]
