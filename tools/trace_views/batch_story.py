"""One batch's way through the house, from drop to commit: which messages were about it, and which came of which.

Pure cause would lead on into the next batch, for the message that ends one begins another. So a message belongs to a
batch by what it says, and stands below the nearest of its causes that belongs too. A batch may take several lives of
the daemon: each is a part of the story, and between two it is told how the one ended and where the next went on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
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


class Part(msgspec.Struct):
    """What one life of the daemon did about the batch, in the order the messages were sent."""

    run: Run
    deliveries: list[Delivery]


class Story(msgspec.Struct):
    """``batch`` with the name it was dropped under, and its parts, oldest first; at least one."""

    batch: str
    name: str
    parts: list[Part]


def find_story(runs: list[Run], wanted: str) -> Story:
    """The story of a batch by its id (``000017``, ``17``) or its file's name; ``""`` is the newest batch.

    Raises:
        OperatorError: NF-CONF-011, no record is about it.
    """
    file_name = wanted.rpartition("/")[2]
    found: tuple[str, str] | None = None
    for run in runs:
        for delivery in run.deliveries.values():
            if delivery.type not in ("BatchClaimed", "BatchFiled"):
                continue
            batch, name = str(delivery.field("batch")), str(delivery.field("name"))
            filed_as = str(delivery.field("path") or "").rpartition("/")[2]
            if (wanted.isdecimal() and batch == f"{int(wanted):06d}") or (file_name in ("", name, filed_as)):
                found = (batch, name)
    if found is None:
        known = {batch: name for run in runs for batch, name in run.batches.items()}
        newest = ", ".join(f"{batch} {brief_name(known[batch])}" for batch in sorted(known)[-5:])
        raise OperatorError(
            "NF-CONF-011",
            f"the trace knows nothing of a batch called {wanted!r}" if wanted else "the trace holds no batch",
            hint=f"it knows of {newest}" if known else "nothing was dropped since the trace began",
            exit_code=EXIT_FAILED,
        )
    batch, name = found
    parts = [Part(run, _of_batch(run, batch)) for run in runs if run.batches.get(batch, name) == name]
    return Story(batch, name, [part for part in parts if part.deliveries])


def _of_batch(run: Run, batch: str) -> list[Delivery]:
    tickets = {
        delivery.field("ticket"): subject
        for delivery in run.deliveries.values()
        if delivery.field("ticket") and (subject := _subject(delivery, {}))
    }
    about = [delivery for delivery in run.deliveries.values() if _subject(delivery, tickets) == batch]
    return [*_the_drop(run, about), *about]


def _the_drop(run: Run, about: list[Delivery]) -> list[Delivery]:
    """How the file was first seen: the survey that named it, if it had to wait there, and what led to its claim."""
    claimed = next((delivery for delivery in about if delivery.type == "BatchClaimed"), None)
    if claimed is None or not claimed.cause or claimed.cause not in run.deliveries:
        return []  # taken up again by a daemon that was started anew
    name = claimed.field("name")
    seen: Delivery | None = None
    for delivery in run.deliveries.values():
        if delivery.id >= claimed.id:
            break
        if delivery.type == "BatchClaimed" and delivery.field("name") == name:
            seen = None  # that was an earlier file of this name
        if delivery.type == "InboxSurveyed":
            named = name in (*(delivery.field("waiting") or ()), *(delivery.field("unready") or ()))
            seen = (seen or delivery) if named else None
    cause = run.deliveries[claimed.cause]
    return [cause] if seen is None else [seen, cause]


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


def tree(part: Part) -> list[Node]:
    """The messages of one life as a forest, collapsed where they repeat themselves."""
    nodes: list[Node] = []
    node_of: dict[int, Node] = {}
    for delivery in part.deliveries:
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
        parent = _nearest(part.run, node.deliveries[0].cause, node_of)
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
    """The story as indented trees, one for each life of the daemon, one line a message."""
    first = story.parts[0]
    wall = first.run.wall(first.deliveries[0].sent_at)
    when = f"  from {wall:%Y-%m-%d %H:%M:%S}" if wall else ""
    end = story.parts[-1].deliveries[-1]
    took = seconds(since(story, story.parts[-1], end.done_at or end.sent_at))
    lives = f" over {len(story.parts)} lives of the daemon" if len(story.parts) > 1 else ""
    yield f"batch {story.batch}  {brief_name(story.name)}{when}  {took} in all{lives}"
    for place, part in enumerate(story.parts):
        if place:
            yield from (f"{'':>10}  -- {words}" for words in between(story, place))
        for root in tree(part):
            yield from _lines(root, lambda at, part=part: since(story, part, at), 0)  # type: ignore[misc]
    last = story.parts[-1]
    if last.run.end == "killed" and not any(delivery.type == "BatchFiled" for delivery in last.deliveries):
        yield f"{'':>10}  -- {_death(last)}; no later life knows of the batch"


def since(story: Story, part: Part, at: float) -> float:
    """Seconds from the story's beginning to a moment of a part of it. Lives have no clock in common but the wall's."""
    first = story.parts[0]
    began = first.deliveries[0].sent_at
    if part is first:
        return at - began
    here, there = first.run.wall(began), part.run.wall(at)
    return (there - here).total_seconds() if here is not None and there is not None else at - began


def between(story: Story, place: int) -> list[str]:
    """What is to be said before the part at ``place``: how the life before ended, and where this one goes on."""
    before, part = story.parts[place - 1], story.parts[place]
    away = since(story, part, part.run.records[0].at) - since(story, before, before.run.records[-1].at)
    others = part.run.number - before.run.number - 1
    meanwhile = f", after {others} lives that did nothing about it" if others else ""
    went_on = next((d for d in part.deliveries if d.type == "BatchStarted"), None)
    place_in_batch = f" at step {went_on.field('step')} of {went_on.field('steps')}" if went_on is not None else ""
    began = part.run.began
    clock = f" at {began:%H:%M:%S}" if began else ""
    return [
        f"{_death(before)}",
        f"started again{clock}, {seconds(max(0.0, away))} later{meanwhile} (run {part.run.number})"
        + (f"; the batch goes on{place_in_batch}" if place_in_batch else ""),
    ]


def _death(part: Part) -> str:
    """How a life ended, and how far the batch had come."""
    moment = part.run.ended
    clock = f" at {moment:%H:%M:%S}" if moment else ""
    words = {
        "killed": f"the daemon died here: killed, or the power went; its last record is of{clock.replace(' at', '')}",
        "gave up": f"the daemon gave up{clock}",
        "stopped": f"the daemon was stopped{clock}",
        "still running": "the daemon still runs",
    }[part.run.end]
    newest = {delivery.type: delivery for delivery in part.deliveries}
    progress, commit = newest.get("TrainingProgress"), newest.get("GenerationCommitted")
    reached = f", after step {progress.field('step')} of {progress.field('steps')}" if progress else ""
    kept = f"; generation {commit.field('generation')} is the last committed of it" if commit else ""
    return f"{words}{reached}{kept} (run {part.run.number})"


def brief_name(name: str) -> str:
    """A file's name as it may safely go to a terminal or into a diagram."""
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _lines(node: Node, since_drop: Callable[[float], float], depth: int) -> Iterator[str]:
    times = f" ({node.messages} times)" if node.messages > 1 else ""
    recipients = list(dict.fromkeys(delivery.recipient for delivery in node.deliveries))
    workers = [name for name in recipients if not is_observer(name)]
    shown = workers or recipients
    others = f" (+ {len(recipients) - len(workers)} observer)" if workers and len(recipients) > len(workers) else ""
    words = f"{node.type}{times}  {node.sender} → {', '.join(shown)}{others}"
    if node.messages == 1:
        # Below the first line the batch's own names are known.
        told = brief(node.deliveries[0].body, leave_out=() if depth == 0 else ("batch", "name", "path"))
        words += f"  {told}" if told else ""
    yield f"{f'+{since_drop(node.at):.3f}':>10}  {'  ' * depth}{words}  [{_timing(node, shown)}]"
    for child in node.children:
        yield from _lines(child, since_drop, depth + 1)


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
