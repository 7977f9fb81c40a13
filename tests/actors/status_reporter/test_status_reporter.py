"""The StatusReporter as an actor: the files under status/, whatever the disk does, and that it stops nobody."""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec
import pytest

from actors.status_reporter.actor import StatusReporter, StatusReporterSettings
from messages import (
    ActorStarted,
    BatchFiled,
    BatchStarted,
    BatchTrained,
    DiskMeasured,
    FileWithdrawn,
    InboxSurveyed,
    Receipt,
    TrainingIdle,
    TrainingPaused,
    TrainingProgress,
    TrainingResumed,
)
from runtime import Child, MailboxSpec
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import Fault, IoError, NoSpace, PowerCut, PowerLost, ShortWrite
from runtime.trace_files import files as trace_files
from runtime.trace_files import read as read_trace
from tests.actors.stage import Stage, fails_at

STATUS = "status/training_status.json"
STARTED = BatchStarted(batch="000001", name="a.jsonl", step=0, steps=10, examples=3, tokens=99)
RECEIPT = Receipt("000001", "a.jsonl", "d", 3, 2, 10, 1, 10, "a0001", 9, 1, 0, 2.0, 1.0, 5.0)
TRAINED = BatchTrained(batch="000001", name="a.jsonl", receipt=RECEIPT)


class Console:
    """Notes what a person would see."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: list[int | None] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, batch: TrainingProgress | None) -> None:
        self.bars.append(None if batch is None else batch.step)


def progress(step: int) -> TrainingProgress:
    return TrainingProgress(
        batch="000001",
        name="a.jsonl",
        step=step,
        steps=10,
        global_step=step,
        adapter_step=step,
        loss=1.5,
        learning_rate=2e-4,
        grad_norm=0.5,
        tokens_per_second=123.4,
        eta_s=6.5,
    )


def stage_of(disk: SimDisk | None = None, console: Console | None = None, **settings: Any) -> Stage:
    made = msgspec.convert({"trace_on_disk": False, **settings}, StatusReporterSettings)
    spec = MailboxSpec(4096, "dead_letter", (TrainingProgress, DiskMeasured, InboxSurveyed))
    child = Child(
        "status_reporter", StatusReporter, make=lambda: StatusReporter(console), settings=made, mailbox=spec
    )  # fmt: skip
    return Stage(child, disk=disk)


def page(disk: SimDisk) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(disk.read(STATUS))
    return found


def events(disk: SimDisk, path: str = "status/events.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in disk.read(path).splitlines()]


def test_the_page_is_there_from_the_start_and_says_who_writes_it() -> None:
    async def act(stage: Stage) -> None:
        found = page(stage.disk)
        assert (found["state"], found["pid"]) == ("idle", os.getpid())
        assert found["started"] == found["heartbeat"] == "2026-01-01T00:00:00+00:00"
        assert found["schema"] == 1

    stage_of().play(act)


def test_what_is_said_is_on_the_page_within_a_second() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(STARTED, progress(4))
        await stage.rest(1.1)
        found = page(stage.disk)
        assert (found["state"], found["batch"]["name"], found["batch"]["step"]) == ("training", "a.jsonl", 4)
        await stage.tell(DiskMeasured(5, 6, ok=False, batch_bytes=4, night_bytes=7, reserve_bytes=3, low=True))
        await stage.rest(1.1)
        figures = {"free_bytes": 5, "needed_bytes": 6, "batch_bytes": 4, "night_bytes": 7, "reserve_bytes": 3}
        assert page(stage.disk)["disk"] == {**figures, "ok": False, "low": True}

    stage_of().play(act)


def test_the_heart_beats_while_nothing_happens_and_no_faster() -> None:
    async def act(stage: Stage) -> None:
        await stage.rest(2)
        beats = set()
        for _ in range(300):
            await stage.rest(1)
            beats.add(page(stage.disk)["heartbeat"])
        assert 29 <= len(beats) <= 32

    stage_of(heartbeat_every_seconds=10.0).play(act)


def test_after_a_stop_the_page_says_so_and_nothing_is_left_in_training() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(STARTED, progress(4))
        await stage.rest(2)

    stage = stage_of().play(act)
    found = page(stage.disk)
    assert (found["state"], found["reason"], found["batch"]) == ("stopped", "the play is over", None)


def test_counts_begin_with_what_lies_there() -> None:
    disk = SimDisk()
    for folder, names in (
        ("trained", ("a.jsonl", "a.jsonl.receipt.json", "b.jsonl", "b.jsonl.receipt.json")),
        ("rejected", ("c.jsonl", "c.jsonl.report.json")),
    ):
        disk.person_mkdir(folder)
        for name in names:
            disk.person_put(f"{folder}/{name}", b"x")

    async def act(stage: Stage) -> None:
        assert page(stage.disk)["counts"] == {"trained": 2, "rejected": 1, "failed": 0}
        for name in ("z", "z.report.json"):
            stage.disk.person_put(f"failed/{name}", b"x")
        await stage.tell(BatchFiled(batch="000009", name="z", folder="failed", path="failed/z"))
        await stage.rest(2)
        assert page(stage.disk)["counts"] == {"trained": 2, "rejected": 1, "failed": 1}

    disk.person_mkdir("failed")
    stage_of(disk).play(act)


def test_a_filing_that_is_told_twice_or_never_is_counted_as_it_lies() -> None:
    disk = SimDisk()
    disk.person_mkdir("trained")
    for name in ("a.jsonl", "a.jsonl.receipt.json"):
        disk.person_put(f"trained/{name}", b"x")

    async def act(stage: Stage) -> None:
        filed = BatchFiled(batch="000001", name="a.jsonl", folder="trained", path="trained/a.jsonl")
        await stage.tell(filed)  # it lay there when the reporter began, and its message still waited
        await stage.tell(filed)  # a power cut made the InboxWatcher file it again
        await stage.rest(2)
        assert page(stage.disk)["counts"]["trained"] == 1
        stage.disk.person_put("trained/b.jsonl", b"x")  # the InboxWatcher crashed before it could tell
        await stage.tell(ActorStarted(actor="inbox_watcher", incarnation=2))
        await stage.rest(2)
        assert page(stage.disk)["counts"]["trained"] == 2

    stage_of(disk).play(act)


def test_every_event_has_a_line_with_its_time_and_measurements_have_none() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(STARTED, progress(4), DiskMeasured(free_bytes=5, needed_bytes=6, ok=False), TRAINED)
        await stage.rest(2)

    found = [one for one in events(stage_of().play(act).disk) if one["type"] != "ActorStarted"]
    assert [one["type"] for one in found] == ["BatchStarted", "BatchTrained"]
    assert found[0]["at"].startswith("2026-01-01T00:00:0")
    assert found[1]["receipt"]["loss_after"] == 1.0


def test_d2_events_are_set_aside_once_and_no_more_is_kept() -> None:
    async def act(stage: Stage) -> None:
        for number in range(200):
            await stage.tell(FileWithdrawn(name=f"{number:0100d}"))
            await stage.rest(1.1)

    disk = stage_of(events_bytes_max=2048).play(act).disk
    assert disk.listdir("status") == ["actors.json", "events.1.jsonl", "events.jsonl", "training_status.json"]
    for name in ("events.jsonl", "events.1.jsonl"):
        assert len(disk.read(f"status/{name}")) < 2048 + 200
    names = [one["name"] for path in ("status/events.1.jsonl", "status/events.jsonl") for one in events(disk, path)]
    assert names == [f"{number:0100d}" for number in range(200 - len(names), 200)], "the newest, in order, none missing"


@pytest.mark.parametrize("fault", [NoSpace(), ShortWrite(), IoError()])
def test_d3_a_disk_that_refuses_costs_writes_and_nothing_else(fault: Fault) -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(FileWithdrawn(name="before"))
        await stage.rest(2)
        stage.disk.faults = lambda _number, operation, _path: fault if operation in ("create", "write") else None
        for number in range(20):
            await stage.tell(FileWithdrawn(name=str(number)), progress(number))
            await stage.rest(3)
        assert page(stage.disk)["global_step"] == 0, "the last page that could be written"
        stage.disk.faults = None
        await stage.rest(2)
        assert page(stage.disk)["global_step"] == 19

    stage = stage_of().play(act)
    found = [one["name"] for one in events(stage.disk) if one["type"] == "FileWithdrawn"]
    assert found == ["before", *map(str, range(20))], "each once, each whole"
    assert stage.system.cells["status_reporter"].incarnation == 1


def test_d3_a_disk_that_takes_half_of_each_write_tears_no_line() -> None:
    async def act(stage: Stage) -> None:
        stage.disk.faults = lambda _number, operation, path: (
            ShortWrite() if operation == "write" and path.endswith("events.jsonl") else None
        )
        for number in range(10):
            await stage.tell(FileWithdrawn(name=f"{number} " + "x" * 500))
            await stage.rest(2)
        stage.disk.faults = None
        await stage.rest(2)

    disk = stage_of(events_bytes_max=1024).play(act).disk
    found = [
        one["name"].split()[0]
        for path in ("status/events.1.jsonl", "status/events.jsonl")
        if disk.stat(path) is not None
        for one in events(disk, path)
        if one["type"] == "FileWithdrawn"
    ]
    assert found == [str(number) for number in range(10)]


def test_d3_a_full_disk_does_not_keep_it_from_starting() -> None:
    disk = SimDisk()
    disk.faults = lambda _number, _operation, _path: NoSpace()

    async def act(stage: Stage) -> None:
        await stage.rest(5)
        stage.disk.faults = None
        stage.disk.person_mkdir("status")
        await stage.rest(12)
        assert page(stage.disk)["state"] == "idle"

    stage = stage_of(disk).play(act)
    assert stage.system.cells["status_reporter"].incarnation == 1


def test_events_that_wait_for_the_disk_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.status_reporter.actor.EVENTS_HELD_MAX", 20)

    async def act(stage: Stage) -> None:
        await stage.rest(2)
        stage.disk.faults = lambda _number, _operation, _path: NoSpace()
        for number in range(100):
            await stage.tell(FileWithdrawn(name=str(number)))
        await stage.rest(5)
        stage.disk.faults = None
        await stage.rest(2)

    found = [one["name"] for one in events(stage_of().play(act).disk) if one["type"] == "FileWithdrawn"]
    assert len(found) == 20
    assert found[-19:] == [str(number) for number in range(81, 100)]


def test_b2_the_page_is_whole_after_any_power_cut() -> None:
    async def act(stage: Stage) -> None:
        for number in range(1, 6):
            await stage.tell(progress(number))
            await stage.rest(1.1)

    operations = stage_of().play(act).disk.operations
    seen = set()
    for point in range(5, operations + 1):
        disk = SimDisk()
        fails_at(disk, point, PowerCut("torn", seed=point, halfway=bool(point % 2)))
        with pytest.raises(PowerLost):
            stage_of(disk).play(act)
        disk = disk.reboot()
        if disk.stat(STATUS) is not None:
            seen.add(page(disk)["global_step"])

        async def look(stage: Stage) -> None:
            assert page(stage.disk)["global_step"] == 0

        stage_of(disk).play(look)
        assert not [name for name in disk.listdir("status") if name.startswith(".")]
    assert seen == {0, 1, 2, 3, 4, 5}


def test_actors_are_described_beside_it() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(STARTED)
        await stage.rest(2)
        found = json.loads(stage.disk.read("status/actors.json"))
        assert [one["name"] for one in found["actors"]] == ["listener", "status_reporter"]
        assert found["actors"][1]["state"] == "running"

    stage_of().play(act)


def test_the_trace_goes_to_disk_bounded_and_in_order() -> None:
    async def act(stage: Stage) -> None:
        for number in range(300):
            await stage.tell(FileWithdrawn(name=f"{number:0200d}"))
            await stage.rest(1.1)

    disk = stage_of(trace_on_disk=True, trace_file_bytes=4096, trace_files=3).play(act).disk
    assert len(trace_files(disk, "status/trace")) == 3
    numbers = [record.number for record in read_trace(disk, "status/trace")]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] == len(numbers) - 1


def test_d3_a_trace_that_cannot_be_written_doubles_no_event() -> None:
    async def act(stage: Stage) -> None:
        stage.disk.faults = lambda _number, _operation, path: NoSpace() if "trace" in path else None
        for number in range(5):
            await stage.tell(FileWithdrawn(name=str(number)))
            await stage.rest(2)
        stage.disk.faults = None
        await stage.rest(20)

    disk = stage_of(trace_on_disk=True).play(act).disk
    assert [one["name"] for one in events(disk) if one["type"] == "FileWithdrawn"] == list("01234")
    numbers = [record.number for record in read_trace(disk, "status/trace")]
    assert numbers[0] == 1, "what could not be written then is written now"
    assert numbers == list(range(1, len(numbers) + 1))


def test_d3_while_the_disk_is_low_the_trace_waits_and_the_status_does_not() -> None:
    async def act(stage: Stage) -> None:
        await stage.tell(DiskMeasured(1, 2, ok=False, low=True))
        await stage.rest(2)
        written = trace_bytes(stage)
        before = page(stage.disk)["heartbeat"]
        for number in range(5):
            await stage.tell(FileWithdrawn(name=str(number)))
            await stage.rest(2)
        assert trace_bytes(stage) == written
        assert page(stage.disk)["heartbeat"] > before
        await stage.tell(DiskMeasured(3, 2, ok=True))
        await stage.rest(2)
        assert trace_bytes(stage) > written

    def trace_bytes(stage: Stage) -> int:
        return sum(len(data) for _, data in stage.disk.below("status/trace"))

    disk = stage_of(trace_on_disk=True).play(act).disk
    numbers = [record.number for record in read_trace(disk, "status/trace")]
    assert numbers == list(range(1, len(numbers) + 1)), "what happened meanwhile is written afterwards"


def test_a_person_sees_lines_and_a_bar() -> None:
    console = Console()

    async def act(stage: Stage) -> None:
        await stage.tell(STARTED, progress(4))
        await stage.rest(1)
        await stage.tell(TRAINED, TRAINED)  # said again after a restart of the Trainer
        await stage.tell(BatchFiled(batch="000001", name="a.jsonl", folder="trained", path="trained/a.jsonl"))
        await stage.tell(TrainingIdle(global_step=10), TrainingPaused(global_step=10), TrainingResumed())
        await stage.rest(1)

    stage_of(console=console).play(act)
    assert [line.split()[0] for line in console.lines] == ["training", "trained", "filed", "idle", "paused", "resumed"]
    assert console.bars[0] == 4
    assert set(console.bars[1:]) == {None}


def test_a_flood_is_dropped_and_the_house_goes_on() -> None:
    async def act(stage: Stage) -> None:
        gone = stage.system.cells["status_reporter"]
        for number in range(6000):
            await stage.system.send(FileWithdrawn(name=str(number)))
        assert gone.dropped > 1000
        await stage.rest(5)
        await stage.tell(STARTED)
        await stage.rest(2)
        assert page(stage.disk)["state"] == "training"
        actors = json.loads(stage.disk.read("status/actors.json"))["actors"]
        assert actors[1]["dropped"] == gone.dropped, "nothing is dropped silently"

    stage_of().play(act)


def test_d5_a_folder_that_the_disk_refused_at_the_start_is_made_by_a_later_write() -> None:
    async def act(stage: Stage) -> None:
        await stage.rest(60)

    stage = stage_of()
    stage.disk.faults = lambda number, operation, _path: NoSpace() if operation == "mkdir" and number < 4 else None
    assert page(stage.play(act).disk)["state"] == "stopped"
