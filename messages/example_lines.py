"""Lines out of a stream of chunks, and examples out of lines.

Guarantees that at most one line and one chunk are held at a time, and never a line longer than allowed: such a line
is skipped over, counted and told. Blank lines say nothing but count for the numbers of the others. A byte order mark
at the very beginning and CRLF line ends are let be, for common editors write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO

import msgspec

from messages.example_shapes import Example, LineProblem
from messages.examples import BYTE_ORDER_MARK, decode_line

LINE_BYTES_MAX = 16 << 20


class Block(msgspec.Struct, frozen=True):
    """Whole lines that follow each other; each ends in a newline. ``first_line`` is the number of the first."""

    first_line: int
    data: bytes


class OverlongLine(msgspec.Struct, frozen=True):
    """A line that was not held, because it has more bytes than allowed."""

    line: int
    size_bytes: int


def too_long(size_bytes: int, max_line_bytes: int) -> LineProblem:
    """The words for a line of more bytes than allowed."""
    return LineProblem("$", f"a line of at most {max_line_bytes} bytes", f"{size_bytes} bytes")


def blocks_of(chunks: Iterable[bytes], max_line_bytes: int = LINE_BYTES_MAX) -> Iterator[Block | OverlongLine]:
    """The stream cut after newlines.

    A line that lies inside one chunk is not measured here; one that goes on and on through chunks is given up.
    """
    line = 1
    parts: list[bytes] = []
    held = 0  # bytes of the unfinished line, also of one that is no longer kept
    giving_up = False
    for piece in _without_mark(chunks):
        begin, end = 0, piece.rfind(b"\n") + 1
        if end and giving_up:
            begin = piece.index(b"\n") + 1
            yield OverlongLine(line, held + begin - 1)
            line, held, giving_up = line + 1, 0, False
        if end > begin:
            parts.append(piece[begin:end])
            data = b"".join(parts)
            parts, held = [], 0
            yield Block(line, data)
            line += data.count(b"\n")
        held += len(piece) - end
        if held > max_line_bytes:
            parts, giving_up = [], True
        elif end < len(piece):
            parts.append(piece[end:])
    if giving_up:
        yield OverlongLine(line, held)
    elif parts:
        yield Block(line, b"".join(parts) + b"\n")


def _without_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    head = b""
    started = False
    for chunk in chunks:
        if started:
            yield chunk
            continue
        head += chunk
        if len(head) >= len(BYTE_ORDER_MARK):
            started = True
            yield head.removeprefix(BYTE_ORDER_MARK)
    if not started:
        yield head.removeprefix(BYTE_ORDER_MARK)


def lines_of(
    chunks: Iterable[bytes], max_line_bytes: int = LINE_BYTES_MAX
) -> Iterator[tuple[int, bytes | LineProblem]]:
    """Number (from 1) and bytes of each line that is not blank, without its line end; or why it was not read."""
    for block in blocks_of(chunks, max_line_bytes):
        if isinstance(block, OverlongLine):
            yield block.line, too_long(block.size_bytes, max_line_bytes)
        else:
            yield from lines_in(block, max_line_bytes)


def lines_in(block: Block, max_line_bytes: int) -> Iterator[tuple[int, bytes | LineProblem]]:
    """As ``lines_of``, within one block."""
    for number, whole in enumerate(BytesIO(block.data), block.first_line):
        line = whole.rstrip(b"\r\n")
        if len(line) > max_line_bytes:
            yield number, too_long(len(line), max_line_bytes)
        elif line and not line.isspace():
            yield number, line


def read_examples(
    chunks: Iterable[bytes], max_line_bytes: int = LINE_BYTES_MAX
) -> Iterator[tuple[int, Example | LineProblem]]:
    """Number and meaning of each line that is not blank. A line that cannot be used comes as its problem."""
    for number, line in lines_of(chunks, max_line_bytes):
        if isinstance(line, LineProblem):
            yield number, line
            continue
        try:
            example = decode_line(line)
        except LineProblem as problem:
            yield number, problem
        else:
            yield number, example
