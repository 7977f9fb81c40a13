"""The trace on disk, on demand: switching it on and off really starts and stops the files."""

from __future__ import annotations

from typing import Any

from messages import FileWithdrawn, RecordTrace, TraceRecording
from runtime import trace_files
from runtime.simulation.disk import SimDisk
from runtime.simulation.faults import NoSpace
from tests.actors.stage import Stage
from tests.actors.status_reporter.test_status_reporter import stage_of

FOLDER = "status/trace"


async def wish(stage: Stage, on: bool | None) -> TraceRecording:
    return await stage.system.ask(RecordTrace(on=on), timeout=5.0)


async def something_happens(stage: Stage, name: str) -> None:
    await stage.tell(FileWithdrawn(name=name))
    await stage.rest(20)


def written(disk: SimDisk) -> list[str]:
    """The names of the files that were withdrawn, as the trace on disk has them."""
    told: list[Any] = [record.body.value for record in trace_files.read(disk, FOLDER) if record.type == "FileWithdrawn"]
    return list(dict.fromkeys(body["name"] for body in told if body))


def test_the_config_says_how_it_begins_and_asking_changes_nothing() -> None:
    for begins in (False, True):

        async def act(stage: Stage, begins: bool = begins) -> None:
            assert await wish(stage, None) == TraceRecording(on=begins, was=begins)
            await something_happens(stage, "a")

        disk = stage_of(trace_on_disk=begins).play(act).disk
        assert written(disk) == (["a"] if begins else [])
        assert (disk.stat(FOLDER) is not None) is begins


def test_on_writes_at_once_also_what_memory_still_holds_and_off_stops() -> None:
    async def act(stage: Stage) -> None:
        await something_happens(stage, "before")
        assert stage.disk.stat(FOLDER) is None
        assert await wish(stage, True) == TraceRecording(on=True, was=False)
        assert written(stage.disk) == ["before"], "on disk when the answer comes"
        await something_happens(stage, "on")
        assert written(stage.disk) == ["before", "on"]
        await stage.tell(FileWithdrawn(name="just before off"))
        assert await wish(stage, False) == TraceRecording(on=False, was=True)
        assert written(stage.disk) == ["before", "on", "just before off"]
        files = {path: stage.disk.read(path) for path in trace_files.files(stage.disk, FOLDER)}
        await something_happens(stage, "off")
        assert {path: stage.disk.read(path) for path in trace_files.files(stage.disk, FOLDER)} == files
        assert await wish(stage, False) == TraceRecording(on=False, was=False)

    disk = stage_of(trace_on_disk=False).play(act).disk
    assert "off" not in written(disk), "nor at the stop"


def test_switched_on_again_it_goes_on_in_a_new_file_without_doubling_anything() -> None:
    async def act(stage: Stage) -> None:
        await something_happens(stage, "first")
        await wish(stage, False)
        for path in trace_files.files(stage.disk, FOLDER):
            stage.disk.unlink(path)
        stage.disk.rmdir(FOLDER)  # a person may clear it away while it is not written
        await something_happens(stage, "between")
        await wish(stage, True)
        await wish(stage, True)
        await something_happens(stage, "second")

    disk = stage_of(trace_on_disk=True).play(act).disk
    assert written(disk) == ["between", "second"]
    numbers = [record.number for record in trace_files.read(disk, FOLDER)]
    assert numbers == sorted(set(numbers))


def test_a_disk_that_refuses_is_told_and_tried_again() -> None:
    async def act(stage: Stage) -> None:
        await something_happens(stage, "before")
        stage.disk.faults = lambda _number, _operation, path: NoSpace() if "trace" in path else None
        answer = await wish(stage, True)
        assert (answer.on, answer.was) == (True, False)
        assert "space" in answer.trouble
        stage.disk.faults = None
        await something_happens(stage, "after")
        assert written(stage.disk) == ["before", "after"]
        assert await wish(stage, None) == TraceRecording(on=True, was=True)

    stage_of(trace_on_disk=False).play(act)


def test_all_that_memory_holds_is_written_in_files_of_the_size_that_was_set() -> None:
    async def act(stage: Stage) -> None:
        for number in range(1200):
            await stage.system.send(FileWithdrawn(name=f"{number:04d}"))
            if number % 100 == 0:
                await stage.rest(1)
        await wish(stage, True)

    disk = stage_of(trace_on_disk=False, trace_file_bytes=4096, trace_files=1000).play(act).disk
    assert len(trace_files.files(disk, FOLDER)) > 1
    assert written(disk) == [f"{number:04d}" for number in range(1200)]
