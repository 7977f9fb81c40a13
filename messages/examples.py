"""The language of a batch file: ``decode_line`` turns one line into one example, or says exactly why it cannot.

Guarantees:
    * Whatever the bytes are, nothing but ``LineProblem`` is raised, and its words are short and printable.
    * The meaning of a line depends on that line alone, so the one who checks a file and the one who trains on it
      agree on every line.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from messages.example_formats import example_of, printable, shown
from messages.example_shapes import Completion, Conversation, Example, LineProblem, Text, Turn

__all__ = ["Completion", "Conversation", "Example", "LineProblem", "Text", "Turn", "decode_line"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _KnownKeys(msgspec.Struct, gc=False):
    """The keys a line may mean something by. All others are skipped over without being built."""

    messages: Any = UNSET
    conversations: Any = UNSET
    prompt: Any = UNSET
    completion: Any = UNSET
    instruction: Any = UNSET
    input: Any = UNSET
    output: Any = UNSET
    system: Any = UNSET
    text: Any = UNSET
    tools: Any = UNSET


_known_keys = msgspec.json.Decoder(_KnownKeys).decode
_all_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_line(line: bytes) -> Example:
    """What one line says.

    Raises:
        LineProblem: the line cannot be trained on.
    """
    _check_bytes(line)
    try:
        known = _known_keys(line)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise _not_one_object(line, error) from None
    values = {key: value for key, value in msgspec.structs.asdict(known).items() if value is not UNSET}
    if not values:
        # Only now are the names of the other keys needed, to tell the person what stands there instead.
        values = dict.fromkeys(_all_keys(line))
    return example_of(values)


def _check_bytes(line: bytes) -> None:
    """Refuse what no part of JSON may hold, also where it hides in a key that is skipped over."""
    if line.startswith(BYTE_ORDER_MARK):
        raise LineProblem("$", "one JSON object", "a byte order mark (byte 0)")
    if not line.isascii():
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            found = f"the byte 0x{line[error.start]:02x}, {error.reason} (byte {error.start})"
            raise LineProblem("$", "text in UTF-8", found) from None
    if (place := line.find(0)) >= 0:
        raise LineProblem("$", "one JSON object", f"a NUL character (byte {place})")


def _not_one_object(line: bytes, error: Exception) -> LineProblem:
    if isinstance(error, msgspec.ValidationError):
        # Either it is JSON but not an object, or it holds a number out of range, which cannot be shown.
        try:
            return LineProblem("$", "one JSON object", shown(msgspec.json.decode(line)))
        except (ValueError, RecursionError) as sharper:
            error = error if isinstance(sharper, msgspec.ValidationError) else sharper
    if isinstance(error, RecursionError):
        return LineProblem("$", "one JSON object", "lists or objects nested too deeply to be read")
    words = str(error)
    if "trailing characters (byte " in words:
        # Of all its errors, msgspec names here not the first byte that is wrong but the one after it.
        place = int(words.rpartition(" ")[2].rstrip(")"))
        words = f"JSON is malformed: trailing characters (byte {place - 1})"
    words, _, path = words.replace("`", "").partition(" - at ")
    if not isinstance(error, msgspec.ValidationError) and "(byte " not in words:
        words += f" (byte {len(line)})"
    return LineProblem(path or "$", "a number within range" if path else "one JSON object", printable(words))
