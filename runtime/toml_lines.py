"""On which line of a TOML file each key stands, which ``tomllib`` does not tell.

Reads only text that ``tomllib`` has already accepted, so it may be lenient: it follows headers, (dotted)
keys, and the strings and brackets that let a value run over several lines. What stands inside an inline
table has its key's line.
"""

from __future__ import annotations

import re

KeyPath = tuple[str, ...]

_PART = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
# Whatever can hide a bracket or a quote: comments and the four kinds of string, the longest first.
_TOKEN = re.compile(
    r"#[^\n]*"
    r"|\"\"\"(?:[^\\]|\\.)*?\"{3,5}|'''.*?'{3,5}"
    r"|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'"
    r"|[\[\]{}\n]",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Each table's and each key's path with its 1-based line."""
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    position = 0
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        if header := _HEADER.match(text, position):
            line += header.group(0)[: header.start(1) - position].count("\n")
            table = _parts(header.group(1))
            for length in range(1, len(table) + 1):
                lines.setdefault(table[:length], line)
            position = _end_of_value(text, header.end())
        elif key := _KEY.match(text, position):
            line += key.group(0)[: key.start(1) - position].count("\n")
            path = table + _parts(key.group(1))
            for length in range(len(table) + 1, len(path) + 1):
                lines.setdefault(path[:length], line)
            position = _end_of_value(text, key.end())
        else:
            position = _end_of_value(text, position)
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of the longest known beginning of ``path``; 0 if none is known."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _end_of_value(text: str, position: int) -> int:
    """Just behind the newline that ends the value (or blank, or comment) at ``position``."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        sign = token.group(0)
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "\n" and depth <= 0:
            return token.end()
    return len(text)


def _parts(dotted: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in re.findall(_PART, dotted))
