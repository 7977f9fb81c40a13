"""A batch's way as a Mermaid sequence diagram, which GitHub and most editors draw.

Every line is one that Mermaid parses: no text holds what it reads as the end of a statement or as a comment.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tools.trace_views.batch_story import COLLAPSED, Part, Story, between, brief_name, since
from tools.trace_views.recorded import is_observer, seconds

ARROWS_MAX = 80
SHOWN_BEFORE_THE_GAP = 50


class Arrow(msgspec.Struct):
    """``count`` messages of one type from one actor to another, the first of them so many seconds after the drop."""

    sender: str
    recipient: str
    type: str
    at: float
    count: int = 1
    end: str = ""


class Gap(msgspec.Struct):
    """Words across the whole picture: a life of the daemon ended here, or arrows were left out."""

    words: list[str]


def sequence(story: Story) -> Iterator[str]:
    """The diagram, line by line. Observers are left out; what repeats itself is one arrow with a count."""
    drawn: list[Arrow | Gap] = []
    for place, part in enumerate(story.parts):
        if place:
            drawn.append(Gap(between(story, place)))
        drawn += _arrows(story, part)
    kept = _shortened(drawn)
    # A participant's id may hold no dot or dash that Mermaid reads as its own.
    ids: dict[str, str] = {}
    for arrow in kept:
        if isinstance(arrow, Arrow):
            for name in (arrow.sender, arrow.recipient):
                ids.setdefault(name, f"a{len(ids)}")
    yield "sequenceDiagram"
    yield f"    title batch {story.batch} {text(story.name)}"
    for name, number in ids.items():
        yield f"    participant {number} as {text(name)}"
    everyone = ",".join(dict.fromkeys([min(ids.values(), key=_place), max(ids.values(), key=_place)])) if ids else ""
    for each in kept:
        if isinstance(each, Gap):
            if everyone:
                yield f"    Note over {everyone}: {'<br/>'.join(text(words) for words in each.words)}"
            continue
        line = "-x" if each.end else "->>"
        times = f" ({each.count} times)" if each.count > 1 else ""
        end = f" ({each.end})" if each.end else ""
        words = text(f"{each.type}{times}{end} +{seconds(each.at)}")
        yield f"    {ids[each.sender]}{line}{ids[each.recipient]}: {words}"


def text(words: str) -> str:
    """As it may stand in a title, a name or a message: ``;`` ends a statement, ``#`` begins a comment."""
    return brief_name(words).replace(";", ",").replace("#", " ")


def _place(participant: str) -> int:
    return int(participant[1:])


def _shortened(drawn: list[Arrow | Gap]) -> list[Arrow | Gap]:
    """At most so many arrows: the beginning, the end, and every place where a life ended."""
    surplus = sum(isinstance(each, Arrow) for each in drawn) - ARROWS_MAX
    if surplus <= 0:
        return drawn
    kept: list[Arrow | Gap] = []
    seen = 0
    for each in drawn:
        if isinstance(each, Gap):
            kept.append(each)
            continue
        seen += 1
        if seen == SHOWN_BEFORE_THE_GAP + 1:
            kept.append(Gap([f"… {surplus} more arrows …"]))
        if not SHOWN_BEFORE_THE_GAP < seen <= SHOWN_BEFORE_THE_GAP + surplus:
            kept.append(each)
    return kept


def _arrows(story: Story, part: Part) -> list[Arrow]:
    arrows: list[Arrow] = []
    repeated: dict[tuple[str, str, str], Arrow] = {}
    for delivery in part.deliveries:
        if is_observer(delivery.recipient):
            continue
        key = (delivery.sender, delivery.recipient, delivery.type)
        last = arrows[-1] if arrows else None
        same = repeated.get(key) if delivery.type in COLLAPSED else None
        if same is None and last is not None and (last.sender, last.recipient, last.type) == key:
            same = last
        if same is not None and same.end == delivery.end:
            same.count += 1
            continue
        arrow = Arrow(*key, at=max(0.0, since(story, part, delivery.sent_at)), end=delivery.end)
        arrows.append(arrow)
        repeated[key] = arrow
    return arrows
