"""replay: every actor of a house that ran says again what it said, and a change of its mind is named."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.validator.actor import Validator
from messages import Message, Question
from runtime import Actor, ActorSystem, AskFailed, AskTimeout, Backoff, Branch, Child, Retry, every, on, trace_files
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.errors import OperatorError
from runtime.trace import Record
from runtime.worker import DeviceThread, ThreadWorkers
from tests.tools.simulated_home import lived_in_home
from tools.commands.trace import trace
from tools.replay import Outcome, difference, newest_incarnation, replay, replay_command
from tools.simulated_house import universe
from tools.trace_views.recorded import runs

HOUSE = ("status_reporter", "disk_guard", "checkpointer", "trainer", "validator", "inbox_watcher", "consolidator")


@pytest.mark.parametrize("actor", HOUSE)
def test_every_actor_of_the_house_agrees_with_its_record(tmp_path: Path, actor: str) -> None:
    agrees, lines = replay_command(lived_in_home(tmp_path), actor)
    assert agrees, lines
    assert lines[-1].startswith("replay agrees: ")
    assert int(lines[-1].split()[2]) > 5


@pytest.mark.parametrize("seed", [3, 14, 23])
def test_it_agrees_through_restarts_clock_jumps_and_summer_time(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[bytes] = []
    encode = trace_files.encode

    def kept(life: Sequence[Record]) -> bytes:
        lives.append(encode(life))
        return lives[-1]

    monkeypatch.setattr(universe, "encode", kept)
    assert universe.Universe(seed, days=1.0, faults=False).run().violation == ""
    (tmp_path / "nightfold.toml").write_text(universe.CONFIG)
    (tmp_path / "status" / "trace").mkdir(parents=True)
    for data in lives:
        (tmp_path / "status" / "trace" / "000001.trace").write_bytes(data)
        # A life that is stopped in its first moments may end before everyone was up.
        up = {record.recipient for record in trace_files.decode(data) if record.kind == "started"}
        for actor in [actor for actor in HOUSE if actor in up]:
            agrees, lines = replay_command(tmp_path, actor)
            assert agrees, lines


def test_a_changed_mind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lived_in_home(tmp_path)
    monkeypatch.setattr(Validator, "_warnings", lambda *_: ("it looks odd",))
    assert trace(home, "replay", "validator", None) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert "at BatchClaimed #" in last
    assert "BatchAccepted.warnings was [] then, and is ['it looks odd'] now" in last


def test_a_message_less_and_a_message_more_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = lived_in_home(tmp_path)
    real = Actor.send

    async def mute(self: Actor, message: Message) -> None:
        if type(message).__name__ != "BatchAccepted":
            await real(self, message)

    async def twice(self: Actor, message: Message) -> None:
        await real(self, message)
        await real(self, message)

    monkeypatch.setattr(Actor, "send", mute)
    assert "it said BatchAccepted then, and does not now" in replay_command(home, "validator")[1][-1]
    monkeypatch.setattr(Actor, "send", twice)
    assert "it says BatchAccepted now, and did not then" in replay_command(home, "validator")[1][-1]


def test_an_actor_that_is_not_there_is_an_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(OperatorError) as caught:
        replay_command(lived_in_home(tmp_path), "nobody")
    assert caught.value.code == "NF-CONF-011"
    assert "checkpointer" in caught.value.hint


def test_a_start_that_was_rotated_away_is_said_to_be(tmp_path: Path) -> None:
    home = lived_in_home(tmp_path)
    (path,) = (home / "status" / "trace").glob("*.trace")
    data = path.read_bytes()
    first = 4 + int.from_bytes(data[:4], "little")
    path.write_bytes(data[first:])
    with pytest.raises(OperatorError, match="the start of checkpointer is not in the trace"):
        replay_command(home, "checkpointer")


# A small house with everything an actor can do, on real threads and the real clock.


class Go(Message, frozen=True):
    what: str


class Went(Message, frozen=True):
    what: str
    value: Any = None


class Later(Message, frozen=True):
    what: str


class Answer(Message, frozen=True):
    value: int


class HowMany(Question[Answer], frozen=True):
    wrong: bool = False


class Unanswered(Question[Answer], frozen=True):
    pass


class Item(Message, frozen=True):
    number: int


class OddError(Exception):
    """Asks its constructor for more than it keeps."""

    def __init__(self, text: str, *, number: int) -> None:
        super().__init__(text)
        self.number = number


class Busy(Actor):
    """Does one of everything."""

    def __init__(self) -> None:
        self.count = 0

    async def on_start(self) -> None:
        known = await self.blocking(lambda: (Item(1), Item(2)))
        await self.send(Went("started", sum(item.number for item in known)))

    @on
    async def go(self, go: Go) -> None:  # noqa: C901 - a list of deeds
        self.count += 1
        match go.what:
            case "ask":
                await self.send(Went("asked", (await self.ask(HowMany(), timeout=2)).value))
            case "ask wrongly":
                try:
                    await self.ask(HowMany(wrong=True), timeout=2)
                except AskFailed as failed:
                    await self.send(Went("failed", str(failed)))
            case "ask in vain":
                try:
                    await self.ask(Unanswered(), timeout=0.01)
                except AskTimeout as failed:
                    await self.send(Went("timed out", str(failed)))
            case "read":
                try:
                    await self.blocking(lambda: Path("/no/such/place").read_bytes())
                except FileNotFoundError as error:
                    await self.send(Went("no file", error.filename))
            case "odd":
                try:
                    await self.device_call(_odd)
                except OddError as error:
                    await self.send(Went(str(error), error.number))
            case "device":
                self.on_device(lambda: Later("from the thread"))
                self.post_later(0.0, Later("after a while"))
                self.post(Later("at once"))
                await self.blocking(lambda: asyncio.run(asyncio.sleep(0.05)))
                await self.send(Went("all of them"))
            case "measure":
                began = self.clock.monotonic()
                await self.blocking(lambda: asyncio.run(asyncio.sleep(0.3)))
                await self.send(Went(self.clock.now().isoformat(), self.clock.monotonic() - began > 0.29))
            case "change":
                found = await self.blocking(lambda: {"a": 1})
                await self.send(Went("found", sorted(found)))
                found["b"] = 2
            case "ticket":
                for ticket in (self.cloakroom.leave({}), "gone"):
                    files = self.cloakroom.look(ticket)
                    await self.send(Went("good" if files is not None else "gone"))
            case "commit":
                ticket = "snapshot-1"
                if self.cloakroom.look(ticket) is None:
                    await self.send(Went("gone"))
                else:
                    await self.blocking(lambda: None)
                    self.cloakroom.hand_back(ticket)
            case "large":
                await self.send(Went("large", len(await self.blocking(lambda: b"x" * 100_000))))
            case "crash":
                await self.send(Went("last words"))
                raise OddError("as told", number=3)

    @on
    async def later(self, later: Later) -> None:
        await self.send(Went(later.what, self.count))

    @every(0.05)
    async def tick(self) -> None:
        await self.send(Went("tick"))


def _odd() -> None:
    raise OddError("odd", number=7)


class Other(Actor):
    """Answers, and hears."""

    @on
    async def how_many(self, question: HowMany) -> Answer:
        if question.wrong:
            raise OddError("no", number=1)
        return Answer(42)

    @on
    async def unanswered(self, _: Unanswered) -> Answer:
        await asyncio.sleep(0.05)
        return Answer(0)

    @on
    async def heard(self, _: Went) -> None:
        """It is heard."""


QUICK = Backoff(first=0.001, most=0.002)


def tree(**more: Any) -> Branch:
    return Branch("root", (Child("other", Other, backoff=QUICK), Child("busy", Busy, backoff=QUICK, **more)))


async def lived(tmp_path: Path, branch: Branch, *told: str) -> list[Any]:
    """Run it, tell it, stop it; returns its runs, through the disk and back."""
    disk = Disk(tmp_path)
    system = ActorSystem(
        branch, clock=SystemClock(), disk=disk, workers=ThreadWorkers(), make_device=DeviceThread, strict=False
    )
    task = asyncio.create_task(system.run())
    await asyncio.sleep(0.05)
    for what in told:
        await system.send(Go(what))
    give_up_at = asyncio.get_running_loop().time() + 5
    while system.cells["busy"].mailbox.depth or system.cells["busy"].mailbox.in_hand:
        assert asyncio.get_running_loop().time() < give_up_at
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    system.stop("enough")
    with contextlib.suppress(Exception):
        await task
    trace_files.TraceWriter(disk, "status/trace", file_bytes=1 << 22, keep=2).append(system.trace.since(0))
    return runs(trace_files.read(disk, "status/trace"))


async def replayed(tmp_path: Path, branch: Branch, *told: str) -> Outcome:
    run, incarnation = newest_incarnation(await lived(tmp_path, branch, *told), "busy")
    child = next(child for child in branch.children if child.name == "busy")
    assert isinstance(child, Child)
    return await replay(child, run, incarnation, branch, [])


DEEDS = ["ask", "ask wrongly", "ask in vain", "read", "odd", "device", "measure", "change", "commit"]


@pytest.mark.parametrize("what", DEEDS)
async def test_all_an_actor_can_do_comes_out_of_the_record(tmp_path: Path, what: str) -> None:
    outcome = await replayed(tmp_path, tree(), what)
    assert outcome.why == ""
    assert outcome.messages_in > 1
    assert outcome.messages_out > 2


async def test_a_crash_and_the_life_after_it_agree(tmp_path: Path) -> None:
    branch = tree(on_crash=Retry(1))
    recorded = await lived(tmp_path, branch, "ask", "crash", "odd")
    run, newest = newest_incarnation(recorded, "busy")
    assert newest.started.attempt == 3
    busy = branch.children[1]
    assert isinstance(busy, Child)
    assert (await replay(busy, run, newest, branch, [])).why == ""
    # The life that ended in the crash, by cutting off what came after.
    crash = next(n for n, r in enumerate(run.records) if r.kind == "crashed")
    cut = runs(run.records[: crash + 1])
    run, first = newest_incarnation(cut, "busy")
    assert first.handlings[-1].crash == "tests.tools.test_replay.OddError: as told"
    outcome = await replay(busy, run, first, branch, [])
    assert outcome.why == ""


async def test_what_leaves_no_record_ends_the_replay_in_words(tmp_path: Path) -> None:
    outcome = await replayed(tmp_path, tree(), "ticket")
    assert "what is left in the cloakroom outside of a job leaves no record" in outcome.why


async def test_a_result_that_was_too_large_to_keep_ends_the_replay_in_words(tmp_path: Path) -> None:
    outcome = await replayed(tmp_path, tree(), "large")
    assert "at Go #" in outcome.why
    assert "the result of a blocking job, a bytes that was too large to keep" in outcome.why


async def test_a_crash_that_no_longer_comes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = tree()
    recorded = await lived(tmp_path, branch, "crash")
    crash = next(n for n, r in enumerate(recorded[0].records) if r.kind == "crashed")
    run, first = newest_incarnation(runs(recorded[0].records[: crash + 1]), "busy")

    async def calm(self: Busy, go: Go) -> None:
        await self.send(Went("last words"))

    monkeypatch.setattr(Busy, "go", calm)
    calm.__annotations__.update(go=Go)
    monkeypatch.setattr(calm, "__nightfold_on__", False, raising=False)
    busy = branch.children[1]
    assert isinstance(busy, Child)
    outcome = await replay(busy, run, first, branch, [])
    assert "it crashed (tests.tools.test_replay.OddError: as told) in the record, it did not crash" in outcome.why


@pytest.mark.parametrize(
    ("then", "now", "path"),
    [
        ({"seconds": 1.0}, {"seconds": 1.2}, ""),
        ({"seconds": 1.0}, {"seconds": 2.0}, "m.seconds"),
        ({"loss": 1.0}, {"loss": 1.0000001}, "m.loss"),
        ({"when": "2026-01-01T03:00:00+01:00"}, {"when": "2026-01-01T02:00:01+00:00"}, ""),
        ({"when": "2026-01-01T03:00:00"}, {"when": "2026-01-01T03:01:00"}, "m.when"),
        ({"names": ["a", "b"]}, {"names": ["a", "c"]}, "m.names[1]"),
        ({"names": ["a"]}, {"names": ["a", "b"]}, "m.names"),
        ({"a": 1}, {"a": 1, "b": 2}, "m.b"),
        ({"a": None}, {"a": 0}, "m.a"),
    ],
)
def test_what_counts_as_the_same(then: Any, now: Any, path: str) -> None:
    found = difference(then, now, "m")
    assert found.partition(" ")[0] == path
