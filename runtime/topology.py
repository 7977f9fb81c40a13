"""Who says what to whom, read from the types and the source: checked when a system is built, drawn in the docs.

What an actor handles is in its annotations. What it says is found in its class's source: ``self.send(X(...))``,
``self.ask(X(...))``, ``self.post(X(...))`` name ``X``; what leaves through a variable is declared in ``sends``.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import msgspec

from messages import Message, Question
from messages.message import reply_types
from runtime.actor import Actor, handlers_of
from runtime.tree import Branch, children_of


class TopologyError(TypeError):
    """The tree cannot work as it is written; every problem is named, one a line."""


class Edge(msgspec.Struct, frozen=True, order=True):
    """``sender`` says ``message`` to ``recipient``; ``reply`` names what comes back to a question."""

    sender: str
    message: str
    recipient: str
    reply: str = ""


def says(actor: type[Actor]) -> frozenset[type[Message]]:
    """Every message type the class sends, asks, or posts to itself."""
    if actor not in _SAYS:
        _SAYS[actor] = _read_says(actor)
    return _SAYS[actor]


_SAYS: WeakKeyDictionary[type[Actor], frozenset[type[Message]]] = WeakKeyDictionary()
"""What was read: a class does not change, and a simulation builds the same system many times."""


def _read_says(actor: type[Actor]) -> frozenset[type[Message]]:
    found: set[type[Message]] = set(actor.sends)
    for owner in actor.__mro__:
        if owner is Actor or not issubclass(owner, Actor):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except (OSError, TypeError):
            continue  # typed into an interpreter, or shipped without its source: then only ``sends`` tells
        names = vars(sys.modules[owner.__module__])
        for node in ast.walk(ast.parse(source)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            if node.func.attr not in ("send", "ask", "post"):
                continue
            match node.args[0]:
                case ast.Call(func=ast.Name(id=name)) if isinstance(names.get(name), type):
                    if issubclass(names[name], Message):
                        found.add(names[name])
    return frozenset(found)


def flow(actors: Iterable[tuple[str, type[Actor]]]) -> list[Edge]:
    """Every edge among ``(name, class)`` pairs, sorted."""
    pairs = list(actors)
    edges: set[Edge] = set()
    for sender, sender_class in pairs:
        for message in says(sender_class):
            reply = " | ".join(t.__name__ for t in reply_types(message)) if issubclass(message, Question) else ""
            for recipient, recipient_class in pairs:
                if message in handlers_of(recipient_class):
                    edges.add(Edge(sender, message.__name__, recipient, reply))
    return sorted(edges)


def check_topology(tree: Branch, *, strict: bool) -> None:
    """Refuse a tree with doubled names, questions without exactly one answerer, or (strict) messages nobody hears."""
    problems: list[str] = []
    children = list(children_of(tree))
    names = Counter(child.name for child in children)
    problems += [f"the name {name!r} is used twice" for name in sorted(n for n in names if names[n] > 1)]
    answerers: dict[type[Message], list[str]] = {}
    for child in children:
        for message in handlers_of(child.actor):
            answerers.setdefault(message, []).append(child.name)
    for message, who in answerers.items():
        if issubclass(message, Question) and len(who) > 1:
            problems.append(f"the question {message.__name__} is answered by several: {', '.join(who)}")
    for child in children:
        for message in sorted(says(child.actor), key=lambda m: m.__name__):
            if message in answerers:
                continue
            if issubclass(message, Question):
                problems.append(f"{child.name} asks {message.__name__}, which nobody answers")
            elif strict:
                problems.append(f"{child.name} sends {message.__name__}, which nobody handles")
    if problems:
        raise TopologyError("\n".join(problems))
