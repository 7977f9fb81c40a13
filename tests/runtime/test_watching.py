"""Watching another's end, as with OTP's monitors; and taking one out for good."""

from __future__ import annotations

import asyncio

import pytest

from messages import ActorEnded, ActorGaveUp
from runtime import Actor, Branch, Child, HandlerError, on
from tests.runtime.scripted import A, B, Scripted, ToA, ToB, child, crash, eventually, running, settle, state


class Watcher(Scripted):
    """Notes every end of whom it was told to watch."""

    @on
    async def told(self, message: ToB) -> None:
        await self.do("told")
        self.watch(message.what)

    @on
    async def ended(self, news: ActorEnded) -> None:
        self.log.append(f"{news.actor} {news.incarnation} {news.how} {news.why}".rstrip())


async def leave(actor: Scripted) -> None:
    actor.finish()


async def test_a_watcher_is_told_of_every_end_and_how_it_came() -> None:
    log: list[str] = []
    tree = [child(A, [], deeds={"bad": crash, "leave": leave}), child(Watcher, log)]
    async with running(tree) as system:
        await system.send(ToB("a"))
        await settle()
        for what in ("bad", "leave"):
            await system.send(ToA(what))
            before = system.cells["a"].incarnation
            await eventually(lambda before=before: system.cells["a"].incarnation > before)  # type: ignore[misc]
        await settle()
        assert log[2:] == ["a 1 crashed tests.runtime.scripted.BoomError: a was told to", "a 2 finished"]


async def test_who_is_not_watched_ends_without_a_word() -> None:
    log: list[str] = []
    tree = [child(A, [], deeds={"bad": crash}), child(Watcher, log)]
    async with running(tree) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        await settle()
        assert log == ["watcher:start"]


async def test_whoever_watches_one_that_is_gone_is_told_at_once() -> None:
    log: list[str] = []
    tree = [child(A, [], deeds={"leave": leave}, restart="temporary"), child(Watcher, log)]
    async with running(tree) as system:
        await system.send(ToA("leave"))
        await eventually(lambda: state(system, "a") == "stopped")
        await system.send(ToB("a"))
        await settle()
        assert log[2:] == ["a 1 stopped"]


async def test_a_watch_ends_with_the_incarnation_that_began_it() -> None:
    log: list[str] = []
    tree = [child(A, [], deeds={"bad": crash}), child(Watcher, log, deeds={"die": crash})]

    async def die(actor: Scripted) -> None:
        await crash(actor)

    async with running(tree) as system:
        await system.send(ToB("a"))
        await settle()
        system.cells["watcher"].instance.deeds["told"] = die  # type: ignore[union-attr]
        await system.send(ToB("a"))
        await eventually(lambda: system.cells["watcher"].incarnation == 2)
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        await settle()
    assert not [line for line in log if "crashed" in line]


async def test_a_watch_that_cannot_work_is_refused_in_words() -> None:
    class Deaf(Actor):
        @on
        async def told(self, message: ToB) -> None:
            self.watch(message.what)

    async with running([child(A, []), Child("deaf", Deaf), child(Watcher, [])]) as system:
        with pytest.raises(HandlerError, match="no handler for ActorEnded"):
            system.watch(system.cells["deaf"], "a")
        with pytest.raises(LookupError, match="nobody is called 'b'; there are: a, deaf, watcher"):
            system.watch(system.cells["watcher"], "b")


async def test_a_child_of_an_isolated_branch_is_disabled_at_once_although_its_handler_hangs() -> None:
    log: list[str] = []
    ended: list[str] = []

    class Listener(Actor):
        @on
        async def heard(self, news: ActorGaveUp) -> None:
            ended.append(f"{news.actor}: {news.why}, disabled {news.disabled}")

    async def hang(actor: Scripted) -> None:
        await asyncio.Event().wait()

    plugins = Branch("plugins", (child(A, log, deeds={"hang": hang}),), isolate=True)
    async with running(Branch("root", (Child("listener", Listener), plugins, child(B, log)))) as system:
        await system.send(ToA("hang"))
        await settle()
        assert system.disable("a", "it holds up the loop")
        await eventually(lambda: state(system, "a") == "disabled")
        await system.send(ToA("never handled"))
        await settle()
        assert ended == ["a: it holds up the loop, disabled True"]
        assert log == ["a:start", "b:start", "a:hang"]
        assert not system.disable("b", "it is no plug-in"), "only what is isolated can be spared"
        assert not system.disable("nobody", "")


async def test_on_stop_of_an_actor_that_ends_by_itself_has_a_time_out_too() -> None:
    async def hang(actor: Scripted) -> None:
        await asyncio.Event().wait()

    tree = [child(A, [], deeds={"leave": leave, "stop": hang}, stop_within=0.02)]
    async with running(tree) as system:
        await system.send(ToA("leave"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        crashed = [r.body for r in system.trace.since(0) if r.kind == "crashed"]
        assert crashed == ["runtime.child_runner.StopTimeoutError: a: on_stop did not return within 0.02 s"]


async def test_one_who_swallows_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.child_runner.INSIST_EVERY_SECONDS", 0.01)
    swallowed: list[str] = []

    async def stubborn(actor: Scripted) -> None:
        while len(swallowed) < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append("once more")

    async with running([child(A, [], deeds={"go": stubborn}, stop_within=0.01)]) as system:
        await system.send(ToA("go"))
        await settle()
    assert len(swallowed) == 3
