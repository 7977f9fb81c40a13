"""trace: the views of a run that really happened, and of traces that are torn, rotated, doubled or not there."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path

import pytest

from runtime import trace_files
from runtime.disk import Disk
from runtime.errors import OperatorError
from runtime.trace import Record, Trace
from tests.tools import chrome_trace, mermaid
from tests.tools.simulated_home import lived_in_home
from tools.commands.trace import trace
from tools.trace_views.batch_story import Node, find_story, show, tree
from tools.trace_views.recorded import Run, read_runs, runs, seconds
from tools.trace_views.sequence import ARROWS_MAX, sequence
from tools.trace_views.tail import Follower, tail


@pytest.fixture
def lived_in(tmp_path: Path) -> Path:
    return lived_in_home(tmp_path / "home")


def everything(nodes: list[Node]) -> list[Node]:
    return [each for node in nodes for each in (node, *everything(node.children))]


def the_file(home: Path) -> Path:
    return next((home / "status" / "trace").glob("*.trace"))


@pytest.mark.parametrize("wanted", ["1", "000001", "chats.jsonl", "trained/chats.jsonl"])
def test_show_tells_a_batch_from_its_claim_to_its_filing(
    lived_in: Path, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trace(lived_in, "show", wanted, None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("batch 000001  chats.jsonl  from 2026-01-01 00:00:05"), "that is when it was dropped"
    told = [line.split()[1] for line in lines[1:]]
    ends = ["BatchClaimed", "BatchAccepted", "BatchOpened", "BatchExhausted", "BatchTrained", "BatchFiled"]
    assert [word for word in ends if word in told] == ends
    assert told[:3] == ["InboxSurveyed", "Tick", "BatchClaimed"]
    assert Counter(told)["StepsTaken"] == 1, "a slice after the other is one line"
    assert re.search(r"StepsTaken \(9 times\)  trainer → trainer  \[queued .*, handled .*\]", "\n".join(lines))


def test_each_line_stands_below_what_caused_it_and_none_is_of_another_batch(lived_in: Path) -> None:
    story = find_story(read_runs(lived_in), "last.jsonl")
    (part,) = story.parts
    seen, scan = tree(part)
    (claimed,) = scan.children
    assert (seen.type, scan.type, claimed.type) == ("InboxSurveyed", "Tick", "BatchClaimed")
    nodes = everything([claimed])
    by_type = {node.type: node for node in nodes}
    assert by_type["BatchFiled"] in by_type["BatchTrained"].children
    assert {d.field("batch") for node in nodes for d in node.deliveries} <= {None, story.batch}
    assert sum(len(node.deliveries) for node in nodes) == len(part.deliveries) - 2
    for node in nodes:
        assert all(child.at >= node.at for child in node.children), node.type


def test_a_rejected_batch_has_a_story_too(lived_in: Path) -> None:
    words = "\n".join(show(find_story(read_runs(lived_in), "broken.jsonl")))
    assert "BatchRejected  validator → trainer, inbox_watcher" in words
    assert "BatchFiled" in words
    assert "CommitGeneration" not in words


@pytest.mark.parametrize("wanted", ["99", "nobody.jsonl", "²"])
def test_a_batch_that_is_not_recorded_is_an_operators_mistake(lived_in: Path, wanted: str) -> None:
    with pytest.raises(OperatorError) as caught:
        trace(lived_in, "show", wanted, None)
    assert caught.value.code == "NF-CONF-011"
    assert "000004" in caught.value.hint


@pytest.mark.parametrize("view", ["show", "sequence", "perfetto"])
def test_without_a_trace_every_view_says_so(home: Path, view: str) -> None:
    with pytest.raises(OperatorError) as caught:
        trace(home, view, "1", None)
    assert caught.value.code == "NF-CONF-011"


def test_sequence_is_a_bounded_mermaid_diagram_of_the_newest_batch(
    lived_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace(lived_in, "sequence", None, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "    title batch 000004 last.jsonl"
    names, arrows, _ = mermaid.parse(lines)
    assert 0 < arrows <= ARROWS_MAX
    assert "inbox_watcher" in names.values()
    assert "status_reporter" not in names.values()


def test_a_long_sequence_has_a_gap_that_is_told() -> None:
    recorded = Trace()
    for number in range(1, 202):
        there, back = ("a", "b") if number % 2 else ("b", "a")
        body = {"batch": "000001", "name": "x;#\n.jsonl"}
        kind = "BatchClaimed" if number == 1 else "BatchStarted"
        recorded.add(number, "sent", number, number - 1, there, back, kind, body=body)
    lines = list(sequence(find_story(runs(trace_files.decode(trace_files.encode(recorded.since(0)))), "1")))
    assert sum("->>" in line for line in lines) == ARROWS_MAX
    assert [line for line in lines if "Note over" in line] == ["    Note over a0,a1: … 121 more arrows …"]
    assert mermaid.parse(lines) == ({"a0": "a", "a1": "b"}, ARROWS_MAX, 1)


def test_perfetto_is_chrome_trace_json_whose_arrows_bind_to_slices(lived_in: Path, tmp_path: Path) -> None:
    assert trace(lived_in, "perfetto", None, tmp_path / "run.json") == 0
    events = chrome_trace.check((tmp_path / "run.json").read_bytes())
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"trainer", "trainer: device", "checkpointer: blocking", "validator: mailbox"} <= names
    counts = Counter(event.get("cat") for event in events if event["ph"] == "X")
    kinds = Counter(record.kind for record in read_runs(lived_in)[-1].records)
    assert (counts["handler"], counts["blocking"], counts["device"]) == (kinds["begun"], kinds["job"], kinds["device"])
    assert counts["queue"] > 100
    assert sum(event["ph"] == "s" for event in events) > 50


def test_the_argument_names_perfettos_file_too(lived_in: Path, tmp_path: Path) -> None:
    trace(lived_in, "perfetto", str(tmp_path / "x.json"), None)
    assert (tmp_path / "x.json").read_bytes().startswith(b'{"traceEvents":[')


def test_a_crash_is_a_moment_on_its_track() -> None:
    from tools.trace_views.perfetto import perfetto

    recorded = Trace()
    recorded.add(1.0, "sent", 1, 0, "outside", "a", "BatchClaimed")
    recorded.add(1.5, "begun", 1, 0, "outside", "a", "BatchClaimed")
    recorded.add(1.75, "crashed", 1, 0, "outside", "a", "BatchClaimed", body="ValueError: no")
    recorded.add(1.75, "dead", 1, 0, "outside", "a", "BatchClaimed")
    (run,) = runs(trace_files.decode(trace_files.encode(recorded.since(0))))
    events = chrome_trace.check(perfetto([run]))
    moments = [(event["name"], event["ts"]) for event in events if event["ph"] == "i"]
    assert moments == [
        ("crashed: ValueError: no", 750_000.0),
        ("dead: BatchClaimed", 750_000.0),
        ("killed", 750_000.0),
    ]
    (delivery,) = run.deliveries.values()
    assert (delivery.queued_s, delivery.handled_s, delivery.end) == (0.5, 0.25, "dead")


def test_tail_into_a_pipe_prints_what_is_there_and_ends(lived_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trace(lived_in, "tail", None, None) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [r for run in read_runs(lived_in) for r in run.records if r.kind in ("sent", "started", "stopped")]
    assert len(lines) == len(told)
    assert re.match(
        r"00:00:1\d\.\d{3}  inbox_watcher → validator  BatchClaimed batch=000001", pick(lines, "→ validator")
    )


def pick(lines: list[str], words: str) -> str:
    return next(line for line in lines if words in line)


class Screen(io.StringIO):
    """A terminal, as far as ``isatty`` goes."""

    def isatty(self) -> bool:
        return True


def test_tail_on_a_terminal_shows_the_end_and_stops_with_the_daemon(lived_in: Path) -> None:
    screen = Screen()
    tail(lived_in, screen)
    assert len(screen.getvalue().splitlines()) == 40


def test_a_follower_sees_each_record_once_through_torn_frames_and_rotation(home: Path) -> None:
    writer = trace_files.TraceWriter(Disk(home), "status/trace", file_bytes=4096, keep=2)
    follower = Follower(Disk(home))
    recorded = Trace()
    seen: list[int] = []
    written = 0
    for number in range(1, 200):
        recorded.add(float(number), "sent", number, 0, "a", "b", "BatchClaimed", body={"batch": "000001"})
        writer.append(recorded.since(written))
        written = recorded.count
        path = max((home / "status" / "trace").iterdir())
        whole = path.read_bytes()
        path.write_bytes(whole[:-3])
        seen += [record.number for record in follower.fresh()]
        path.write_bytes(whole)
        seen += [record.number for record in follower.fresh()]
    assert seen == [record.number for record in recorded.since(0)]
    assert len(seen) == 199


def records(*numbers: int, at: float = 0.0) -> list[Record]:
    return [Record(number, at + number, "sent", number, 0, "a", "b", "T", 0, 0, None) for number in numbers]


def numbered(found: list[Run]) -> list[list[int]]:
    return [[record.number for record in run.records] for run in found]


def test_a_process_that_starts_anew_is_a_run_of_its_own() -> None:
    found = runs([*records(1, 2, 3), *records(1, 2, at=100.0)])
    assert numbered(found) == [[1, 2, 3], [1, 2]]


def test_what_a_restarted_reporter_wrote_again_is_there_once() -> None:
    found = runs([*records(1, 2, 3), *records(1, 2, 3, 4, 5)])
    assert numbered(found) == [[1, 2, 3, 4, 5]]
    assert found[0].whole
    assert not runs(records(7, 8))[0].whole


def test_of_a_torn_file_what_stands_before_the_tear_is_read(lived_in: Path) -> None:
    before = len(read_runs(lived_in)[0].records)
    path = the_file(lived_in)
    path.write_bytes(path.read_bytes()[:-5])
    assert len(read_runs(lived_in)[0].records) == before - 1


@pytest.mark.parametrize(
    ("value", "words"), [(0.0000123, "12 µs"), (0.25, "250.0 ms"), (2.5, "2.50 s"), (3600.0, "60 min")]
)
def test_stretches_of_time(value: float, words: str) -> None:
    assert seconds(value) == words
