"""The trace as it grows: one line for each message that is sent, and for whatever went wrong.

From the living daemon over its control socket, some hundredths of a second after it happened and whether or not it is
written to disk. Where nobody answers there, from what is on disk.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import msgspec

from runtime import trace_files
from runtime.control_socket import Ended, Frames, Missed, Reached, TraceStream, Unreachable
from runtime.disk import Disk
from runtime.errors import EXIT_DONE, EXIT_FAILED, OperatorError
from runtime.home_lock import living_pid
from runtime.trace import Record
from tools.trace_views.recorded import FOLDER, Run, brief, read_runs, runs

POLL_SECONDS = 0.5
LINES_BEFORE = 40
"""How much of the past a terminal is shown before it follows."""
RECORDS_BEFORE = 20 * LINES_BEFORE
"""So many records hold so many lines: of a message sent to one who has a job done, one in five is a line."""
TOLD = ("sent", "crashed", "dead", "dropped", "failed", "started", "stopped")


def tail(home: Path, out: TextIO, *, follow: bool = False) -> int:
    """Print the trace; on a terminal, or if asked to, follow it until Ctrl-C or until the daemon ends.

    A terminal that follows is shown the newest of the past, anything else all that is known. Returns the exit code: 1
    if the daemon is gone without a word.
    """
    follow = follow or out.isatty()
    try:
        stream = TraceStream(home, last=RECORDS_BEFORE if out.isatty() else None, follow=follow)
    except Unreachable as why:
        if living_pid(home) is not None:
            print(f"the daemon does not answer ({why}); this is what it writes to disk:", file=sys.stderr)
        _tail_disk(home, out, follow)
        return EXIT_DONE
    with stream:
        return _tail_stream(home, stream, out, follow)


# From the daemon itself.


def _tail_stream(home: Path, stream: TraceStream, out: TextIO, follow: bool) -> int:
    anchor = Record(0, stream.clock[0], "clock", 0, 0, "", "", "", 0, 0, trace_files.Body("", stream.clock[1]))
    parts = iter(stream)
    past: list[Record] = []
    ended: Ended | None = None
    while ended is None:
        match part := next(parts):
            case Frames():
                past += trace_files.decode(part.data)
            case Reached():
                break
            case Ended():
                ended = part
    known = [] if out.isatty() else _only_on_disk(home, past)
    lines = [line for run in known for line in _lines(run, run.records)]
    lines += _lines(Run([*past, anchor]), past)
    for line in lines[-LINES_BEFORE:] if out.isatty() else lines:
        print(line, file=out)
    run = Run([anchor])
    while ended is None:
        out.flush()
        match part := next(parts):
            case Frames():
                fresh = list(trace_files.decode(part.data))
                run = Run([*_anchors(run.records), *fresh])
                for line in _lines(run, fresh):
                    print(line, file=out)
            case Missed():
                print(f"… {part.records} records came faster than they were read here …", file=out)
            case Ended():
                ended = part
    out.flush()
    if follow:
        print(ended.why if ended.orderly else "the daemon is gone without a word", file=sys.stderr)
    return EXIT_DONE if ended.orderly else EXIT_FAILED


def _only_on_disk(home: Path, held: list[Record]) -> list[Run]:
    """What was recorded before the oldest record that the daemon still holds, in this life of it and before."""
    try:
        written = read_runs(home)
    except OperatorError:
        return []  # nothing is
    if not held:
        return written
    moments = {record.number: record.at for record in held}
    last = written[-1].records
    if any(moments.get(record.number) == record.at for record in last):
        written[-1] = Run([record for record in last if record.number < held[0].number])
    return written


# From disk.


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
            # A power cut may have left zeros in the middle: what stands before them is told.
            with contextlib.suppress(msgspec.DecodeError):
                yield from trace_files.decode(data)
            self._read[path] += trace_files.whole_frames(data)


def _tail_disk(home: Path, out: TextIO, follow: bool) -> None:
    follower = Follower(Disk(home))
    living = living_pid(home) is not None
    past = runs(follower.fresh())
    told = (line for run in past for line in _lines(run, run.records))
    for line in deque(told, maxlen=LINES_BEFORE) if out.isatty() else told:
        print(line, file=out)
    run = past[-1] if past else Run([])
    while follow and living:
        out.flush()
        time.sleep(POLL_SECONDS)
        living = living_pid(home) is not None
        fresh = list(follower.fresh())
        if run.records and fresh and fresh[0].number <= run.records[-1].number:
            run = Run([])  # the daemon was started anew
        run = Run([*_anchors(run.records), *fresh]) if fresh else run
        for line in _lines(run, fresh):
            print(line, file=out)
    out.flush()


# A line.


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
