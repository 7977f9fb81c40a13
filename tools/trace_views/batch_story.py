"""One batch's way through the house: which messages were about it, and which came of which.

Pure cause would lead on into the next batch, for the message that ends one begins another. So a message belongs to a
batch by what it says, and stands below the nearest of its causes that belongs too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from runtime.errors import EXIT_FAILED, OperatorError
from tools.trace_views.recorded import Delivery, Run, brief, is_observer, seconds

CHAINED = "StepsTaken"
"""Each slice of steps is caused by the one before: a chain as long as the batch, shown as one line."""
COLLAPSED = ("StepsTaken", "TrainingProgress")
SIBLINGS_MAX = 5
"""More siblings of one type than this become one line."""


class Node(msgspec.Struct):
    """One message, to all who got it; or several alike, collapsed into one line."""

    type: str
    sender: str
    deliveries: list[Delivery]
    children: list[Node] = []
    messages: int = 1

    @property
    def at(self) -> float:
        return self.deliveries[0].sent_at


class Story(msgspec.Struct):
    """``batch`` with the name it was dropped under, and its messages in the order they were sent."""

    batch: str
    name: str
    run: Run
    deliveries: list[Delivery]
    earlier_runs: int


def find_story(runs: list[Run], wanted: str) -> Story:
    """The story of a batch by its id (``000017``, ``17``) or its file's name; ``""`` is the newest batch.

    Raises:
        OperatorError: NF-CONF-011, no record is about it.
    """
    file_name = wanted.rpartition("/")[2]
    found: tuple[int, str, str] | None = None
    for place, run in enumerate(runs):
        for delivery in run.deliveries.values():
            if delivery.type not in ("BatchClaimed", "BatchFiled"):
                continue
            batch, name = str(delivery.field("batch")), str(delivery.field("name"))
            filed_as = str(delivery.field("path") or "").rpartition("/")[2]
            if (wanted.isdecimal() and batch == f"{int(wanted):06d}") or (file_name in ("", name, filed_as)):
                found = (place, batch, name)
    if found is None:
        known = sorted({str(d.field("batch")) for run in runs for d in run.deliveries.values() if d.field("batch")})
        raise OperatorError(
            "NF-CONF-011",
            f"the trace knows nothing of a batch called {wanted!r}" if wanted else "the trace holds no batch",
            hint=f"it knows of {', '.join(known[-5:])}" if known else "nothing was dropped since the trace began",
            exit_code=EXIT_FAILED,
        )
    place, batch, name = found
    about = [_of_batch(run, batch) for run in runs]
    return Story(batch, name, runs[place], about[place], sum(bool(one) for one in about[:place]))


def _of_batch(run: Run, batch: str) -> list[Delivery]:
    tickets = {
        delivery.field("ticket"): subject
        for delivery in run.deliveries.values()
        if delivery.field("ticket") and (subject := _subject(delivery, {}))
    }
    return [delivery for delivery in run.deliveries.values() if _subject(delivery, tickets) == batch]


def _subject(delivery: Delivery, tickets: dict[Any, str]) -> str:
    """The batch that a message is about; ``""`` if it is about none."""
    said = delivery.field("batch")
    if isinstance(said, str):
        return said
    for name in ("cursor", "trained"):
        inner = delivery.field(name)
        if isinstance(inner, dict):
            return str(inner.get("batch", ""))
    state = delivery.field("state")
    if isinstance(state, dict) and state.get("cursor"):
        return str(state["cursor"]["batch"])
    return tickets.get(delivery.field("ticket"), "")


def tree(story: Story) -> list[Node]:
    """The messages as a forest, collapsed where they repeat themselves."""
    nodes: list[Node] = []
    node_of: dict[int, Node] = {}
    for delivery in story.deliveries:
        last = nodes[-1] if nodes else None
        if last is not None and _same_message(last.deliveries[-1], delivery):
            last.deliveries.append(delivery)
            node_of[delivery.id] = last
            continue
        node = Node(delivery.type, delivery.sender, [delivery])
        nodes.append(node)
        node_of[delivery.id] = node
    roots: list[Node] = []
    for node in nodes:
        parent = _nearest(story.run, node.deliveries[0].cause, node_of)
        if parent is not None and parent.type == node.type == CHAINED:
            _join(parent, node)
            for delivery in node.deliveries:
                node_of[delivery.id] = parent
        else:
            (roots if parent is None else parent.children).append(node)
    return [_collapsed(node) for node in _merged(roots)]


def _same_message(one: Delivery, other: Delivery) -> bool:
    """One ``send`` to several: the same words at the same cause, to another actor."""
    same = (one.type, one.sender, one.cause) == (other.type, other.sender, other.cause)
    return same and one.recipient != other.recipient and one.body == other.body


def _nearest(run: Run, cause: int, node_of: dict[int, Node]) -> Node | None:
    while cause:
        if cause in node_of:
            return node_of[cause]
        delivery = run.deliveries.get(cause)
        cause = delivery.cause if delivery is not None else 0
    return None


def _join(into: Node, node: Node) -> None:
    into.messages += node.messages
    into.deliveries += node.deliveries
    into.children += node.children


def _merged(siblings: list[Node]) -> list[Node]:
    counts = Counter((node.type, node.sender) for node in siblings)
    many = [key for key, count in counts.items() if count > SIBLINGS_MAX or key[0] in COLLAPSED]
    merged: list[Node] = []
    first: dict[tuple[str, str], Node] = {}
    for node in siblings:
        key = (node.type, node.sender)
        if key in many and key in first:
            _join(first[key], node)
        else:
            first.setdefault(key, node)
            merged.append(node)
    return merged


def _collapsed(node: Node) -> Node:
    node.children = [_collapsed(child) for child in _merged(node.children)]
    return node


def show(story: Story) -> Iterator[str]:
    """The story as an indented tree, one line a message."""
    began = story.deliveries[0].sent_at
    last = story.deliveries[-1]
    wall = story.run.wall(began)
    when = f"  from {wall:%Y-%m-%d %H:%M:%S}" if wall else ""
    took = seconds((last.done_at or last.sent_at) - began)
    yield f"batch {story.batch}  {brief_name(story.name)}{when}  {took} in all"
    if story.earlier_runs:
        yield f"  the daemon was restarted over it: {story.earlier_runs} earlier run(s) recorded a part, not shown"
    for root in tree(story):
        yield from _lines(root, began, 0)


def brief_name(name: str) -> str:
    """A file's name as it may safely go to a terminal or into a diagram."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _lines(node: Node, began: float, depth: int) -> Iterator[str]:
    times = f" ({node.messages} times)" if node.messages > 1 else ""
    recipients = list(dict.fromkeys(delivery.recipient for delivery in node.deliveries))
    workers = [name for name in recipients if not is_observer(name)]
    shown = workers or recipients
    others = f" (+ {len(recipients) - len(workers)} observer)" if workers and len(recipients) > len(workers) else ""
    words = f"{node.type}{times}  {node.sender} → {', '.join(shown)}{others}"
    if node.messages == 1:
        told = brief(node.deliveries[0].body)
        words += f"  {told}" if told and depth == 0 else ""
    yield f"{f'+{node.at - began:.3f}':>10}  {'  ' * depth}{words}  [{_timing(node, shown)}]"
    for child in node.children:
        yield from _lines(child, began, depth + 1)


def _timing(node: Node, shown: list[str]) -> str:
    of_shown = [delivery for delivery in node.deliveries if delivery.recipient in shown]
    queued = [delivery.queued_s for delivery in of_shown if delivery.queued_s is not None]
    parts = [
        f"queued {seconds(max(queued))}" if queued else "never taken up",
        f"handled {seconds(sum(delivery.handled_s for delivery in of_shown))}" if queued else "",
        *sorted({delivery.end for delivery in node.deliveries if delivery.end}),
    ]
    if any(delivery.attempts > 1 for delivery in node.deliveries):
        parts.append(f"{max(delivery.attempts for delivery in node.deliveries)} attempts")
    return ", ".join(part for part in parts if part)
