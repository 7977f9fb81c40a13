"""The supervision tree as one readable value, in OTP's words.

Order is start order; stopping runs backwards. What becomes of a message over which its receiver crashed is declared
here, where the child is placed, for it depends on the place and not on the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from messages import Message
from runtime.actor import Actor

Restart = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Overflow = Literal["wait", "dead_letter"]


class MailboxSpec(msgspec.Struct, frozen=True):
    """How a mailbox is bounded. ``latest``: message types of which only the newest is worth keeping."""

    capacity: int = 256
    overflow: Overflow = "wait"
    latest: tuple[type[Message], ...] = ()


@dataclass(frozen=True)
class DeadLetter:
    """The message in hand at a crash is set aside with its cause chain; the fresh instance goes on with the next."""


@dataclass(frozen=True)
class Retry:
    """The message stays at the head and is handled again up to ``times`` times, then becomes a dead letter."""

    times: int = 1


@dataclass(frozen=True)
class Backoff:
    """Seconds before a restart: ``first`` doubled each time up to ``most``, times a seeded factor of 0.5 to 1.

    Counting begins anew after ``healthy`` seconds without a crash.
    """

    first: float = 0.25
    most: float = 30.0
    healthy: float = 60.0


_DEAD_LETTER, _MAILBOX, _BACKOFF = DeadLetter(), MailboxSpec(), Backoff()


@dataclass(frozen=True, slots=True)
class Child:
    """One actor's place.

    Attributes:
        name: unique in the tree; how messages, traces and people call it.
        actor: the class, read for its handlers.
        make: builds a fresh instance; the class itself unless it needs something handed in.
        settings: what ``self.settings`` is.
        restart: ``permanent`` always, ``transient`` after a crash only, ``temporary`` never.
        intensity, period: more than ``intensity`` crashes within ``period`` seconds escalate.
        drain: at an orderly stop, handle what already waits before ending.
    """

    name: str
    actor: type[Actor]
    make: Callable[[], Actor] | None = None
    settings: Any = None
    restart: Restart = "permanent"
    on_crash: DeadLetter | Retry = _DEAD_LETTER
    mailbox: MailboxSpec = _MAILBOX
    backoff: Backoff = _BACKOFF
    intensity: int = 5
    period: float = 300.0
    start_within: float = 60.0
    stop_within: float = 60.0
    drain: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.on_crash, Retry) and self.on_crash.times >= self.intensity:
            raise ValueError(
                f"{self.name}: Retry({self.on_crash.times}) is not below the restart intensity {self.intensity}: "
                "one poisonous message would take the whole tree down"
            )

    def build(self) -> Actor:
        """A fresh instance."""
        return self.actor() if self.make is None else self.make()


@dataclass(frozen=True)
class Branch:
    """A supervisor and its children. ``isolate``: a child that keeps failing is disabled instead of escalating."""

    name: str
    children: tuple[Child | Branch, ...]
    strategy: Strategy = "one_for_one"
    isolate: bool = False


def children_of(branch: Branch) -> Iterator[Child]:
    """Every child below, in start order."""
    for child in branch.children:
        if isinstance(child, Branch):
            yield from children_of(child)
        else:
            yield child
