"""The lives of a daemon in the views: how each ended, what was between them, and what a kill or a full disk leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import trace_files
from runtime.disk import Disk
from runtime.errors import OperatorError
from runtime.home_lock import HomeLock
from runtime.trace import Trace
from tests.tools import chrome_trace, mermaid
from tools.cli import main
from tools.commands.trace import trace
from tools.trace_views.batch_story import find_story, show
from tools.trace_views.perfetto import LANES_MAX, perfetto
from tools.trace_views.recorded import read_runs
from tools.trace_views.sequence import sequence

KILLED_AT_STEP = 7


class Life:
    """One daemon's trace, as a test tells it. ``at``: seconds of its monotonic clock, from noon and ``noon_s``."""

    def __init__(self, began: float, noon_s: int) -> None:
        self.trace = Trace()
        self.at = began
        self._id = 0
        self.trace.add(began, "clock", 0, 0, "clock", "clock", "datetime", body=f"2026-11-23T12:00:{noon_s:02d}+00:00")
        for actor in ("status_reporter", "trainer", "validator"):
            self.trace.add(began, "started", 0, 0, actor, actor, actor.title(), attempt=1)

    def said(self, sender: str, recipient: str, kind: str, cause: int = 0, **fields: Any) -> int:
        """One message, taken up a tenth of a second later and dealt with in as much."""
        self._id += 1
        number = self._id
        for edge in ("sent", "begun", "done"):
            body = {"type": kind, **fields} if edge == "sent" else None
            self.trace.add(self.at, edge, number, cause, sender, recipient, kind, body=body)
            self.at += 0.1
        return number

    def stop(self) -> None:
        for actor in ("validator", "trainer", "status_reporter"):
            self._id += 1
            self.trace.add(self.at, "sent", self._id, 0, "supervisor", actor, "Stop", body={"type": "Stop"})
            if actor != "status_reporter":
                self.trace.add(self.at, "stopped", 0, 0, actor, actor, actor.title(), attempt=1)


def claims(life: Life) -> int:
    return life.said("inbox_watcher", "validator", "BatchClaimed", batch="000001", name="a;b#.jsonl", path="state/x")


def trains(life: Life, cause: int, first: int, last: int) -> None:
    begun = life.said("validator", "trainer", "BatchAccepted", cause, batch="000001", name="a;b#.jsonl")
    life.said("trainer", "status_reporter", "BatchStarted", begun, batch="000001", step=first, steps=20)
    life.said("trainer", "status_reporter", "TrainingProgress", begun, batch="000001", step=last, steps=20)


@pytest.fixture
def two_lives(home: Path) -> Path:
    """A home whose daemon was killed over a batch, and went on with it after half a minute."""
    first = Life(1000.0, 0)
    trains(first, claims(first), 0, KILLED_AT_STEP)
    second = Life(50.0, 30)  # the machine was started anew in between
    trains(second, claims(second), 5, 20)
    second.said("inbox_watcher", "trainer", "BatchFiled", batch="000001", name="a;b#.jsonl", path="trained/x")
    second.stop()
    write(home, first, second)
    return home


def write(home: Path, *lives: Life) -> None:
    for life in lives:
        writer = trace_files.TraceWriter(Disk(home), "status/trace", file_bytes=1 << 20, keep=9)
        writer.append(life.trace.since(0))


def test_the_story_tells_where_the_daemon_died_and_where_it_went_on(two_lives: Path) -> None:
    lines = list(show(find_story(read_runs(two_lives), "1")))
    assert lines[0] == "batch 000001  a;b#.jsonl  from 2026-11-23 12:00:00  31.40 s in all over 2 lives of the daemon"
    between = [line.strip() for line in lines if " -- " in line]
    assert between == [
        (
            "-- the daemon died here: killed, or the power went; its last record is of 12:00:01, "
            "after step 7 of 20 (run 1)"
        ),
        "-- started again at 12:00:30, 28.90 s later (run 2); the batch goes on at step 5 of 20",
    ]
    offsets = [float(line.split()[0]) for line in lines if line.split()[0].startswith("+")]
    assert offsets[0] == 0.0
    assert sum(offset >= 30.0 for offset in offsets) == sum(offset < 2.0 for offset in offsets) + 1 == 5


def test_one_life_alone_can_be_asked_for(two_lives: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(two_lives, "show", "1", None, run=1) == 0
    told = capsys.readouterr().out
    assert "BatchFiled" not in told
    assert told.splitlines()[-1].endswith("(run 1); no later life knows of the batch")
    with pytest.raises(OperatorError, match="there is no run 3"):
        trace(two_lives, "perfetto", None, None, run=3)


def test_the_diagram_parses_whatever_a_file_is_called_and_shows_the_kill(two_lives: Path) -> None:
    lines = list(sequence(find_story(read_runs(two_lives), "")))
    names, arrows, notes = mermaid.parse(lines)
    assert set(names.values()) == {"inbox_watcher", "validator", "trainer"}
    assert (arrows, notes) == (5, 1)
    assert "the daemon died here" in "\n".join(lines)


def test_all_lives_stand_in_one_chart_with_the_time_between_them(two_lives: Path) -> None:
    events = chrome_trace.check(perfetto(read_runs(two_lives)))
    processes = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert processes == ["run 1 of 2026-11-23 12:00:00, killed", "run 2 of 2026-11-23 12:00:30, stopped"]
    first = [event["ts"] for event in events if event["ph"] != "M" and event["pid"] == 1]
    second = [event["ts"] for event in events if event["ph"] != "M" and event["pid"] == 2]
    assert min(first) == 0.0
    assert max(first) < 2e6
    assert min(second) == 30e6
    ends = [event["name"] for event in events if event["ph"] == "i" and event["s"] == "p"]
    assert ends == ["killed", "stopped"]
    queued = [event for event in events if event.get("cat") == "queue"]
    assert {event["dur"] for event in queued} == {100_000.0}


def test_more_waiting_messages_than_lanes_are_left_out_of_the_lanes_alone(home: Path) -> None:
    life = Life(0.0, 0)
    for number in range(1, 40):
        life.trace.add(1.0, "sent", number, 0, "a", "b", "Item", body={"type": "Item"})
    for number in range(1, 40):
        life.trace.add(1.0 + number, "begun", number, 0, "a", "b", "Item")
        life.trace.add(1.5 + number, "done", number, 0, "a", "b", "Item")
    write(home, life)
    events = chrome_trace.check(perfetto(read_runs(home)))
    assert sum(event.get("cat") == "queue" for event in events) == LANES_MAX
    assert sum(event.get("cat") == "handler" for event in events) == 39


def killed_while_stopping(life: Life) -> None:
    life.trace.add(life.at, "sent", 90, 0, "supervisor", "validator", "Stop", body={"type": "Stop"})


def gives_up(life: Life) -> None:
    life.said("supervisor", "status_reporter", "ActorGaveUp", actor="trainer", why="no", disabled=False)
    life.stop()


def a_plugin_is_given_up(life: Life) -> None:
    life.said("supervisor", "status_reporter", "ActorGaveUp", actor="plugins.x", why="no", disabled=True)
    life.stop()


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (lambda _: None, "killed"),
        (killed_while_stopping, "killed"),
        (Life.stop, "stopped"),
        (gives_up, "gave up"),
        (a_plugin_is_given_up, "stopped"),
    ],
)
def test_a_run_tells_how_it_ended(home: Path, ending: Callable[[Life], None], words: str) -> None:
    life = Life(0.0, 0)
    claims(life)
    ending(life)
    write(home, life)
    assert read_runs(home)[0].end == words


def test_list_shows_every_run_with_its_end_and_its_batches(two_lives: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(two_lives, "list", None, None) == 0
    head, first, second = (line.split("  ") for line in capsys.readouterr().out.splitlines())
    assert [cell.strip() for cell in head if cell] == ["run", "from", "until", "end", "records", "crashes", "batches"]
    cells = [cell.strip() for cell in first if cell]
    assert cells == ["1", "2026-11-23 12:00:00", "2026-11-23 12:00:01", "killed", "16", "0", "000001 a;b#.jsonl"]
    assert "stopped" in [cell.strip() for cell in second]


def test_what_a_power_cut_or_a_full_disk_left_does_not_hide_what_stands_before_and_after(two_lives: Path) -> None:
    first, second = sorted((two_lives / "status" / "trace").iterdir())
    whole = [len(run.records) for run in read_runs(two_lives)]
    good = first.read_bytes()
    for rubbish in (b"\0" * 100, b"\x03\0\0\0abc", good[-30:-10] + good[:200]):
        first.write_bytes(good + rubbish)
        assert [len(run.records) for run in read_runs(two_lives)] == whole
    for cut in range(len(good) - 200, len(good), 7):
        first.write_bytes(good[:cut])
        assert whole[0] - 12 < len(read_runs(two_lives)[0].records) < whole[0]
    second.write_bytes(b"\xff" * 50)
    assert len(read_runs(two_lives)) == 1


def test_the_newest_run_is_still_running_only_if_the_living_daemon_is_the_one_that_wrote_it(two_lives: Path) -> None:
    third = Life(500.0, 45)
    claims(third)
    write(two_lives, third)
    (two_lives / "state").mkdir(exist_ok=True)
    status = two_lives / "status" / "training_status.json"
    status.write_text('{"started": "2026-11-23T12:00:45+00:00"}')
    assert read_runs(two_lives)[-1].end == "killed"
    with HomeLock(two_lives):
        assert [run.end for run in read_runs(two_lives)] == ["killed", "stopped", "still running"]
        status.write_text('{"started": "2026-11-23T13:00:00+00:00"}')
        assert read_runs(two_lives)[-1].end == "killed", "that one lives, and was told not to record"
        status.write_text("nothing")
        assert read_runs(two_lives)[-1].end == "killed"


def test_the_command_line_takes_a_run_by_its_number_or_all(
    two_lives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chart = tmp_path / "chart.json"
    for wanted, processes in ((["--run", "all"], 2), (["--run", "1"], 1), ([], 1)):
        assert main(["trace", str(two_lives), "perfetto", "--out", str(chart), *wanted]) == 0
        events = chrome_trace.check(chart.read_bytes())
        assert sum(event["name"] == "process_name" for event in events) == processes
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["trace", str(two_lives), "list", "--run", "0"])
    assert ended.value.code == 2
    assert "invalid number of a run or an incarnation value: '0'" in capsys.readouterr().err
