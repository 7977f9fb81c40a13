"""A strict little grammar of Mermaid's sequence diagrams: what it accepts, Mermaid parses.

Narrower than Mermaid's own, so that no line depends on what its lexer happens to forgive: one statement a line, every
participant declared once and before it is used, and no text with a sign that ends a statement or begins a comment.
"""

from __future__ import annotations

import re

TEXT = r"[^;#\n\r]+"
ID = r"[a-z][a-z0-9]*"
RESERVED = {"end", "loop", "alt", "else", "opt", "par", "and", "rect", "note", "over", "title", "participant", "as"}

TITLE = re.compile(rf"    title {TEXT}")
PARTICIPANT = re.compile(rf"    participant ({ID}) as ({TEXT})")
ARROW = re.compile(rf"    ({ID})(?:->>|-->>|-x|--x)({ID}): {TEXT}")
NOTE = re.compile(rf"    Note over ({ID})(?:,({ID}))?: {TEXT}")


def parse(lines: list[str]) -> tuple[dict[str, str], int, int]:
    """Its participants, and how many arrows and notes it has. Fails on anything else."""
    assert lines[0] == "sequenceDiagram"
    names: dict[str, str] = {}
    arrows = notes = 0
    assert TITLE.fullmatch(lines[1]), lines[1]
    for line in lines[2:]:
        if declared := PARTICIPANT.fullmatch(line):
            assert declared[1] not in names, line
            assert declared[1] not in RESERVED, line
            assert not arrows, "participants come first"
            names[declared[1]] = declared[2]
        elif used := ARROW.fullmatch(line):
            assert {used[1], used[2]} <= names.keys(), line
            arrows += 1
        else:
            noted = NOTE.fullmatch(line)
            assert noted, line
            assert {noted[1], noted[2] or noted[1]} <= names.keys(), line
            notes += 1
    assert len(set(names.values())) == len(names), "one actor, one participant"
    return names, arrows, notes
