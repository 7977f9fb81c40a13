"""Every format a line may have, and every way in which it may be wrong."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from messages import Completion, Conversation, LineProblem, Text, Turn, decode_line, lines_of, read_examples
from messages.plain_lines import PlainLines

HELLO = Turn("user", "hello")
HI = Turn("assistant", "hi")


def line(**keys: Any) -> bytes:
    return json.dumps(keys, ensure_ascii=False).encode()


def chat(*messages: Any, **keys: Any) -> bytes:
    return line(messages=list(messages), **keys)


def said(role: Any, content: Any, **keys: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **keys}


ASKED, ANSWERED = said("user", "hello"), said("assistant", "hi")
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": [1, "two", None]}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}

GOOD = [
    pytest.param(chat(ASKED, ANSWERED), Conversation((HELLO, HI)), id="chat"),
    pytest.param(chat(ASKED, ANSWERED, id=7, source={"a": []}), Conversation((HELLO, HI)), id="own keys"),
    pytest.param(chat(ASKED, ANSWERED, text=None, prompt=None), Conversation((HELLO, HI)), id="null is absent"),
    pytest.param(
        chat(said("developer", "d"), said("user", "hello", name="Ann"), ANSWERED),
        Conversation((Turn("developer", "d"), Turn("user", "hello", name="Ann"), HI)),
        id="developer and name",
    ),
    pytest.param(
        chat(ASKED, said("assistant", "no", weight=0), ASKED, said("assistant", "hi", weight=1)),
        Conversation((HELLO, Turn("assistant", "no", 0.0), HELLO, Turn("assistant", "hi", 1.0))),
        id="weights",
    ),
    pytest.param(chat(said("assistant", "hi", weight=1.0)), Conversation((Turn("assistant", "hi", 1.0),)), id="1.0"),
    pytest.param(
        chat(ASKED, said("assistant", "hi"), said("user", "bye")),
        Conversation((HELLO, HI, Turn("user", "bye"))),
        id="the user has the last word",
    ),
    pytest.param(
        chat(said("user", [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]), ANSWERED),
        Conversation((HELLO, HI)),
        id="content in parts",
    ),
    pytest.param(
        chat(
            ASKED,
            said("assistant", None, tool_calls=[CALL]),
            said("tool", "7", tool_call_id="1"),
            ANSWERED,
            tools=[TOOL],
        ),
        Conversation(
            (HELLO, Turn("assistant", "", tool_calls=(CALL,)), Turn("tool", "7", tool_call_id="1"), HI), (TOOL,)
        ),
        id="tools",
    ),
    pytest.param(
        chat(ASKED, {"role": "assistant", "tool_calls": [CALL]}, tools=json.dumps([TOOL])),
        Conversation((HELLO, Turn("assistant", "", tool_calls=(CALL,))), (TOOL,)),
        id="a call without content, tools as JSON text",
    ),
    pytest.param(
        chat(ASKED, said("assistant", "hi", tool_calls=[]), tools=[]), Conversation((HELLO, HI)), id="no calls"
    ),
    pytest.param(line(prompt="p", completion="c"), Completion("p", "c"), id="completion"),
    pytest.param(line(text="t é\u0000"), Text("t é\u0000"), id="text, with an escaped NUL"),
    pytest.param(
        line(instruction="i", input="more", output="o", system="s"),
        Conversation((Turn("system", "s"), Turn("user", "i\n\nmore"), Turn("assistant", "o"))),
        id="alpaca",
    ),
    pytest.param(
        line(instruction="i", input="", output="o"),
        Conversation((Turn("user", "i"), Turn("assistant", "o"))),
        id="alpaca without input",
    ),
    pytest.param(
        line(
            conversations=[
                {"from": "system", "value": "s"},
                {"from": "human", "value": "hello"},
                {"from": "gpt", "value": "hi", "weight": 1},
                {"from": "function", "value": "7"},
                {"from": "observation", "value": "8"},
            ]
        ),
        Conversation(
            (Turn("system", "s"), HELLO, Turn("assistant", "hi", 1.0), Turn("tool", "7"), Turn("tool", "8")),
        ),
        id="sharegpt",
    ),
    pytest.param(
        line(conversations=[{"from": "user", "value": "hello"}, {"from": "assistant", "value": "hi"}], system="s"),
        Conversation((Turn("system", "s"), HELLO, HI)),
        id="sharegpt with a system of its own",
    ),
]


@pytest.mark.parametrize(("written", "meant"), GOOD)
def test_each_format_becomes_an_example(written: bytes, meant: object) -> None:
    assert decode_line(written) == meant
    assert decode_line(b" " + written + b" \r\n") == meant


A_STRING = "a non-empty string"
SPOKEN = "a non-empty string, or tool_calls"
ROLES = "one of system, developer, user, assistant, tool"
ONE = "one JSON object"
KEYS = '"messages", "conversations", "prompt" and "completion", "instruction" and "output", or "text"'
DEEP = "lists or objects nested too deeply to be read"

BAD = [
    # Required things missing or of the wrong type.
    (chat(), "$.messages", "a non-empty list of messages", "an empty list"),
    (line(messages="hi"), "$.messages", "a non-empty list of messages", '"hi"'),
    (line(messages=None), "$.messages", "a non-empty list of messages", "null"),
    (chat("hi"), "$.messages[0]", 'an object with "role" and "content"', '"hi"'),
    (chat({"content": "x"}), "$.messages[0].role", ROLES, "nothing"),
    (chat(ASKED, said("bot", "x")), "$.messages[1].role", ROLES, '"bot"'),
    (chat(said(3, "x")), "$.messages[0].role", ROLES, "3"),
    (chat(said("user", None), ANSWERED), "$.messages[0].content", "a string", "null"),
    (chat({"role": "user"}, ANSWERED), "$.messages[0].content", "a string", "nothing"),
    (chat(said("user", {"a": 1}), ANSWERED), "$.messages[0].content", "a string", 'an object with the key "a"'),
    (chat(ASKED, said("assistant", "")), "$.messages[1].content", SPOKEN, "an empty string"),
    (chat(ASKED, said("assistant", None)), "$.messages[1].content", SPOKEN, "null"),
    (chat(ASKED, {"role": "assistant"}), "$.messages[1].content", SPOKEN, "nothing"),
    (chat(ASKED, said("assistant", [])), "$.messages[1].content", SPOKEN, "an empty list"),
    (chat(ASKED, said("assistant", "", tool_calls=[])), "$.messages[1].content", SPOKEN, "an empty string"),
    (chat(said("tool", None), ANSWERED), "$.messages[0].content", "a string", "null"),
    (chat(said("assistant", "x", weight=2)), "$.messages[0].weight", "0 or 1", "2"),
    (chat(said("assistant", "x", weight=0.5)), "$.messages[0].weight", "0 or 1", "0.5"),
    (chat(said("assistant", "x", weight=True)), "$.messages[0].weight", "0 or 1", "true"),
    (chat(said("assistant", "x", name=5)), "$.messages[0].name", "a string", "5"),
    (chat(ASKED), "$.messages", "at least one assistant message", "only user messages"),
    (
        chat(ASKED, said("assistant", "x", weight=0)),
        "$.messages",
        "an assistant message to train",
        "weight 0 on every assistant message",
    ),
    (
        chat(said("user", [{"type": "image_url", "image_url": {}}]), ANSWERED),
        "$.messages[0].content[0].type",
        '"text", the only kind of part that can be trained',
        '"image_url"',
    ),
    (chat(said("user", [{"type": "text"}]), ANSWERED), "$.messages[0].content[0].text", "a string", "nothing"),
    (chat(said("user", [{"type": "text", "text": 1}]), ANSWERED), "$.messages[0].content[0].text", "a string", "1"),
    (chat(said("user", ["x"]), ANSWERED), "$.messages[0].content[0]", 'an object with "type" and "text"', '"x"'),
    (chat(said("assistant", None, tool_calls="f()")), "$.messages[0].tool_calls", "a list of tool calls", '"f()"'),
    (chat(said("assistant", None, tool_calls=[5])), "$.messages[0].tool_calls[0]", "an object", "5"),
    (
        chat(said("assistant", None, tool_calls=[{"function": {}}])),
        "$.messages[0].tool_calls[0].function.name",
        A_STRING,
        "nothing",
    ),
    (
        chat(said("assistant", None, tool_calls=[{"function": "f"}])),
        "$.messages[0].tool_calls[0].function",
        "an object",
        '"f"',
    ),
    (
        chat(said("user", "x", tool_calls=[CALL]), ANSWERED),
        "$.messages[0].tool_calls",
        "tool calls on an assistant message only",
        "them on a user message",
    ),
    (chat(ASKED, ANSWERED, tools=3), "$.tools", "a list of tools", "3"),
    (chat(ASKED, ANSWERED, tools="["), "$.tools", "a list of tools", '"["'),
    (chat(ASKED, ANSWERED, tools=["x"]), "$.tools[0]", "an object", '"x"'),
    (line(prompt="p"), "$.completion", A_STRING, "nothing"),
    (line(completion="c"), "$.prompt", A_STRING, "nothing"),
    (line(prompt="", completion="c"), "$.prompt", A_STRING, "an empty string"),
    (line(prompt="p", completion=["c"]), "$.completion", A_STRING, "a list of 1"),
    (line(text=""), "$.text", A_STRING, "an empty string"),
    (line(text=None), "$.text", A_STRING, "null"),
    (line(text=1.5), "$.text", A_STRING, "1.5"),
    (line(instruction="i"), "$.output", A_STRING, "nothing"),
    (line(instruction="i", output="o", input=3), "$.input", "a string", "3"),
    (line(instruction="i", output="o", system=3), "$.system", "a string", "3"),
    (
        line(conversations=[{"from": "bing bong", "value": "x"}]),
        "$.conversations[0].from",
        "one of human, user, gpt, assistant, chatgpt, model, system, tool, function, function_response, observation",
        '"bing bong"',
    ),
    (line(conversations=[{"from": "human"}]), "$.conversations[0].value", "a string", "nothing"),
    (
        line(conversations=[{"from": "human", "value": "x"}]),
        "$.conversations",
        "at least one assistant message",
        "only user messages",
    ),
    # Not a line of any format, or of two.
    (line(text="t", prompt="p"), "$", "the keys of one format", 'keys of several: "prompt", "text"'),
    (chat(ASKED, ANSWERED, text="t"), "$", "the keys of one format", 'keys of several: "messages", "text"'),
    (line(question="q", answer="a"), "$", KEYS, 'an object with the keys "question", "answer"'),
    (b"{}", "$", KEYS, "an empty object"),
    (b"[1, 2]", "$", ONE, "a list of 2"),
    (b'"text"', "$", ONE, '"text"'),
    (b"null", "$", ONE, "null"),
    # Not JSON, or not even text.
    (b"hello", "$", ONE, "JSON is malformed: invalid character (byte 0)"),
    (b'{"text": "x"', "$", ONE, "Input data was truncated (byte 12)"),
    (b'{"text": "x"} {', "$", ONE, "JSON is malformed: trailing characters (byte 14)"),
    (b"{'text': 'x'}", "$", ONE, "JSON is malformed: object keys must be strings (byte 1)"),
    (b'{"text": NaN}', "$", ONE, "JSON is malformed: invalid character (byte 9)"),
    (b'{"text": 1e999}', "$.text", "a number within range", "Number out of range"),
    (b"", "$", ONE, "Input data was truncated (byte 0)"),
    (b'{"text": "\xff"}', "$", "text in UTF-8", "the byte 0xff, invalid start byte (byte 10)"),
    (b'{"id": "\xe9", "text": "x"}', "$", "text in UTF-8", "the byte 0xe9, invalid continuation byte (byte 8)"),
    (b'{"id": "\x00", "text": "x"}', "$", ONE, "a NUL character (byte 8)"),
    (b'\xef\xbb\xbf{"text": "x"}', "$", ONE, "a byte order mark (byte 0)"),
    (b"[" * 10_000 + b"]" * 10_000, "$", ONE, DEEP),
    (b'{"id": ' + b"[" * 10_000 + b"]" * 10_000 + b', "text": "x"}', "$", ONE, DEEP),
    (b'{"messages": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, "$", ONE, DEEP),
    (b'{"text": ' + b"9" * 6_000 + b"}", "$.text", "a number within range", "Integer value out of range"),
]


@pytest.mark.parametrize(("written", "path", "expected", "found"), BAD)
def test_f2_each_refusal_names_path_expected_and_found(written: bytes, path: str, expected: str, found: str) -> None:
    with pytest.raises(LineProblem) as caught:
        decode_line(written)
    assert (caught.value.path, caught.value.expected, caught.value.found) == (path, expected, found)
    assert str(caught.value) == f"{path}: expected {expected}, found {found}"


def test_what_was_found_is_short_and_printable() -> None:
    with pytest.raises(LineProblem) as caught:
        decode_line(chat(said("\x1b[31m\u202e" + "x" * 5_000_000, "c")))
    assert caught.value.found == '"\\x1b[31m\\u202e' + "x" * 54 + '…" (5000006 characters)'
    with pytest.raises(LineProblem) as caught:
        decode_line(line(**{f"key\n{number}": 1 for number in range(50)}))
    assert caught.value.found.endswith('"key\\n7" and 42 more')


def test_whatever_the_bytes_nothing_but_a_line_problem_is_raised() -> None:
    """Random bytes, and good lines with a few bytes exchanged; what is called plain must always be readable."""
    chance = random.Random(5)
    seeds = [bad[0] for bad in BAD if len(bad[0]) < 1000]
    for good in GOOD:
        assert isinstance(good.values[0], bytes)
        seeds.append(good.values[0])
    plain = 0
    for _ in range(6_000):
        written = bytearray(chance.choice(seeds) if chance.random() < 0.9 else chance.randbytes(chance.randrange(40)))
        for _ in range(chance.randrange(4)):
            if written:
                at = chance.randrange(len(written))
                written[at : at + chance.randrange(3)] = chance.choice(
                    [chance.randbytes(1), b'"', b"{", b"}", b"null", b"1e999", b",", b"[", b"\\", b"\xc3\xa9", b"0"]
                )
        one = bytes(written).replace(b"\n", b" ")
        assumed_good = PlainLines().hold(one, [one])
        plain += assumed_good
        for _, found in read_examples([one]):
            if isinstance(found, LineProblem):
                assert not assumed_good, (one, found)
                assert found.found.isprintable()
                assert len(found.found) < 700
    assert plain > 100


@pytest.mark.parametrize(
    "written",
    [
        chat(ASKED, ANSWERED),
        chat(ASKED, ANSWERED, id=7),
        line(prompt="p", completion="c", note="é"),
        line(instruction="i", input="", output="o"),
        line(conversations=[{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"}]),
        line(text="x"),
    ],
)
def test_common_lines_need_no_second_look(written: bytes) -> None:
    assert PlainLines().hold(written * 2, [written, written])


@pytest.mark.parametrize(("written", "path", "expected", "found"), BAD)
def test_bad_lines_are_never_called_plain(written: bytes, path: str, expected: str, found: str) -> None:
    plain = PlainLines()
    assert not plain.hold(written, [written])
    good = line(text="x", id=1)
    assert plain.hold(good, [good])
    assert not plain.hold(written, [written])


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_however_the_stream_is_cut(size: int) -> None:
    data = b'\xef\xbb\xbf{"text":"a"}\r\n\n  \r\n{"text":"b"}\n{"text": 1}\n' + b"x" * 40 + b"\n" + b'{"text":"c"}'
    lines = list(lines_of(in_pieces(data, size), max_line_bytes=20))
    assert [(number, found) for number, found in lines if isinstance(found, bytes)] == [
        (1, b'{"text":"a"}'),
        (4, b'{"text":"b"}'),
        (5, b'{"text": 1}'),
        (7, b'{"text":"c"}'),
    ]
    (too_long,) = [(number, found) for number, found in lines if isinstance(found, LineProblem)]
    assert too_long[0] == 6
    assert str(too_long[1]) == "$: expected a line of at most 20 bytes, found 40 bytes"
    read = list(read_examples(in_pieces(data, size), max_line_bytes=20))
    assert [number for number, _ in read] == [1, 4, 5, 6, 7]
    assert [found for _, found in read if not isinstance(found, LineProblem)] == [Text("a"), Text("b"), Text("c")]


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_f3_nothing_comes_out_of_blank_lines(data: bytes) -> None:
    assert list(read_examples(in_pieces(data, 1))) == []


@pytest.mark.parametrize("size", [1, 5, 64])
def test_an_overlong_last_line_is_told_with_its_size(size: int) -> None:
    found = list(lines_of(in_pieces(b'{"text":"a"}\n' + b"x" * 50, size), max_line_bytes=20))
    assert [number for number, _ in found] == [1, 2]
    assert str(found[1][1]) == "$: expected a line of at most 20 bytes, found 50 bytes"


def test_a_byte_order_mark_further_on_is_a_problem() -> None:
    read = list(read_examples([b'{"text":"a"}\n\xef\xbb\xbf{"text":"b"}\n']))
    assert str(read[1][1]) == "$: expected one JSON object, found a byte order mark (byte 0)"
