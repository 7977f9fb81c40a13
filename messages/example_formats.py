"""The formats a line may be written in, read with care: any doubt becomes a ``LineProblem`` with its exact place.

This walk over untyped data is the one authority on what a line means. It knows nothing of files and line numbers.
A key whose value is ``null`` counts as absent everywhere, because tools that write tables fill the columns of other
formats with nulls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from messages.example_shapes import Completion, Conversation, Example, LineProblem, Text, Turn

CHAT_ROLES = {role: role for role in ("system", "developer", "user", "assistant", "tool")}

SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}

SHOWN_CHARACTERS_MAX = 60
SHOWN_KEYS_MAX = 8


def shown(value: object) -> str:
    """What stands there, short enough for one line and safe to print on any terminal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return printable(repr(value))
    if isinstance(value, str):
        return printable(value, quoted=True) if value else "an empty string"
    if isinstance(value, dict):
        return f"an object with {_keys(value)}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    return type(value).__name__


def printable(text: str, *, quoted: bool = False) -> str:
    """``text`` with control, bidirectional and other invisible characters escaped, cut after 60 characters."""
    cut = text[:SHOWN_CHARACTERS_MAX]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut)
    if quoted:
        safe = f'"{safe}…"' if len(text) > len(cut) else f'"{safe}"'
        return f"{safe} ({len(text)} characters)" if len(text) > len(cut) else safe
    return safe + "…" if len(text) > len(cut) else safe


def _keys(value: dict[str, Any]) -> str:
    names = [printable(key, quoted=True) for key in list(value)[:SHOWN_KEYS_MAX]]
    more = f" and {len(value) - len(names)} more" if len(value) > len(names) else ""
    return f"the key{'s' if len(value) > 1 else ''} {', '.join(names)}{more}"


def _get(holder: dict[str, Any], key: str, path: str, expected: str) -> Any:
    """The value of a key that must be there."""
    if key not in holder:
        raise LineProblem(f"{path}.{key}", expected, "nothing")
    return holder[key]


def _text(holder: dict[str, Any], key: str, path: str = "$") -> str:
    value = _get(holder, key, path, "a non-empty string")
    if not isinstance(value, str) or not value:
        raise LineProblem(f"{path}.{key}", "a non-empty string", shown(value))
    return value


def _optional_text(holder: dict[str, Any], key: str, path: str = "$") -> str | None:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise LineProblem(f"{path}.{key}", "a string", shown(value))
    return value


def _object_list(value: Any, path: str, expected: str) -> tuple[Any, ...] | None:
    """A list of objects; absent, null and empty all mean that there is none."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise LineProblem(path, expected, shown(value))
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise LineProblem(f"{path}[{number}]", "an object", shown(item))
    return tuple(value) or None


def _tools(line: dict[str, Any]) -> tuple[Any, ...] | None:
    value = line.get("tools")
    if isinstance(value, str):
        # Table formats cannot hold objects of mixed shape, so data that came through one carries tools as JSON text.
        try:
            value = msgspec.json.decode(value) if value.strip() else None
        except (msgspec.DecodeError, ValueError, RecursionError):
            raise LineProblem("$.tools", "a list of tools", shown(value)) from None
    return _object_list(value, "$.tools", "a list of tools")


def _weight(message: dict[str, Any], path: str) -> float | None:
    value = message.get("weight")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value not in (0, 1):
        raise LineProblem(f"{path}.weight", "0 or 1", shown(value))
    return float(value)


def _tool_calls(message: dict[str, Any], role: str, path: str) -> tuple[Any, ...] | None:
    calls = _object_list(message.get("tool_calls"), f"{path}.tool_calls", "a list of tool calls")
    if calls is None:
        return None
    if role != "assistant":
        raise LineProblem(f"{path}.tool_calls", "tool calls on an assistant message only", f"them on a {role} message")
    for number, call in enumerate(calls):
        place = f"{path}.tool_calls[{number}]"
        function = call.get("function")
        if function is None:
            _text(call, "name", place)
        elif isinstance(function, dict):
            _text(function, "name", f"{place}.function")
        else:
            raise LineProblem(f"{place}.function", "an object", shown(function))
    return calls


def _parts(parts: list[Any], path: str) -> str:
    """The text of content written as a list of typed parts, joined as it stands."""
    texts = []
    for number, part in enumerate(parts):
        place = f"{path}[{number}]"
        if not isinstance(part, dict):
            raise LineProblem(place, 'an object with "type" and "text"', shown(part))
        kind = _get(part, "type", place, '"text"')
        if kind != "text":
            raise LineProblem(f"{place}.type", '"text", the only kind of part that can be trained', shown(kind))
        text = _get(part, "text", place, "a string")
        if not isinstance(text, str):
            raise LineProblem(f"{place}.text", "a string", shown(text))
        texts.append(text)
    return "".join(texts)


def _content(message: dict[str, Any], key: str, path: str, *, must_speak: bool, may_be_absent: bool) -> str:
    """The text of a message. ``must_speak``: an assistant that calls no tool has to say something."""
    expected = "a non-empty string, or tool_calls" if must_speak else "a string"
    value = message.get(key) if may_be_absent else _get(message, key, path, expected)
    if value is None and may_be_absent:
        return ""
    text = _parts(value, f"{path}.{key}") if isinstance(value, list) else value
    if not isinstance(text, str) or (must_speak and not text):
        raise LineProblem(f"{path}.{key}", expected, shown(value))
    return text


def _turn(message: Any, path: str, role_key: str, content_key: str, roles: dict[str, str]) -> Turn:
    if not isinstance(message, dict):
        raise LineProblem(path, f'an object with "{role_key}" and "{content_key}"', shown(message))
    expected = f"one of {', '.join(roles)}"
    said = _get(message, role_key, path, expected)
    role = roles.get(said) if isinstance(said, str) else None
    if role is None:
        raise LineProblem(f"{path}.{role_key}", expected, shown(said))
    calls = _tool_calls(message, role, path)
    must_speak = role == "assistant" and calls is None
    return Turn(
        role=role,
        content=_content(message, content_key, path, must_speak=must_speak, may_be_absent=calls is not None),
        weight=_weight(message, path),
        name=_optional_text(message, "name", path),
        tool_calls=calls,
        tool_call_id=_optional_text(message, "tool_call_id", path),
    )


def _conversation(
    line: dict[str, Any], key: str, role_key: str, content_key: str, roles: dict[str, str]
) -> Conversation:
    messages, path = line[key], f"$.{key}"
    if not isinstance(messages, list) or not messages:
        raise LineProblem(path, "a non-empty list of messages", shown(messages))
    turns = tuple(
        _turn(message, f"{path}[{number}]", role_key, content_key, roles) for number, message in enumerate(messages)
    )
    answers = [turn for turn in turns if turn.role == "assistant"]
    if not answers:
        found = ", ".join(dict.fromkeys(turn.role for turn in turns))
        raise LineProblem(path, "at least one assistant message", f"only {found} messages")
    if all(turn.weight == 0 for turn in answers):
        raise LineProblem(path, "an assistant message to train", "weight 0 on every assistant message")
    return Conversation(turns=turns, tools=_tools(line))


def _chat(line: dict[str, Any]) -> Example:
    return _conversation(line, "messages", "role", "content", CHAT_ROLES)


def _sharegpt(line: dict[str, Any]) -> Example:
    conversation = _conversation(line, "conversations", "from", "value", SHAREGPT_ROLES)
    system = _optional_text(line, "system")
    if not system:
        return conversation
    return Conversation(turns=(Turn("system", system), *conversation.turns), tools=conversation.tools)


def _completion(line: dict[str, Any]) -> Example:
    return Completion(prompt=_text(line, "prompt"), completion=_text(line, "completion"))


def _alpaca(line: dict[str, Any]) -> Example:
    question, more = _text(line, "instruction"), _optional_text(line, "input")
    answer, system = _text(line, "output"), _optional_text(line, "system")
    asked = Turn("user", f"{question}\n\n{more}" if more else question)
    answered = Turn("assistant", answer)
    return Conversation(turns=(Turn("system", system), asked, answered) if system else (asked, answered))


def _plain(line: dict[str, Any]) -> Example:
    return Text(_text(line, "text"))


FORMATS: tuple[tuple[tuple[str, ...], Callable[[dict[str, Any]], Example]], ...] = (
    (("messages",), _chat),
    (("conversations",), _sharegpt),
    (("prompt", "completion"), _completion),
    (("instruction", "output"), _alpaca),
    (("text",), _plain),
)
"""The keys that mark each format, and its reader. Any other key is the person's own and is let be."""

EXPECTED_KEYS = '"messages", "conversations", "prompt" and "completion", "instruction" and "output", or "text"'


def example_of(line: Any) -> Example:
    """What a decoded line says. Raises ``LineProblem``."""
    if not isinstance(line, dict):
        raise LineProblem("$", "one JSON object", shown(line))
    marks = [key for keys, _ in FORMATS for key in keys if line.get(key) is not None]
    # A line that has only nulls under the keys it has is better told which key is null than that it has none.
    marks = marks or [key for keys, _ in FORMATS for key in keys if key in line]
    readers = [read for keys, read in FORMATS if any(key in marks for key in keys)]
    if not readers:
        raise LineProblem("$", EXPECTED_KEYS, shown(line))
    if len(readers) > 1:
        raise LineProblem("$", "the keys of one format", "keys of several: " + ", ".join(f'"{key}"' for key in marks))
    return readers[0](line)
