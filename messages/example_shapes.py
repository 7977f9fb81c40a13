"""What one line of a batch file says: a conversation, a prompt with its completion, or plain text.

Every format that a file may use ends in one of these three shapes, so whoever trains on a line never learns how it
was written. The values are frozen plain data, as they stood in the file.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Turn(msgspec.Struct, frozen=True):
    """One message of a conversation.

    Attributes:
        role: ``system``, ``developer``, ``user``, ``assistant`` or ``tool``.
        content: the text; empty for an assistant that only calls tools.
        weight: 0 keeps an assistant's turn from being trained; 1 or ``None`` trains it.
        name: who speaks, where the file says so.
        tool_calls: what the assistant calls, as raw plain data.
        tool_call_id: which call a ``tool`` turn answers.
    """

    role: str
    content: str
    weight: float | None = None
    name: str | None = None
    tool_calls: tuple[Any, ...] | None = None
    tool_call_id: str | None = None


class Conversation(msgspec.Struct, frozen=True):
    """Turns in order, at least one of them an assistant's that may be trained. ``tools`` is raw plain data."""

    turns: tuple[Turn, ...]
    tools: tuple[Any, ...] | None = None


class Completion(msgspec.Struct, frozen=True):
    """A prompt, which is not trained, and what should follow it, which is. Neither is empty."""

    prompt: str
    completion: str


class Text(msgspec.Struct, frozen=True):
    """Text without roles, trained from its first token to its last. Never empty."""

    text: str


Example = Conversation | Completion | Text


class LineProblem(Exception):
    """What keeps one line from being trained.

    Args:
        path: where in the line, e.g. ``$.messages[1].content``; ``$`` for the line as a whole.
        expected: what should stand there.
        found: what stands there, shortened and printable.
    """

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(path, expected, found)
        self.path = path
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected}, found {self.found}"
