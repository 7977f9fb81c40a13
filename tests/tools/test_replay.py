"""replay: every actor of a house that ran says again what it said, and a change of its mind is named."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.inbox_watcher.actor import InboxWatcher, InboxWatcherSettings
from actors.validator.actor import Validator
from messages import HeldOutLoss, Message, Question
from runtime import Actor, ActorSystem, AskFailed, AskTimeout, Backoff, Branch, Child, Retry, every, on, trace_files
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.errors import OperatorError
from runtime.trace import Record
from runtime.worker import DeviceThread, ThreadWorkers
from tests.tools.simulated_home import lived_in_home
from tools import replay_difference
from tools.commands.trace import trace
from tools.replay import Chosen, _RecordedMerger, choose, replay_command
from tools.replay_cell import ReplayCell
from tools.replay_difference import first_field
from tools.replay_life import Outcome, replay
from tools.replay_record import Incarnation, incarnations
from tools.replay_window import Said
from tools.simulated_house import universe
from tools.trace_views.recorded import Run, runs

WORSE = HeldOutLoss(2, 30, merged=1.75, adapter=1.5, yesterday=2.0)
HOUSE = ("status_reporter", "disk_guard", "checkpointer", "trainer", "validator", "inbox_watcher", "consolidator")


def newest(recorded: list[Run], actor: str) -> Incarnation:
    """The newest incarnation that is recorded whole."""
    return choose(recorded, actor, None, None)[0][-1]


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
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("replay differs after 0 messages in, 0 out: it says another BatchAccepted, at BatchClaim")
    assert re.fullmatch(r"  which    message 1 of the \d+ it said", told[2])
    claimed = (
        r"BatchClaimed #\d+ from inbox_watcher \(batch=000001 name=chats.jsonl path=state/batches/000001/chats.jsonl\)"
    )
    assert re.fullmatch(rf"  in hand  {claimed}, message 1 of \d+ in", told[3])
    assert told[4:] == ["  field    BatchAccepted.warnings", "  recorded []", "  replayed ['it looks odd']"]


def test_a_message_less_and_a_message_more_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = lived_in_home(tmp_path)
    real = Actor.send

    async def mute(self: Actor, message: Message) -> None:
        await real(self, Unheard() if type(message).__name__ == "BatchAccepted" else message)

    async def twice(self: Actor, message: Message) -> None:
        await real(self, message)
        await real(self, message)

    monkeypatch.setattr(Actor, "send", mute)
    assert "it said BatchAccepted then, and does not now, at BatchClaimed #" in said(home, "validator")
    assert "replayed nothing more" in said(home, "validator")
    monkeypatch.setattr(Actor, "send", twice)
    assert "it says BatchAccepted now, and did not then, at BatchClaimed #" in said(home, "validator")
    assert "recorded nothing more\n  replayed BatchAccepted {" in said(home, "validator")


def test_another_order_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = lived_in_home(tmp_path)
    real = Actor.send
    held: list[Message] = []

    async def later(self: Actor, message: Message) -> None:
        """Says the snapshot of the day only after what is said next."""
        if type(message).__name__ == "SnapshotKept":
            held.append(message)
            return
        await real(self, message)
        while held:
            await real(self, held.pop())

    monkeypatch.setattr(Actor, "send", later)
    told = said(home, "checkpointer")
    assert re.search(r"it said SnapshotKept then, and says \w+ now, at CommitGeneration #", told), told


def test_an_exception_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = lived_in_home(tmp_path)

    def no_warnings(*_: object) -> tuple[str, ...]:
        raise LookupError("which warnings?")

    monkeypatch.setattr(Validator, "_warnings", no_warnings)
    told = said(home, "validator")
    assert "it crashes now, and did not then, at BatchClaimed #" in told
    assert "recorded it did not crash\n  replayed LookupError: which warnings?" in told
    assert "which    after 0 of the " in told


def test_a_run_and_an_incarnation_can_be_chosen(tmp_path: Path) -> None:
    home = lived_in_home(tmp_path)
    another_life(home)
    everything: list[tuple[Chosen, Chosen]] = [("all", None), (None, "all"), ("all", 1)]
    for run, incarnation in everything:
        agrees, lines = replay_command(home, "disk_guard", run=run, incarnation=incarnation)
        assert agrees
        heads = [line.split(", ")[1] for line in lines if line.startswith("disk_guard")]
        assert heads == ["incarnation 1 of run 1", "incarnation 1 of run 2"]
    assert "of run 1," in replay_command(home, "disk_guard", run=1)[1][0]
    assert "of run 2," in replay_command(home, "disk_guard", incarnation=1)[1][0]
    with pytest.raises(OperatorError, match="there is no run 3"):
        replay_command(home, "disk_guard", run=3)
    with pytest.raises(OperatorError, match="the start of disk_guard is not in the trace"):
        replay_command(home, "disk_guard", incarnation=2)


def another_life(home: Path) -> None:
    """The same life once more, ten seconds later."""
    (first,) = (home / "status" / "trace").glob("*.trace")
    frames = bytearray()
    for record in trace_files.decode(first.read_bytes()):
        record.at += 10.0
        data = msgspec.msgpack.encode(record)
        frames += len(data).to_bytes(4, "little") + data
    first.with_name("999999.trace").write_bytes(frames)


def said(home: Path, actor: str) -> str:
    """What a replay that differs prints."""
    agrees, lines = replay_command(home, actor)
    assert not agrees
    return "\n".join(lines)


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


class Unheard(Message, frozen=True):
    """Nobody handles this, so saying it leaves no trace."""


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

    writes_to = Path("/nowhere")

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
            case "neighbours":
                cells = getattr(self.system, "cells", {})
                await self.send(Went("looked around"))
                await self.send(Went("neighbours", len(self.system.cells) - len(cells)))
            case "thread":
                self.on_device(lambda: Later("from the thread"))
            case "later":
                self.post_later(0.02, Later(f"{self.count} for later"))
            case "look":
                await self.send(Went("looked", len(Path("/proc/self/cmdline").read_bytes()) > 0))
            case "write":
                with contextlib.suppress(Exception):
                    self.writes_to.write_text("it was written")
            case "measure":
                began = self.clock.monotonic()
                await self.blocking(lambda: asyncio.run(asyncio.sleep(0.3)))
                await self.send(Went(self.clock.now().isoformat(), self.clock.monotonic() - began > 0.29))
            case "mapping":
                items = await self.blocking(self._numbered)
                await self.send(Went("numbered", items["two"].number))
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

    def _numbered(self) -> dict[str, Item]:
        return {"one": Item(1), "two": Item(2)}

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


Deed = Callable[[Busy, Go], Awaitable[Any]]

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
    return await again(newest(await lived(tmp_path, branch, *told), "busy"), branch)


async def again(one: Incarnation, branch: Branch) -> Outcome:
    """Replay it."""
    child = next(child for child in branch.children if child.name == "busy")
    assert isinstance(child, Child)
    return await replay(child, one, branch, [])


DEEDS = [
    "ask",
    "ask wrongly",
    "ask in vain",
    "read",
    "odd",
    "device",
    "measure",
    "change",
    "commit",
    "later",
    "mapping",
]


@pytest.mark.parametrize("what", DEEDS)
async def test_all_an_actor_can_do_comes_out_of_the_record(tmp_path: Path, what: str) -> None:
    outcome = await replayed(tmp_path, tree(), what)
    assert outcome.why == ""
    assert outcome.messages_in > 1
    assert outcome.messages_out > 2


async def test_every_life_agrees_the_one_that_crashed_too(tmp_path: Path) -> None:
    branch = tree(on_crash=Retry(1))
    (run,) = await lived(tmp_path, branch, "ask", "crash", "odd")
    lives = incarnations(run, "busy")
    assert [one.number for one in lives] == [1, 2, 3]
    ends = []
    for one in lives:
        assert isinstance(one, Incarnation)
        assert (await again(one, branch)).why == ""
        ends.append((one.end, one.handlings[-1].crash if one.end == "crashed" else ""))
    crash = ("crashed", "tests.tools.test_replay.OddError: as told")
    assert ends == [crash, crash, ("stopped", "")]


async def test_a_start_that_crashed_agrees_and_one_that_no_longer_does_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = tree()
    started: list[int] = []

    async def late(self: Busy) -> None:
        await self.blocking(lambda: None)
        started.append(1)
        if started[1:] == []:
            raise OddError("not yet", number=1)

    monkeypatch.setattr(Busy, "on_start", late)
    (run,) = await lived(tmp_path, branch, "ask")
    first, second = incarnations(run, "busy")
    assert isinstance(first, Incarnation)
    assert isinstance(second, Incarnation)
    assert (first.crash, second.crash) == ("tests.tools.test_replay.OddError: not yet", "")
    assert (await again(second, branch)).why == ""
    assert (await again(first, branch)).why == "it crashed then, and does not now, at on_start"
    started.clear()
    assert (await again(first, branch)).why == ""


async def test_what_leaves_no_record_ends_the_replay_in_words_and_is_no_difference(tmp_path: Path) -> None:
    outcome = await replayed(tmp_path, tree(), "ticket", "ask")
    assert outcome.why == ""
    assert "what is left in the cloakroom outside of a job leaves no record" in outcome.missing
    assert outcome.messages_in < outcome.of_in


async def test_a_look_at_the_neighbours_ends_the_replay_in_words_unless_it_can_do_without(tmp_path: Path) -> None:
    outcome = await replayed(tmp_path, tree(), "neighbours")
    assert outcome.why == ""
    assert "cannot be replayed: the record does not hold what system.cells is" in outcome.missing


async def test_a_result_that_was_too_large_to_keep_is_a_note_that_names_the_message(tmp_path: Path) -> None:
    outcome = await replayed(tmp_path, tree(), "ask", "large", "ask")
    assert outcome.why == ""
    assert re.fullmatch(
        r"Go #\d+ from outside, message \d+ of \d+ in, cannot be replayed: the record does not hold the result of a "
        r"blocking job: a bytes that was not kept, being larger than 16384 bytes, or no plain data",
        outcome.missing,
    )


async def test_of_an_inbox_of_ten_thousand_files_the_survey_is_not_kept_and_that_is_no_difference(
    tmp_path: Path,
) -> None:
    for folder in ("inbox", "state", "state/batches"):
        (tmp_path / folder).mkdir()
    for number in range(10_000):
        (tmp_path / "inbox" / f"{number:05d}.jsonl").touch()
    branch = Branch(
        "root",
        (
            Child("other", Other),
            Child("busy", Busy),
            Child("inbox_watcher", InboxWatcher, settings=InboxWatcherSettings()),
        ),
    )
    (run,) = await lived(tmp_path, branch, "ask")
    (one,) = incarnations(run, "inbox_watcher")
    assert isinstance(one, Incarnation)
    watcher = branch.children[2]
    assert isinstance(watcher, Child)
    outcome = await replay(watcher, one, branch, [])
    assert outcome.why == ""
    assert "cannot be replayed: the record does not hold the result of a blocking job: a Survey that" in outcome.missing


async def test_what_is_read_past_the_doors_is_noted_and_what_would_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "note"
    monkeypatch.setattr(Busy, "writes_to", note)
    branch = tree()
    recorded = await lived(tmp_path, branch, "look", "write")
    assert note.read_text() == "it was written"
    note.unlink()
    outcome = await again(newest(recorded, "busy"), branch)
    assert outcome.notes[0] == "it read /proc/self/cmdline past self.blocking: not recorded, so it was done again"
    assert outcome.why == ""
    assert outcome.missing.endswith(f"the record does not hold what writing to {note} gave"), "though it was caught"
    assert not note.exists()


async def test_a_crash_that_no_longer_comes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branch = tree()
    (run,) = await lived(tmp_path, branch, "crash")
    first = incarnations(run, "busy")[0]
    assert isinstance(first, Incarnation)
    change(monkeypatch, lambda busy, _: busy.send(Went("last words")))
    outcome = await again(first, branch)
    assert outcome.why.startswith("it crashed then, and does not now, at Go #")
    assert outcome.details[-2:] == [
        "recorded tests.tools.test_replay.OddError: as told",
        "replayed it does not crash",
    ]


async def nothing(_: object = None) -> None:
    """Do it, and no more."""


async def both(busy: Busy, go: Go) -> None:
    """As it was, and once more."""
    busy.count += 1
    busy.post_later(0.02, Later(f"{busy.count} for later"))
    busy.post_later(0.01, Later("one more"))


@pytest.mark.parametrize(
    ("told", "deed", "words"),
    [
        ("ask", lambda busy, _: nothing(), "it said HowMany then, and does not now"),
        ("later", lambda busy, _: busy.blocking(lambda: 1), "it waits for a blocking job now, and did not then"),
        (
            "read",
            lambda busy, _: busy.send(Went("no file", "/no/such/place")),
            "it waited for a blocking job then, and",
        ),
        ("odd", lambda busy, _: busy.send(Went("odd", 7)), "it waited for a device job then, and does not now"),
        ("later", lambda busy, _: nothing(), "it said Later to itself for later then, and does not now"),
        ("later", lambda busy, _: nothing(busy.post_later(0.02, Later("?"))), "it said Later to itself for later then"),
        ("later", both, "it says Later to itself for later now, and did not then"),
        ("device", lambda busy, _: nothing(), "it said Later then, and does not now"),
        ("thread", lambda busy, _: nothing(), "it gave its thread a job then, and does not now"),
    ],
)
async def test_every_other_change_of_what_it_does_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, deed: Deed, words: str
) -> None:
    branch = tree()
    monkeypatch.setattr(replay_difference, "DUE_TOLERANCE_SECONDS", 0.05)
    recorded = await lived(tmp_path, branch, told)
    change(monkeypatch, deed)
    outcome = await again(newest(recorded, "busy"), branch)
    assert outcome.why.startswith(words), outcome
    assert " at Go #" in outcome.why


def change(monkeypatch: pytest.MonkeyPatch, deed: Deed) -> None:
    """Have ``Busy`` do something else at ``Go``."""

    async def go(self: Busy, go: Go) -> None:
        await deed(self, go)

    go.__annotations__.update(go=Go)
    monkeypatch.setattr(go, "__nightfold_on__", False, raising=False)
    monkeypatch.setattr(Busy, "go", go)


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
        ({"a": "<X object at 0x7f01>"}, {"a": "<X object at 0x7f92>"}, ""),
    ],
)
def test_what_counts_as_the_same(then: Any, now: Any, path: str) -> None:
    found = first_field(then, now, "m")
    assert (found[0] if found else "") == path


@pytest.mark.parametrize(
    ("kind", "value", "outcome"),
    [
        (
            "NightVerified",
            {"tensors": 3, "max_logit_difference": 0.5, "seconds": 60.0, "held_out": None},
            MergeDone(3, 0, 0.5, 60.0),
        ),
        # As a version without the figures recorded it.
        ("NightVerified", {"tensors": 3, "max_logit_difference": 0.5, "seconds": 60.0}, MergeDone(3, 0, 0.5, 60.0)),
        (
            "NightRefused",
            {"code": "NF-MERGE-1", "why": "late", "held_out": None},
            MergeRefused("NF-MERGE-1", "late"),
        ),
        # The Consolidator refused it, and shall do so again, for the same figures.
        (
            "NightRefused",
            {"code": "NF-MERGE-032", "why": "worse", "held_out": msgspec.to_builtins(WORSE)},
            MergeDone(0, 0, 0.0, 0.0, held_out=WORSE),
        ),
    ],
)
async def test_n10_a_merge_is_read_off_what_was_said_of_it(
    kind: str, value: dict[str, object], outcome: MergeDone | MergeRefused
) -> None:
    cell = SimpleNamespace(expected=[Said(kind, value, 0.0, [])])
    merger = _RecordedMerger(lambda: cast("ReplayCell", cell))
    assert await merger.merge(MergeRequest((), "out", "")) == outcome
