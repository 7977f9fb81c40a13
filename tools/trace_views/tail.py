"""The trace as it grows: one line for each message that is sent, and for whatever went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from runtime import trace_files
from runtime.disk import Disk
from runtime.home_lock import living_pid
from runtime.trace import Record
from tools.trace_views.recorded import FOLDER, Run, brief, runs

POLL_SECONDS = 0.5
LINES_BEFORE = 40
"""How much of the past a terminal is shown before it follows."""
TOLD = ("sent", "crashed", "dead", "dropped", "failed", "started", "stopped")


class Follower:
    """Reads what was appended since the last look, over rotations."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._read: dict[str, int] = {}

    def fresh(self) -> Iterator[Record]:
        """Records that are new since the last call. A frame still being written is left for the next one."""
        paths = trace_files.files(self._disk, FOLDER)
        self._read = {path: self._read.get(path, 0) for path in paths}
        for path in paths:
            found = self._disk.stat(path)
            if found is None or found.size <= self._read[path]:
                continue
            data = self._disk.read(path)[self._read[path] :]
            yield from trace_files.decode(data)
            self._read[path] += trace_files.whole_frames(data)


def tail(home: Path, out: TextIO) -> None:
    """Print the trace; on a terminal and while the daemon lives, follow it until Ctrl-C or until it stops."""
    follower = Follower(Disk(home))
    follow = out.isatty()
    living = living_pid(home) is not None
    past = runs(follower.fresh())
    lines = [line for run in past for line in _lines(run, run.records)]
    for line in lines[-LINES_BEFORE:] if follow else lines:
        print(line, file=out)
    run = past[-1] if past else Run([])
    while follow and living:
        time.sleep(POLL_SECONDS)
        living = living_pid(home) is not None
        fresh = list(follower.fresh())
        if run.records and fresh and fresh[0].number <= run.records[-1].number:
            run = Run([])  # the daemon was started anew
        run = Run([*_anchors(run.records), *fresh]) if fresh else run
        for line in _lines(run, fresh):
            print(line, file=out)
        out.flush()


def _anchors(records: list[Record]) -> list[Record]:
    """What is kept of the past while following: the newest record that tells the wall time, and the newest of all."""
    clock = [record for record in records if record.kind == "clock"][-1:]
    return [*clock, *(record for record in records[-1:] if record.kind != "clock")]


def _lines(run: Run, records: list[Record]) -> Iterator[str]:
    for record in records:
        if record.kind not in TOLD:
            continue
        wall = run.wall(record.at)
        when = f"{wall:%H:%M:%S.%f}"[:-3] if wall else f"{record.at:12.3f}"
        edge = record.recipient if record.sender == record.recipient else f"{record.sender} → {record.recipient}"
        cause = f" ← #{record.cause}" if record.cause else ""
        number = f"#{record.id}" if record.id else ""
        word = "" if record.kind == "sent" else f"{record.kind.upper()} "
        told = brief(record.body) if record.kind == "sent" else str(record.body.value or "")[:200]
        yield f"{when}  {word}{edge}  {record.type} {told}  {number}{cause}".rstrip()
