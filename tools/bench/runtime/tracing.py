"""What the always-on trace costs: each message in memory, each record that is read or written to disk.

What it costs in memory is measured twice: as a difference, the same messages with a trace that is let go at once, which
shows what keeping does to the allocator and the garbage collector; and as its instructions alone, beside the making of
the envelope, which is the message's own and would be there without a trace.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from runtime import ActorSystem, trace_files
from runtime.disk import Disk
from runtime.hot.envelope import Envelope, Turn
from runtime.trace import Record, Trace
from tools.bench.runtime import nightfold
from tools.bench.runtime.shape import Run

FILE_BYTES, FILES_KEPT = 4 << 20, 4
RECORDS = 3_000
"""Records of real messages that are read or written at once."""

Done = Callable[[int], int]
"""Does its work on so many of the newest records, and says on how many it was."""


def forgetful(system: ActorSystem) -> None:
    """Have the system let its trace go after each burst of messages."""
    ring = system.trace.ring
    ring.capacity = ring.most = 0


def tell_forgotten() -> contextlib.AbstractAsyncContextManager[Run]:
    """As ``tell``, but nothing is kept of it for longer than a burst."""
    return nightfold.sends_to(1, prepared=forgetful)


@contextlib.asynccontextmanager
async def keeping() -> AsyncIterator[Run]:
    """The instructions that keep one plain message: its envelope, and that the last one is done and it begun."""
    ring = Trace().ring

    async def run(count: int) -> int:
        done = Envelope(1, 0, "sender", "hearer", nightfold.NOTE, 0.0, 0)
        for number in range(count):
            begun = Envelope(number, 0, "sender", "hearer", nightfold.NOTE, 0.0, 0)
            ring.entries.append(begun)
            ring.entries.append(Turn(1.0, done, begun))
            if len(ring.entries) > ring.most:
                ring.trim()
            done = begun
        return count

    yield run


@contextlib.asynccontextmanager
async def making() -> AsyncIterator[Run]:
    """What of ``keeping`` is there without a trace too: the loop, and the envelope."""

    async def run(count: int) -> int:
        for number in range(count):
            Envelope(number, 0, "sender", "hearer", nightfold.NOTE, 0.0, 0)
        return count

    yield run


class Reading:
    """Does something with the records of real messages, over and over."""

    def __init__(self, work: Callable[[ActorSystem, Sequence[Record], Path], Done]) -> None:
        self._work = work

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Run]:
        """A system in which messages were told, and a folder."""
        with tempfile.TemporaryDirectory(prefix="bench-trace-") as folder:
            async with nightfold.told(RECORDS) as system:
                records = system.trace.since(0)[-RECORDS:]
                assert len(records) == RECORDS, "each message leaves several"
                done = self._work(system, records, Path(folder))

                async def run(count: int) -> int:
                    worked = 0
                    while worked < count:
                        worked += done(min(RECORDS, count - worked))
                    return worked

                yield run


def reading(system: ActorSystem, records: Sequence[Record], _: Path) -> Done:
    """``Trace.since``: what whoever follows the trace does on the loop."""
    return lambda count: len(system.trace.since(records[-count].number - 1))


def encoding(_: ActorSystem, records: Sequence[Record], __: Path) -> Done:
    """``trace_files.encode``."""

    def done(count: int) -> int:
        trace_files.encode(records[-count:])
        return count

    return done


def appending(_: ActorSystem, records: Sequence[Record], folder: Path) -> Done:
    """``TraceWriter.append``: encoded, written, rotated, as an I/O worker does it."""
    writer = trace_files.TraceWriter(Disk(folder), "trace", file_bytes=FILE_BYTES, keep=FILES_KEPT)

    def done(count: int) -> int:
        writer.append(records[-count:])
        return count

    return done


def logging_lines(_: ActorSystem, records: Sequence[Record], folder: Path) -> Done:
    """The same facts as a line each, through ``logging`` into a file."""
    logger = logging.getLogger("nightfold bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.FileHandler(folder / "log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    words = "%s %d because of %d: %s from %s to %s"

    def done(count: int) -> int:
        for one in records[-count:]:
            logger.info(words, one.kind, one.id, one.cause, one.type, one.sender, one.recipient)
        return count

    return done
