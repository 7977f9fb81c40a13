"""What an inspection says of a file, good or bad, small or far too large."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blake3
import msgspec
import pytest

from actors.validator import inspection
from actors.validator.inspection import Inspection, inspect
from actors.validator.settings import ValidatorSettings
from messages import LineError
from runtime.disk import Disk

Check = Callable[..., Inspection]

CHAT = '{"messages":[{"role":"user","content":"hello %d"},{"role":"assistant","content":"hi"}]}'
MIXED = [
    CHAT % 0,
    '{"prompt":"p","completion":"c"}',
    '{"instruction":"i","input":"","output":"o"}',
    '{"conversations":[{"from":"human","value":"hello"},{"from":"gpt","value":"hi"}]}',
    '{"text":"é"}',
    CHAT % 1,
]
TOO_DEEP = LineError(1, "$", "one JSON object", "lists or objects nested too deeply to be read")


class Stream(Disk):
    """A disk whose one file is made up while it is read."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        super().__init__(Path("nowhere"))
        self._pieces = pieces

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        return self._pieces()


@pytest.fixture
def check(tmp_path: Path) -> Check:
    def check(content: bytes | str, **settings: Any) -> Inspection:
        (tmp_path / "a.jsonl").write_bytes(content.encode() if isinstance(content, str) else content)
        return inspect(Disk(tmp_path), "a.jsonl", msgspec.convert(settings, ValidatorSettings))

    return check


def test_a_good_file_is_counted_and_named_by_its_bytes(check: Check) -> None:
    content = "".join(CHAT % number + "\n" for number in range(5000))
    assert check(content) == Inspection(
        digest=f"blake3:{blake3.blake3(content.encode()).hexdigest()}",
        size_bytes=len(content),
        lines=5000,
        examples=5000,
        bad_lines=0,
        errors=(),
        error_count=0,
        duplicates=0,
        warnings=(),
    )


@pytest.mark.parametrize("times", [1, 1000])
def test_formats_are_mixed_at_will(check: Check, times: int) -> None:
    found = check("\n".join(MIXED * times))
    assert (found.lines, found.examples, found.error_count) == (6 * times, 6 * times, 0)
    assert found.duplicates == 6 * (times - 1)


def test_formats_may_change_between_blocks(check: Check) -> None:
    found = check("".join((line + "\n") * 2000 for line in MIXED) * 2)
    assert (found.examples, found.error_count, found.duplicates) == (24_000, 0, 24_000 - 6)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"hello", LineError(1, "$", "one JSON object", "JSON is malformed: invalid character (byte 0)")),
        (b'{"text":"\xff"}', LineError(1, "$", "text in UTF-8", "the byte 0xff, invalid start byte (byte 9)")),
        (b'{"text":"\x00"}', LineError(1, "$", "one JSON object", "a NUL character (byte 9)")),
        (
            b'{"text":"a"}\xef\xbb\xbf',
            LineError(1, "$", "one JSON object", "JSON is malformed: trailing characters (byte 12)"),
        ),
        (b'{"text":' + b"[" * 10_000 + b"]" * 10_000 + b"}", TOO_DEEP),
        (b'{"id":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b',"text":"a"}', TOO_DEEP),
    ],
    ids=["not JSON", "not UTF-8", "NUL", "BOM", "deep", "deep in an own key"],
)
@pytest.mark.parametrize("before", [0, 3, 5000])
@pytest.mark.real
def test_f1_what_is_not_json_text_is_named_with_its_line(
    check: Check, line: bytes, error: LineError, before: int
) -> None:
    good = b"".join((CHAT % number).encode() + b"\n" for number in range(before))
    found = check(good + line + b"\n" + b'{"text":"after"}\n')
    assert found.errors == (msgspec.structs.replace(error, line=before + 1),)
    assert (found.lines, found.examples, found.bad_lines, found.error_count) == (before + 2, before + 1, 1, 1)


@pytest.mark.real
def test_f1_a_mark_at_the_beginning_and_crlf_are_let_be(check: Check) -> None:
    content = b"\xef\xbb\xbf" + b'{"text":"a"}\r\n\r\n{"text":"b"}\r\n'
    found = check(content)
    assert (found.lines, found.examples, found.error_count) == (3, 2, 0)
    assert found.digest == f"blake3:{blake3.blake3(content).hexdigest()}"


@pytest.mark.real
def test_f1_the_first_twenty_findings_are_listed_and_all_are_counted(check: Check) -> None:
    content = "".join(f"{CHAT % number}\n\nbad {number}\n" for number in range(1000))
    found = check(content)
    assert [error.line for error in found.errors] == [3 * number + 3 for number in range(20)]
    assert (found.lines, found.examples, found.bad_lines, found.error_count) == (3000, 1000, 1000, 1000)
    assert len(check(content, max_errors_listed=3).errors) == 3


def test_f1_a_line_of_100_mb_is_refused_without_being_held() -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"text":"a"}\n{"text":"'
        for _ in range(1600):
            yield b"x" * 65_536
        yield b'"}\n{"text":"b"}\n'

    tracemalloc.start()
    try:
        found = inspect(Stream(pieces), "a.jsonl", ValidatorSettings())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = 1600 * 65_536 + len('{"text":""}')
    assert found.errors == (LineError(2, "$", "a line of at most 16777216 bytes", f"{size} bytes"),)
    assert (found.lines, found.examples, found.bad_lines) == (3, 2, 1)
    assert found.size_bytes == size + 1 + 2 * len('{"text":"a"}\n')
    assert peak < 24 << 20


def test_memory_does_not_grow_with_the_file() -> None:
    block = b"".join((CHAT % number).encode() + b"\n" for number in range(700))

    def peak_of(blocks: int) -> int:
        tracemalloc.start()
        try:
            assert inspect(Stream(lambda: iter([block] * blocks)), "a", ValidatorSettings()).examples == 700 * blocks
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Ten times the file, and no more than eight bytes for each further example (and the room an array grows by).
    assert peak_of(200) - peak_of(20) < 180 * 700 * 8 * 1.5


@pytest.mark.real
def test_f1_a_line_longer_than_the_config_allows_is_refused_wherever_it_lies(check: Check) -> None:
    found = check('{"text":"a"}\n{"text":"' + "x" * 1020 + '"}\n{"text":"b"}\n', max_line_bytes=1024)
    assert found.errors == (LineError(2, "$", "a line of at most 1024 bytes", "1031 bytes"),)
    assert found.examples == 2
    assert check('{"text":"' + "x" * (1024 - len('{"text":""}')) + '"}', max_line_bytes=1024).error_count == 0


@pytest.mark.real
def test_f2_wrong_and_missing_fields_are_named_among_good_lines(check: Check) -> None:
    good = "".join(CHAT % number + "\n" for number in range(3))
    bad = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": 5}]}
    found = check(good + json.dumps(bad) + "\n" + '{"prompt":"p"}\n' + good)
    assert found.errors == (
        LineError(4, "$.messages[1].content", "a non-empty string, or tool_calls", "5"),
        LineError(5, "$.completion", "a non-empty string", "nothing"),
    )
    assert (found.examples, found.duplicates) == (6, 3)


@pytest.mark.parametrize(("content", "lines"), [(b"", 0), (b"\n", 1), (b"\n  \r\n\t\n", 3), (b"\xef\xbb\xbf", 0)])
@pytest.mark.real
def test_f3_a_file_without_examples_is_told_by_its_counts(check: Check, content: bytes, lines: int) -> None:
    found = check(content)
    assert (found.lines, found.examples, found.error_count, found.duplicates) == (lines, 0, 0, 0)
    assert found.size_bytes == len(content)


@pytest.mark.real
def test_f3_no_line_that_may_be_trained(check: Check) -> None:
    found = check('{"messages":[{"role":"assistant","content":"x","weight":0}]}\n')
    assert (found.examples, found.error_count) == (0, 1)
    assert found.errors[0].found == "weight 0 on every assistant message"


def test_repeated_examples_are_counted_and_told(check: Check) -> None:
    found = check("\n".join([MIXED[4], *MIXED, MIXED[4]]))
    assert found.duplicates == 2
    assert found.warnings == ("2 examples repeat an earlier line of the file; each is trained as it stands",)
    assert check(f"{MIXED[0]}\n{MIXED[0]}").warnings[0].startswith("1 example repeats")
    assert check("bad\nbad\n").duplicates == 0


def test_repetitions_are_looked_for_up_to_a_bound(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "DUPLICATES_LOOKED_FOR_MAX", 2)
    found = check("\n".join(["bad", *[MIXED[4]] * 4]))
    assert found.duplicates == 1
    assert "(looked for in the first 2 examples only)" in found.warnings[0]


def test_a_file_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(Disk(tmp_path), "a.jsonl", ValidatorSettings())


@pytest.mark.parametrize(
    "wrong", [{"bad_lines": "ignore"}, {"max_line_bytes": 0}, {"max_line_bytes": 1 << 30}, {"max_errors": 3}]
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, ValidatorSettings)
