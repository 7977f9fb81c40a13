"""Reads a dropped file once, from end to end, and says what is in it and what is wrong with it.

Guarantees:
    * Every line is checked by the rules of ``messages.examples``, and every byte is in the digest.
    * Memory does not grow with the file but for eight bytes an example, and those stop at a bound.
    * What is wrong with the data is in the returned value; only the disk's own errors are raised.
Decides nothing: whether the file is rejected is the caller's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from io import BytesIO

import msgspec
import numpy as np
from blake3 import blake3

from actors.validator.settings import ValidatorSettings
from messages.example_lines import Block, OverlongLine, blocks_of, lines_in, too_long
from messages.example_shapes import LineProblem
from messages.examples import decode_line
from messages.plain_lines import PlainLines
from messages.trouble import LineError
from runtime.disk import DiskPort

# Lines, their decoded values and the bytes they came from stay together in the processor's cache: 1 MiB is 14 % slower.
CHUNK_BYTES = 64 << 10

# 96 MiB of hashes. A larger file is checked just as well, only its repetitions are counted up to here.
DUPLICATES_LOOKED_FOR_MAX = 12 << 20


class Inspection(msgspec.Struct, frozen=True):
    """What is in a file.

    Attributes:
        digest: ``blake3:<hex>`` of all its bytes.
        size_bytes: of the file as it was read.
        lines: all of them, blank ones too.
        examples: lines that may be trained.
        bad_lines: lines that may not.
        errors: what is wrong, the first findings in the order of lines.
        error_count: all findings.
        duplicates: examples whose line stands, byte for byte, earlier in the file.
        warnings: what a person should know, though it is no error.
    """

    digest: str
    size_bytes: int
    lines: int
    examples: int
    bad_lines: int
    errors: tuple[LineError, ...]
    error_count: int
    duplicates: int
    warnings: tuple[str, ...]


def inspect(disk: DiskPort, path: str, settings: ValidatorSettings) -> Inspection:
    """Check the file at ``path``. Raises ``OSError`` as the disk does."""
    return _Reading(settings).inspect(disk.chunks(path, CHUNK_BYTES))


class _Reading:
    """One pass over one file."""

    def __init__(self, settings: ValidatorSettings) -> None:
        self._settings = settings
        self._plain = PlainLines()
        self._hasher = blake3()
        self._size_bytes = 0
        self._lines = 0
        self._examples = 0
        self._errors: list[LineError] = []
        self._error_count = 0
        self._seen = array("q")

    def inspect(self, chunks: Iterator[bytes]) -> Inspection:
        for block in blocks_of(self._digested(chunks), self._settings.max_line_bytes):
            if isinstance(block, OverlongLine):
                self._lines += 1
                self._complain(block.line, too_long(block.size_bytes, self._settings.max_line_bytes))
            else:
                self._read(block)
        duplicates = self._duplicates()
        return Inspection(
            digest=f"blake3:{self._hasher.hexdigest()}",
            size_bytes=self._size_bytes,
            lines=self._lines,
            examples=self._examples,
            bad_lines=self._error_count,
            errors=tuple(self._errors),
            error_count=self._error_count,
            duplicates=duplicates,
            warnings=self._warnings(duplicates),
        )

    def _digested(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._hasher.update(chunk)
            self._size_bytes += len(chunk)
            yield chunk

    def _read(self, block: Block) -> None:
        lines = BytesIO(block.data).readlines()
        self._lines += len(lines)
        none_too_long = len(block.data) <= self._settings.max_line_bytes
        if none_too_long and self._plain.hold(block.data, lines):
            self._examples += len(lines)
            self._remember(lines)
            return
        for number, line in lines_in(block, self._settings.max_line_bytes):
            try:
                if isinstance(line, LineProblem):
                    raise line
                decode_line(line)
            except LineProblem as problem:
                self._complain(number, problem)
            else:
                self._examples += 1
                self._remember([lines[number - block.first_line]])

    def _complain(self, line: int, problem: LineProblem) -> None:
        self._error_count += 1
        if len(self._errors) < self._settings.max_errors_listed:
            self._errors.append(LineError(line, problem.path, problem.expected, problem.found))

    def _remember(self, lines: list[bytes]) -> None:
        # Python's own hash is keyed anew in each process; only whether two are equal is ever used.
        if len(self._seen) < DUPLICATES_LOOKED_FOR_MAX:
            self._seen.extend(map(hash, lines))

    def _duplicates(self) -> int:
        if not self._seen:
            return 0
        hashes = np.frombuffer(self._seen, dtype=np.int64)
        hashes.sort()
        return int(np.count_nonzero(hashes[1:] == hashes[:-1]))

    def _warnings(self, duplicates: int) -> tuple[str, ...]:
        warnings = []
        if duplicates:
            counted = len(self._seen)
            share = "" if counted == self._examples else f" (looked for in the first {counted} examples only)"
            are = "example repeats" if duplicates == 1 else "examples repeat"
            warnings.append(f"{duplicates} {are} an earlier line of the file{share}; each is trained as it stands")
        return tuple(warnings)
