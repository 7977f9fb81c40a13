"""Lines that need no second look, known in one typed decode: most lines of most files.

``PlainLines.hold`` says yes only to lines that ``decode_line`` would accept. It may say no to good ones (tool calls,
content in parts, extra keys inside a message): those are then read with care. What the types below hold is all that
is checked here, so it happens in C: each has the keys of its own format, wants the keys of every other to be null or
absent, and an assistant's words not to be empty.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Words = Annotated[str, Meta(min_length=1)]
Weight = Literal[0, 1]


KNOWN_KEYS = (
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "system",
    "text",
    "tools",
)


# A role is the tag of its own type, so that an unknown one is refused and an assistant's is told apart in C.
class _System(msgspec.Struct, gc=False, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: str
    weight: Weight | None = None
    name: str | None = None
    tool_calls: None = None
    tool_call_id: str | None = None


class _User(_System, tag_field="role", tag="user"):
    pass


class _Tool(_System, tag_field="role", tag="tool"):
    pass


class _Assistant(msgspec.Struct, gc=False, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    content: Words
    weight: Weight | None = None
    name: str | None = None
    tool_calls: None = None
    tool_call_id: str | None = None


class _Chat(msgspec.Struct, gc=False):
    messages: Annotated[list[_User | _Assistant | _System | _Tool], Meta(min_length=1)]
    tools: list[dict[str, Any]] | None = None


class _From(msgspec.Struct, gc=False, forbid_unknown_fields=True, tag_field="from", tag="human"):
    value: str
    weight: Weight | None = None


class _FromSystem(_From, tag_field="from", tag="system"):
    pass


class _FromGpt(msgspec.Struct, gc=False, forbid_unknown_fields=True, tag_field="from", tag="gpt"):
    value: Words
    weight: Weight | None = None


class _ShareGpt(msgspec.Struct, gc=False):
    conversations: Annotated[list[_From | _FromGpt | _FromSystem], Meta(min_length=1)]
    system: str | None = None
    tools: list[dict[str, Any]] | None = None


class _Completion(msgspec.Struct, gc=False):
    prompt: Words
    completion: Words


class _Alpaca(msgspec.Struct, gc=False):
    instruction: Words
    output: Words
    input: str | None = None
    system: str | None = None


class _Text(msgspec.Struct, gc=False):
    text: Words


def _chats_teach(lines: list[_Chat]) -> bool:
    """A chat that ends in an assistant's words has something to train; any other gets a second look."""
    for line in lines:
        last = line.messages[-1]
        if last.__class__ is not _Assistant or last.weight == 0:
            return False
    return True


def _sharegpt_teaches(lines: list[_ShareGpt]) -> bool:
    for line in lines:
        last = line.conversations[-1]
        if last.__class__ is not _FromGpt or last.weight == 0:
            return False
    return True


def _always(_: list[Any]) -> bool:
    return True


class _Kind:
    """One format: a decoder that refuses keys it does not know, one that skips them, and what types cannot say."""

    __slots__ = ("decode", "decode_with_extras", "teaches")

    def __init__(self, line: type[msgspec.Struct], teaches: Callable[[list[Any]], bool] = _always) -> None:
        name = line.__name__
        others = [(key, None, None) for key in KNOWN_KEYS if key not in line.__struct_fields__]
        with_extras = msgspec.defstruct(f"{name}WithExtras", others, bases=(line,), gc=False)
        only = msgspec.defstruct(f"{name}Only", others, bases=(line,), gc=False, forbid_unknown_fields=True)
        self.decode = msgspec.json.Decoder(only).decode
        self.decode_with_extras = msgspec.json.Decoder(with_extras).decode
        self.teaches = teaches


@functools.cache
def _kinds() -> tuple[_Kind, ...]:
    """Made once, when the first file is read: making them takes longer than reading most files."""
    return (
        _Kind(_Chat, _chats_teach),
        _Kind(_Completion),
        _Kind(_Alpaca),
        _Kind(_ShareGpt, _sharegpt_teaches),
        _Kind(_Text),
    )


class PlainLines:
    """Remembers which kind of line came last, because the next ones are most likely of the same kind."""

    def __init__(self) -> None:
        self._kinds = list(_kinds())
        self._extras = False

    def hold(self, block: bytes, lines: list[bytes]) -> bool:
        """Are all ``lines``, which together are ``block``, certainly good and of one kind?"""
        # What is skipped over is not looked at by the decoder, so it is looked at here: but only where some is.
        for extras in (self._extras, not self._extras):
            if extras and not _clean(block):
                return False
            for kind in self._kinds:
                decode = kind.decode_with_extras if extras else kind.decode
                try:
                    values = list(map(decode, lines))
                except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
                    continue
                if not kind.teaches(values):
                    return False
                if kind is not self._kinds[0] or extras is not self._extras:
                    self._kinds.remove(kind)
                    self._kinds.insert(0, kind)
                    self._extras = extras
                return True
        return False


def _clean(block: bytes) -> bool:
    if 0 in block:
        return False
    if block.isascii():
        return True
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
