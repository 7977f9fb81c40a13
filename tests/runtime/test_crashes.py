"""A crash costs the instance and, at most, the message in hand; what follows is declared in the tree."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from messages import ActorCrashed, ActorGaveUp
from runtime import Actor, Backoff, Branch, Child, GaveUp, OperatorError, Retry, on
from tests.runtime.scripted import (
    QUICK,
    A,
    AskA,
    B,
    BoomError,
    Clock,
    Deed,
    Scripted,
    ToA,
    ToB,
    child,
    crash,
    crash_times,
    eventually,
    failure_of,
    running,
    sends,
    settle,
    state,
    system_of,
    until,
)


class Observer(Actor):
    def __init__(self, seen: list[ActorCrashed | ActorGaveUp]) -> None:
        self.seen = seen

    @on
    async def crashed(self, message: ActorCrashed | ActorGaveUp) -> None:
        self.seen.append(message)


def observer(seen: list[ActorCrashed | ActorGaveUp]) -> Child:
    return Child("observer", Observer, make=lambda: Observer(seen))


async def test_a_poison_message_costs_only_itself() -> None:
    log: list[str] = []
    async with running([child(A, log, deeds={"poison": crash})]) as system:
        for what in ("1", "poison", "2", "3"):
            await system.send(ToA(what))
        await eventually(lambda: "a:3" in log)
        assert [note.message for note in system.dead_letters] == [ToA("poison")]
    assert log == ["a:start", "a:1", "a:poison", "a:start", "a:2", "a:3", "a:stop"]


async def test_a_crash_gives_a_fresh_instance() -> None:
    instances: list[int] = []

    async def note(actor: Scripted) -> None:
        instances.append(id(actor))
        assert not hasattr(actor, "mark"), "state of the dead instance was seen"
        actor.mark = True  # type: ignore[attr-defined]

    kept: list[Scripted] = []

    async def keep_and_crash(actor: Scripted) -> None:
        kept.append(actor)
        raise BoomError

    async with running([child(A, [], deeds={"start": note, "bad": keep_and_crash})]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: len(instances) == 2)
        assert system.cells["a"].instance is not kept[0]


async def test_a_dead_instance_is_let_go_with_all_it_held() -> None:
    seen: list[weakref.ref[Scripted]] = []

    async def remember_and_crash(actor: Scripted) -> None:
        seen.append(weakref.ref(actor))
        try:
            int("the first cause")
        except ValueError as error:
            raise BoomError from error

    gc.disable()
    try:
        async with running([child(A, [], deeds={"bad": remember_and_crash})]) as system:
            await system.send(ToA("bad"))
            await eventually(lambda: system.cells["a"].incarnation == 2)
            await settle()
            assert seen[0]() is None, "something, perhaps a traceback, keeps the dead instance and its tensors alive"
            assert "the first cause" in system.dead_letters[0].why
    finally:
        gc.enable()


async def test_a_retried_message_stays_at_the_head_and_then_becomes_a_dead_letter() -> None:
    log: list[str] = []
    async with running([child(A, log, deeds={"bad": crash}, on_crash=Retry(2))]) as system:
        await system.send(ToA("bad"))
        await system.send(ToA("next"))
        await eventually(lambda: "a:next" in log)
        assert [note.message for note in system.dead_letters] == [ToA("bad")]
        attempts = [r.attempt for r in system.trace.since(0) if r.kind == "begun" and r.type == "ToA"]
        assert attempts == [0, 1, 2, 0]
    assert [entry for entry in log if entry not in ("a:start", "a:stop")] == ["a:bad", "a:bad", "a:bad", "a:next"]


async def test_a_retry_that_succeeds_leaves_no_dead_letter() -> None:
    log: list[str] = []
    async with running([child(A, log, deeds={"bad": crash_times(1)}, on_crash=Retry(1))]) as system:
        await system.send(ToA("bad"))
        await system.send(ToA("next"))
        await eventually(lambda: "a:next" in log)
        assert system.dead_letters == []


async def test_a_second_crash_over_one_redelivered_message_is_not_charged_twice() -> None:
    log: list[str] = []
    async with running([child(A, log, deeds={"bad": crash}, on_crash=Retry(2), intensity=3)]) as system:
        for _ in range(3):
            await system.send(ToA("bad"))
        await system.send(ToA("next"))
        await eventually(lambda: "a:next" in log)
        assert system.cells["a"].restarts == 9


async def test_a_crash_in_on_start_does_not_blame_the_message_that_waits_to_be_retried() -> None:
    log: list[str] = []
    starts = [0]

    async def second_start_fails(actor: Scripted) -> None:
        starts[0] += 1
        if starts[0] in (2, 3):
            raise BoomError

    deeds: dict[str, Deed] = {"bad": crash_times(1), "start": second_start_fails}
    async with running([child(A, log, deeds=deeds, on_crash=Retry(1))]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: log.count("a:bad") == 2)
        assert system.dead_letters == []


async def test_an_on_start_that_never_works_gives_up_and_names_the_actor() -> None:
    log: list[str] = []
    failure = await failure_of([child(A, log, deeds={"start": crash}, intensity=2)])
    assert isinstance(failure, GaveUp)
    assert failure.report.startswith("a kept failing in on_start or on_stop (")
    assert "BoomError: a was told to" in failure.report
    assert log == ["a:start"] * 3


async def test_an_on_start_that_takes_too_long_is_a_crash() -> None:
    gate = asyncio.Event()
    seen: list[ActorCrashed | ActorGaveUp] = []
    tree = [observer(seen), child(A, [], deeds={"start": until(gate)}, start_within=0.01)]
    async with running(tree):
        await eventually(lambda: bool(seen))
        assert "a: on_start did not return within 0.01 s" in seen[0].why
        gate.set()


async def test_a_constructor_that_raises_is_a_crash_like_any_other() -> None:
    tries = [0]

    def make() -> Scripted:
        tries[0] += 1
        if tries[0] == 1:
            raise BoomError
        return A([], {})

    async with running([Child("a", A, make=make, backoff=QUICK)]) as system:
        await eventually(lambda: state(system, "a") == "running")
        assert system.cells["a"].incarnation == 2


async def test_a_crash_in_on_stop_does_not_keep_the_others_from_stopping() -> None:
    log: list[str] = []
    async with running([child(A, log), child(B, log, deeds={"stop": crash})]):
        pass
    assert log == ["a:start", "b:start", "b:stop", "a:stop"]


async def test_sys_exit_in_a_handler_is_a_crash_and_not_the_end_of_the_process() -> None:
    async def leave(actor: Scripted) -> None:
        raise SystemExit(3)

    async with running([child(A, [], deeds={"bad": leave})]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 2)


async def test_a_cancellation_that_nobody_asked_for_is_a_crash() -> None:
    async def await_something_cancelled(actor: Scripted) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    log: list[str] = []
    async with running([child(A, log, deeds={"bad": await_something_cancelled})]) as system:
        await system.send(ToA("bad"))
        await system.send(ToA("next"))
        await eventually(lambda: "a:next" in log)
        assert system.cells["a"].incarnation == 2


async def test_a_crash_is_told_with_its_cause_chain_and_when_the_restart_comes() -> None:
    seen: list[ActorCrashed | ActorGaveUp] = []
    tree = [observer(seen), child(A, [], deeds={"go": sends(ToB("bad"))}), child(B, [], deeds={"bad": crash})]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: bool(seen))
        told = seen[0]
        assert isinstance(told, ActorCrashed)
        assert (told.actor, told.incarnation, told.message_type) == ("b", 1, "ToB")
        assert told.cause_chain == ("ToB from a to b", "ToA from outside to a")
        assert "BoomError: b was told to" in told.why
        assert 0 < told.restart_in_s <= 0.004
        assert system.dead_letters[0].cause_chain == told.cause_chain


async def test_the_intensity_is_not_crossed_by_as_many_crashes_as_it_allows() -> None:
    async with running([child(A, [], deeds={"bad": crash}, intensity=3)]) as system:
        for _ in range(3):
            await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 4)
        await system.ask(AskA("x"), timeout=1.0)


async def test_one_crash_more_ends_the_run_naming_actor_message_and_cause_chain() -> None:
    seen: list[ActorCrashed | ActorGaveUp] = []
    log: list[str] = []
    tree = [
        observer(seen),
        child(A, log, deeds={"go": sends(ToB("bad"))}),
        child(B, log, deeds={"bad": crash}, intensity=3),
    ]
    failure = await failure_of(tree, *[ToA("go")] * 4)
    assert isinstance(failure, GaveUp)
    assert "b kept failing over ToB" in failure.report
    assert "BoomError: b was told to" in failure.report
    assert "ToB from a to b <- ToA from outside to a" in failure.report
    assert log[-1] == "a:stop", "the rest is stopped in order"


async def test_crashes_further_apart_than_the_period_do_not_add_up() -> None:
    async with running([child(A, [], deeds={"bad": crash}, intensity=1, period=0.01)]) as system:
        for incarnation in range(2, 6):
            await system.send(ToA("bad"))
            await eventually(lambda wanted=incarnation: system.cells["a"].incarnation == wanted)  # type: ignore[misc]
            await asyncio.sleep(0.015)


async def test_the_back_off_doubles_up_to_its_most_and_its_jitter_is_seeded() -> None:
    def delays(seed: int) -> list[float]:
        system = system_of([child(A, [], backoff=Backoff(first=1.0, most=8.0))], seed=seed)
        runner = system._root.runners[0]
        found = []
        for streak in range(1, 7):
            runner.streak = streak  # type: ignore[union-attr]
            runner.cell.incarnation = streak  # type: ignore[union-attr]
            found.append(runner.delay())  # type: ignore[union-attr]
        return found

    first = delays(1)
    assert first == delays(1)
    assert first != delays(2)
    for delay, full in zip(first, (1.0, 2.0, 4.0, 8.0, 8.0, 8.0), strict=True):
        assert full / 2 <= delay <= full


async def test_the_back_off_begins_anew_after_a_healthy_while() -> None:
    seen: list[ActorCrashed | ActorGaveUp] = []
    backoff = Backoff(first=0.004, most=1.0, healthy=0.03)
    tree = [observer(seen), child(A, [], deeds={"bad": crash}, backoff=backoff)]
    async with running(tree) as system:
        for _ in range(3):
            await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 4)
        await asyncio.sleep(0.04)
        await system.send(ToA("bad"))
        await eventually(lambda: len(seen) == 4)
    waits = [told.restart_in_s for told in seen if isinstance(told, ActorCrashed)]
    assert waits[2] >= 0.008
    assert waits[3] <= 0.004


async def test_an_isolated_branch_disables_the_one_that_keeps_failing_and_the_rest_lives_on() -> None:
    seen: list[ActorCrashed | ActorGaveUp] = []
    plugins = Branch("plugins", (child(B, [], deeds={"bad": crash}, intensity=1),), isolate=True)
    tree = Branch("root", (observer(seen), child(A, []), plugins))
    async with running(tree) as system:
        for _ in range(3):
            await system.send(ToB("bad"))
        await eventually(lambda: state(system, "b") == "disabled")
        await system.send(ToB("too late"))
        await system.ask(AskA("x"), timeout=1.0)
        await settle()
    gave_up = [told for told in seen if isinstance(told, ActorGaveUp)]
    assert [(told.actor, told.disabled) for told in gave_up] == [("b", True)]


async def test_an_isolated_branch_contains_a_branch_below_it_that_fails() -> None:
    inner = Branch("inner", (child(B, [], deeds={"bad": crash}, intensity=0),))
    tree = Branch("root", (child(A, []), Branch("plugins", (inner,), isolate=True)))
    async with running(tree) as system:
        await system.send(ToB("bad"))
        await eventually(lambda: state(system, "b") == "stopped")
        await system.ask(AskA("x"), timeout=1.0)


async def test_a_failure_in_an_inner_branch_escalates_to_the_root() -> None:
    log: list[str] = []
    inner = Branch("inner", (child(B, log, deeds={"bad": crash}, intensity=0),))
    failure = await failure_of(Branch("root", (child(A, log), inner)), ToB("bad"))
    assert isinstance(failure, GaveUp)
    assert "b kept failing over ToB" in failure.report
    assert log[-1] == "a:stop"


async def test_what_a_person_must_mend_ends_the_run_at_once() -> None:
    async def refuse(actor: Scripted) -> None:
        raise OperatorError("NF-CONF-001", "the home is on fire", hint="put it out")

    log: list[str] = []
    failure = await failure_of([child(A, log, deeds={"bad": refuse})], ToA("bad"))
    assert isinstance(failure, OperatorError)
    assert (failure.what, failure.hint) == ("the home is on fire", "put it out")
    assert log == ["a:start", "a:bad"]


async def test_what_a_person_must_mend_in_an_isolated_branch_disables_only_that_one() -> None:
    async def refuse(actor: Scripted) -> None:
        raise OperatorError("NF-CONF-001", "no such url")

    plugins = Branch("plugins", (child(B, [], deeds={"bad": refuse}),), isolate=True)
    async with running(Branch("root", (child(A, []), plugins))) as system:
        await system.send(ToB("bad"))
        await eventually(lambda: state(system, "b") == "disabled")
        await system.ask(AskA("x"), timeout=1.0)


async def leave(actor: Scripted) -> None:
    actor.finish()


@pytest.mark.parametrize(
    ("restart", "deed", "comes_back", "ends_as"),
    [
        ("permanent", leave, True, ""),
        ("permanent", crash, True, ""),
        ("transient", leave, False, "stopped"),
        ("transient", crash, True, ""),
        ("temporary", leave, False, "stopped"),
        ("temporary", crash, False, "disabled"),
    ],
)
async def test_who_comes_back_after_an_end_is_said_by_restart(
    restart: str, deed: Deed, comes_back: bool, ends_as: str
) -> None:
    log: list[str] = []
    async with running([child(A, log, deeds={"end": deed}, restart=restart)]) as system:
        await system.send(ToA("end"))
        if comes_back:
            await system.send(ToA("next"))
            await eventually(lambda: "a:next" in log)
            assert system.cells["a"].incarnation == 2
        else:
            await eventually(lambda: state(system, "a") == ends_as)
            await asyncio.sleep(0.01)
            assert system.cells["a"].incarnation == 1


async def test_finish_ends_after_the_message_in_hand_and_the_next_incarnation_takes_the_rest() -> None:
    log: list[str] = []

    async with running([child(A, log, deeds={"end": leave})]) as system:
        for what in ("end", "1", "2"):
            await system.send(ToA(what))
        await eventually(lambda: "a:2" in log)
    assert log == ["a:start", "a:end", "a:stop", "a:start", "a:1", "a:2", "a:stop"]


async def test_a_finish_that_its_incarnation_did_not_live_to_see_does_not_end_the_next() -> None:
    async def finish_and_crash(actor: Scripted) -> None:
        actor.finish()
        raise BoomError

    log: list[str] = []
    async with running([child(A, log, deeds={"bad": finish_and_crash}, restart="transient")]) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["a"].incarnation == 2)
        await system.ask(AskA("x"), timeout=1.0)
        assert state(system, "a") == "running"


class NewsEater(Actor):
    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    @on
    async def crashed(self, message: ActorCrashed) -> None:
        self.heard.append(message.actor)
        raise BoomError

    @on
    async def told(self, message: ToB) -> None:
        self.heard.append(message.what)


async def test_an_observer_that_crashes_over_the_news_of_a_crash_does_not_feed_itself() -> None:
    heard: list[str] = []
    tree = [Child("eater", NewsEater, make=lambda: NewsEater(heard), backoff=QUICK), child(A, [], deeds={"bad": crash})]
    async with running(tree, clock=Clock()) as system:
        await system.send(ToA("bad"))
        await eventually(lambda: system.cells["eater"].incarnation == 2)
        await system.send(ToB("still here"))
        await eventually(lambda: "still here" in heard)
    assert heard == ["a", "still here"]


async def test_a_handler_under_retry_that_sends_before_it_fails_sends_again() -> None:
    log: list[str] = []

    async def speak_and_fail(actor: Scripted) -> None:
        await actor.send(ToB("said"))
        raise BoomError("after it was said")

    tree = [child(A, [], deeds={"go": speak_and_fail}, on_crash=Retry(1)), child(B, log)]
    async with running(tree) as system:
        await system.send(ToA("go"))
        await eventually(lambda: system.cells["a"].dead_letters == 1)
        await settle()
    assert log == ["b:start", "b:said", "b:said", "b:stop"]
