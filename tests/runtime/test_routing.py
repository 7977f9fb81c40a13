"""Messages go to those who declare them; what cannot work is refused when the system is built."""

from __future__ import annotations

import pytest

from messages import ActorStarted, Message, Question
from runtime import Actor, Branch, Child, HandlerError, Retry, TopologyError, daily, every, on
from runtime.actor import settings_type
from runtime.topology import flow, says
from tests.runtime.scripted import (
    A,
    B,
    Scripted,
    ToA,
    ToB,
    UrgentA,
    child,
    running,
    sends,
    settle,
    system_of,
)


class One(Message, frozen=True):
    number: int


class Two(Message, frozen=True):
    number: int


class Unheard(Message, frozen=True):
    pass


class HowMany(Question[One | Two], frozen=True):
    pass


class Nothing(Question[None], frozen=True):
    pass


class Listener(Actor):
    def __init__(self, heard: list[Message]) -> None:
        self.heard = heard

    @on
    async def either(self, message: One | Two) -> None:
        self.heard.append(message)


class Other(Actor):
    def __init__(self, heard: list[Message]) -> None:
        self.heard = heard

    @on
    async def one(self, message: One) -> None:
        self.heard.append(message)


async def test_a_message_reaches_every_actor_that_handles_its_type_and_no_other() -> None:
    both: list[Message] = []
    ones: list[Message] = []
    tree = [Child("listener", Listener, make=lambda: Listener(both)), Child("other", Other, make=lambda: Other(ones))]
    async with running(tree) as system:
        await system.send(One(1))
        await system.send(Two(2))
        await settle()
    assert both == [One(1), Two(2)]
    assert ones == [One(1)]


async def test_a_message_that_nobody_handles_goes_nowhere_and_harms_nobody() -> None:
    async with running([child(A, [])]) as system:
        await system.send(Unheard())


async def test_messages_of_one_sender_arrive_in_the_order_sent() -> None:
    log: list[str] = []
    words = [ToB(str(number)) for number in range(50)]
    async with running([child(A, log, deeds={"go": sends(*words)}), child(B, log)]) as system:
        await system.send(ToA("go"))
        await settle()
    assert [entry for entry in log if entry.startswith("b:")][1:51] == [f"b:{number}" for number in range(50)]


async def test_a_message_is_handled_to_its_end_before_the_next_begins() -> None:
    log: list[str] = []

    async def slow(actor: Scripted) -> None:
        await settle()
        actor.log.append("slow is done")

    async with running([child(A, log, deeds={"slow": slow})]) as system:
        await system.send(ToA("slow"))
        await system.send(ToA("next"))
    assert log == ["a:start", "a:slow", "slow is done", "a:next", "a:stop"]


async def test_a_post_lands_in_the_actors_own_mailbox_and_in_the_lane_its_handler_declares() -> None:
    log: list[str] = []

    async def post_both(actor: Scripted) -> None:
        actor.post(ToA("work"))
        actor.post(UrgentA("urgent"))

    async with running([child(A, log, deeds={"go": post_both})]) as system:
        await system.send(ToA("go"))
        await settle()
    assert log == ["a:start", "a:go", "a:urgent", "a:work", "a:stop"]


async def test_a_post_nobody_here_handles_crashes_with_the_types_name() -> None:
    log: list[str] = []

    async def stray(actor: Scripted) -> None:
        actor.post(Unheard())

    async with running([child(A, log, deeds={"go": stray})]) as system:
        await system.send(ToA("go"))
        await settle()
        assert "a has no handler for Unheard" in system.dead_letters[0].why


class NotAsync(Actor):
    @on
    def one(self, message: One) -> None: ...


class NoAnnotation(Actor):
    @on
    async def one(self, message) -> None: ...  # type: ignore[no-untyped-def]


class TwoParameters(Actor):
    @on
    async def one(self, message: One, more: int) -> None: ...


class NoMessage(Actor):
    @on
    async def one(self, message: int) -> None: ...


class Twice(Actor):
    @on
    async def first(self, message: One) -> None: ...

    @on
    async def second(self, message: One | Two) -> None: ...


class WrongAnswer(Actor):
    @on
    async def how_many(self, question: HowMany) -> One:
        return One(1)


class AnswersNoQuestion(Actor):
    @on
    async def one(self, message: One) -> Two:
        return Two(1)


class SyncTimer(Actor):
    @every(1.0)
    def tick(self) -> None: ...


class TimerWithArgument(Actor):
    @every(1.0)
    async def tick(self, what: int) -> None: ...


class DailyWithoutDay(Actor):
    @daily("at")
    async def night(self) -> None: ...


@pytest.mark.parametrize(
    ("actor", "words"),
    [
        (NotAsync, "NotAsync.one must be 'async def'"),
        (NoAnnotation, "exactly one annotated parameter"),
        (TwoParameters, "exactly one annotated parameter"),
        (NoMessage, "which is no message type"),
        (Twice, "One is handled by first too"),
        (WrongAnswer, "must return One | Two, for that is what HowMany asks for"),
        (AnswersNoQuestion, "must return None"),
        (SyncTimer, "SyncTimer.tick must be 'async def'"),
        (TimerWithArgument, "must take nothing"),
        (DailyWithoutDay, "must take the day"),
    ],
)
async def test_a_handler_that_cannot_work_is_refused_by_name(actor: type[Actor], words: str) -> None:
    with pytest.raises(HandlerError) as caught:
        system_of([Child("it", actor)])
    assert words in str(caught.value)


class AnswersNothing(Actor):
    @on
    async def nothing(self, question: Nothing) -> None: ...


async def test_a_question_may_be_answered_with_nothing() -> None:
    async with running([Child("it", AnswersNothing)]) as system:
        assert await system.ask(Nothing(), timeout=1.0) is None  # type: ignore[func-returns-value]


class SaysUnheard(Actor):
    @on
    async def one(self, message: One) -> None:
        await self.send(Unheard())


class AsksHowMany(Actor):
    @on
    async def one(self, message: One) -> None:
        await self.ask(HowMany(), timeout=1.0)


class DeclaresUnheard(Actor):
    sends = (Unheard,)


def test_a_message_nobody_handles_is_refused_only_when_strict() -> None:
    with pytest.raises(TopologyError, match="it sends Unheard, which nobody handles"):
        system_of([Child("it", SaysUnheard)], strict=True)
    with pytest.raises(TopologyError, match="it sends Unheard, which nobody handles"):
        system_of([Child("it", DeclaresUnheard)], strict=True)
    system_of([Child("it", SaysUnheard)], strict=False)


def test_a_question_nobody_answers_is_always_refused() -> None:
    with pytest.raises(TopologyError, match="it asks HowMany, which nobody answers"):
        system_of([Child("it", AsksHowMany)], strict=False)


def test_a_question_answered_by_several_is_refused() -> None:
    with pytest.raises(TopologyError, match="the question AskA is answered by several: first, second"):
        system_of([child(A, [], "first"), child(A, [], "second")])


def test_a_name_used_twice_is_refused_even_in_another_branch() -> None:
    with pytest.raises(TopologyError, match="the name 'a' is used twice"):
        system_of(Branch("root", (child(A, []), Branch("inner", (child(B, [], "a"),)))))


def test_more_retries_than_the_intensity_allows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one poisonous message would take the whole tree down"):
        child(A, [], on_crash=Retry(5), intensity=5)
    child(A, [], on_crash=Retry(4), intensity=5)


class WithSettings(Actor):
    settings: Settings


class Settings(Message, frozen=True):
    pause: float = 0.01


class Inherits(WithSettings):
    pass


class TimerOfNoSetting(Actor):
    settings: Settings

    @every("paws")
    async def tick(self) -> None: ...


def test_the_settings_type_is_read_from_the_annotation() -> None:
    assert settings_type(WithSettings) is Settings
    assert settings_type(Inherits) is Settings
    assert settings_type(Listener).__name__ == "NoSettings"


def test_a_timer_that_names_no_setting_is_refused() -> None:
    with pytest.raises(HandlerError, match="the settings have no 'paws'"):
        system_of([Child("it", TimerOfNoSetting, settings=Settings())])


def test_the_flow_names_who_says_what_to_whom_and_what_comes_back() -> None:
    class_pairs: list[tuple[str, type[Actor]]] = [("asker", AsksHowMany), ("sayer", SaysUnheard), ("right", Answers)]
    assert [(e.sender, e.message, e.recipient, e.reply) for e in flow(class_pairs)] == [
        ("asker", "HowMany", "right", "One | Two")
    ]
    assert says(SaysUnheard) == {Unheard}


class Answers(Actor):
    @on
    async def how_many(self, question: HowMany) -> One | Two:
        return One(1)


class Watcher(Actor):
    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    @on
    async def started(self, message: ActorStarted) -> None:
        self.seen.append(f"{message.actor} {message.incarnation}")


async def test_observers_hear_of_every_start_after_their_own() -> None:
    seen: list[str] = []
    async with running([Child("watcher", Watcher, make=lambda: Watcher(seen)), child(A, []), child(B, [])]):
        await settle()
    assert seen == ["watcher 1", "a 1", "b 1"]
