"""The two shapes everything else here has: a message, and a message that expects an answer."""

from __future__ import annotations

from typing import Generic, TypeVar, get_args

import msgspec

Reply_co = TypeVar("Reply_co", covariant=True)


class Message(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Plain, frozen data with a type tag: what one actor says to another.

    A message carries values and home-relative paths, never live objects, so that each one can be
    recorded, shown to a person and replayed. Such data holds no circle, so the garbage collector need not look at it.
    """


def subject_of(message: Message) -> str:
    """What it is about, by which the death of one is told from that of another of its type: its batch, or nothing."""
    return str(getattr(message, "batch", ""))


class Question(Message, Generic[Reply_co], frozen=True, tag=True):
    """A message sent with ``ask``; the type argument says what comes back.

    ``class SpaceNeeded(Question[SpaceGranted | SpaceRefused], frozen=True)`` makes
    ``await self.ask(SpaceNeeded(...), timeout=5)`` return ``SpaceGranted | SpaceRefused`` to the type checker,
    and the system compares it with the answering handler's return annotation when it is built.
    """


def reply_types(question: type[Message]) -> tuple[type, ...]:
    """The types a question may be answered with, in the order written.

    Raises:
        TypeError: ``question`` is not a ``Question[...]`` with a concrete type argument.
    """
    for base in getattr(question, "__orig_bases__", ()):
        arguments = get_args(base)
        if arguments and not isinstance(arguments[0], TypeVar):
            return get_args(arguments[0]) or (arguments[0],)
    raise TypeError(f"{question.__name__} does not say what it is answered with: derive it from Question[Answer]")
