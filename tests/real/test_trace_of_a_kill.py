"""What a real daemon that was killed leaves in its trace: it can be read, shown, and every actor replays from it.

One story serves all: a good and a bad file, ``kill -9`` in the middle of the good one, a second life that goes on with
it, a night, another file, a stop in order. A plug-in that uses every door an actor has lives in the same house.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from runtime import trace_files
from runtime.disk import Disk
from tests.real.daemons import Daemon, Home, Nursery, lesson
from tests.tools import chrome_trace, mermaid
from tools.commands.trace import trace
from tools.replay import replay_command
from tools.trace_views.batch_story import find_story, show
from tools.trace_views.perfetto import perfetto
from tools.trace_views.recorded import read_runs
from tools.trace_views.sequence import sequence

pytestmark = [pytest.mark.real, pytest.mark.timeout(240), pytest.mark.xdist_group("trace_of_a_kill")]

PLUGIN = """\
from __future__ import annotations

from pathlib import Path

from messages import BatchFiled, BatchStarted, GenerationCommitted, Message, StateWanted
from runtime import Actor, every, on


class Nudge(Message, frozen=True):
    number: int


class Tally(Message, frozen=True):
    what: str
    number: int


class Tallyman(Actor):
    async def on_start(self) -> None:
        self.count = await self.blocking(lambda: self.disk.free_bytes() % 1000)
        self.count += await self.device_call(lambda: 42)

    @on
    async def filed(self, filed: BatchFiled) -> None:
        size = await self.blocking(lambda: self.disk.stat(filed.path).size)
        self.post_later(0.02, Nudge(number=size))
        self.post(Nudge(number=1))

    @on
    async def started(self, started: BatchStarted) -> None:
        self.count += len(Path("/proc/self/cmdline").read_bytes()) > 0

    @on
    async def committed(self, made: GenerationCommitted) -> None:
        self.count += (await self.ask(StateWanted(), timeout=20)).generation
        self.on_device(lambda: Nudge(number=made.generation))

    @on
    async def nudged(self, nudge: Nudge) -> None:
        self.count += nudge.number
        await self.send(Tally(what=f"{self.count} in {self.clock.now():%Y}", number=nudge.number))

    @on
    async def tally(self, tally: Tally) -> None:
        self.last = tally

    @every(0.3)
    async def look(self) -> None:
        self.post(Nudge(number=int(self.clock.monotonic() > 0)))
"""
MODULE = "tallyman_of_the_kill"
HOUSE = ("status_reporter", "disk_guard", "checkpointer", "trainer", "validator", "inbox_watcher", "consolidator")
SILENT = ("status_reporter", "last_one_out")
"""They say nothing to anyone: what agrees of them is that they take what they are given and ask for the same jobs."""


@pytest.fixture(scope="module")
def killed(nursery: Nursery, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home after the story. What the killed life had written is kept beside it, as ``at the kill``."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "plugins").mkdir()
    (folder / "plugins" / f"{MODULE}.py").write_text(PLUGIN)
    home = Home(folder / "home", tiny_model)
    home.configure(trainer={"slice_steps": 1}, **{"plugins.tallyman": {"actor": f"{MODULE}:Tallyman"}})
    home.drop("bad.jsonl", [*lesson(3, 1), "not JSON"])
    home.drop("good.jsonl", lesson(1, 42))  # two of them are held out
    life: Daemon | None = None
    try:
        life = nursery.bear("run", home.path, path=(folder / "plugins",))
        life.until("it is in the middle", lambda: home.steps_committed() >= 6 and home.has("rejected/bad.jsonl"))
        life.until("that is in the trace", lambda: is_recorded(home, "GenerationCommitted", 3))
        life.kill()
        (home.path / "status" / "trace").joinpath("at the kill").write_bytes(trace_bytes(home))
        life = nursery.bear("run", home.path, path=(folder / "plugins",))
        life.until("trained", lambda: home.has("trained/good.jsonl") and home.status()["state"] == "idle")
        (home.path / ".consolidate").touch()
        life.until("a night", lambda: home.head()["ledger"])
        home.drop("more.jsonl", lesson(2, 8))
        life.until("trained after the night", lambda: home.has("trained/more.jsonl.receipt.json"))
        time.sleep(0.5)  # the plug-in has a message for later
        life.signal(signal.SIGTERM)
        assert life.end() == 0, life.said
    finally:
        if life is not None:
            life.kill()
    return home


def trace_bytes(home: Home) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((home.path / "status" / "trace").glob("*.trace")))


def is_recorded(home: Home, kind: str, times: int) -> bool:
    """Is it on disk, so many times?"""
    records = trace_files.read(Disk(home.path), "status/trace")
    return sum(record.kind == "sent" and record.type == kind for record in records) >= times


def test_what_was_written_before_the_kill_decodes_up_to_wherever_it_is_torn(killed: Home) -> None:
    data = (killed.path / "status" / "trace" / "at the kill").read_bytes()
    records = list(trace_files.decode(data))
    assert [record.number for record in records] == list(range(1, len(records) + 1))
    assert trace_files.whole_frames(data) > len(data) - 4096, "a kill costs what was being written, and no more"
    for cut in range(len(data) - 400, len(data), 13):
        torn = list(trace_files.decode(data[:cut]))
        assert torn == records[: len(torn)]
        assert len(torn) >= len(records) - 10


def test_list_shows_the_killed_life_and_the_one_after_it(killed: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(killed.path, "list", None, None) == 0
    _, first, second = capsys.readouterr().out.splitlines()
    assert "  killed  " in first
    assert "  stopped  " in second
    assert {"bad.jsonl", "good.jsonl"} <= set(first.replace(",", "").split())
    assert {"good.jsonl", "more.jsonl"} <= set(second.replace(",", "").split())


def test_the_story_of_the_file_goes_from_its_drop_over_the_kill_to_its_last_commit(killed: Home) -> None:
    runs = read_runs(killed.path)
    lines = list(show(find_story(runs, "good.jsonl")))
    assert lines[0].endswith("over 2 lives of the daemon")
    died, went_on = (place for place, line in enumerate(lines) if "  -- " in line)
    assert "the daemon died here: killed, or the power went" in lines[died]
    assert "; generation" in lines[died]
    resumed = next(int(d.field("step")) for d in runs[1].deliveries.values() if d.type == "BatchStarted")
    assert resumed >= 6
    assert lines[went_on].endswith(f"(run 2); the batch goes on at step {resumed} of 20")
    before = [line.split()[1] for line in lines[1:died]]
    after = [line.split()[1] for line in lines[went_on + 1 :]]
    for told in ("BatchClaimed", "BatchAccepted", "BatchOpened", "CommitGeneration", "GenerationCommitted"):
        assert told in before, told
        assert told in after, told
    assert "BatchFiled" in after
    assert "BatchFiled" not in before
    offsets = [float(line.split()[0]) for line in lines if line.split()[0].startswith("+")]
    assert offsets[0] == 0.0
    assert max(offsets[: len(before)]) < min(offsets[len(before) :])


def test_the_diagram_of_it_parses_and_shows_the_kill(killed: Home) -> None:
    names, arrows, notes = mermaid.parse(list(sequence(find_story(read_runs(killed.path), "good.jsonl"))))
    assert {"inbox_watcher", "validator", "trainer", "checkpointer"} <= set(names.values())
    assert arrows > 10
    assert notes >= 1


def test_the_chart_of_both_lives_is_well_formed(killed: Home) -> None:
    runs = read_runs(killed.path)
    events = chrome_trace.check(perfetto(runs))
    named = {(event["pid"], event["args"]["name"]) for event in events if event["name"] == "thread_name"}
    for run in (1, 2):
        for track in ("trainer", "trainer: device", "trainer: mailbox", "checkpointer: blocking", "plugins.tallyman"):
            assert (run, track) in named, track
    for kind, cat in (("begun", "handler"), ("job", "blocking"), ("device", "device")):
        recorded = sum(record.kind == kind for run in runs for record in run.records)
        assert sum(event.get("cat") == cat for event in events) == recorded, cat
    deaths = [event["name"] for event in events if event["ph"] == "i" and event["s"] == "p"]
    assert deaths == ["killed", "stopped"]
    assert sum(event["ph"] == "s" for event in events) > 100


@pytest.mark.parametrize("actor", [*HOUSE, "last_one_out", "tallyman"])
def test_every_actor_of_the_house_replays_both_of_its_lives(
    killed: Home, actor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(killed.path.parent / "plugins")
    agrees, lines = replay_command(killed.path, actor, incarnation="all")
    assert agrees, "\n".join(lines)
    verdicts = [line for line in lines if line.startswith("replay ")]
    assert len(verdicts) == 2, lines
    for verdict in verdicts:
        assert "the record goes on" not in verdict, lines
        counts = [int(word) for word in verdict.split() if word.isdecimal()]
        assert counts[0] > 0
        assert (counts[1] > 0) is (actor not in SILENT), verdict
    looked = [line for line in lines if "past self.blocking" in line]
    assert bool(looked) is (actor == "tallyman")
