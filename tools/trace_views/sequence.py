"""A batch's way as a Mermaid sequence diagram, which GitHub and most editors draw."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tools.trace_views.batch_story import COLLAPSED, Story, brief_name
from tools.trace_views.recorded import is_observer, seconds

ARROWS_MAX = 80
SHOWN_BEFORE_THE_GAP = 50


class Arrow(msgspec.Struct):
    """``count`` messages of one type from one actor to another, the first of them at ``at``."""

    sender: str
    recipient: str
    type: str
    at: float
    count: int = 1
    end: str = ""


def sequence(story: Story) -> Iterator[str]:
    """The diagram, line by line. Observers are left out; what repeats itself is one arrow with a count."""
    arrows = _arrows(story)
    began = story.deliveries[0].sent_at
    gap = len(arrows) - ARROWS_MAX
    kept = [*arrows[:SHOWN_BEFORE_THE_GAP], *arrows[SHOWN_BEFORE_THE_GAP + gap :]] if gap > 0 else arrows
    yield "sequenceDiagram"
    yield f"    title batch {story.batch} {brief_name(story.name).replace(';', ',').replace('#', ' ')}"
    # A participant's id may hold no dot or dash that Mermaid reads as its own.
    ids: dict[str, str] = {}
    for arrow in kept:
        for name in (arrow.sender, arrow.recipient):
            if name not in ids:
                ids[name] = f"a{len(ids)}"
                yield f"    participant {ids[name]} as {name}"
    for place, arrow in enumerate(kept):
        if gap > 0 and place == SHOWN_BEFORE_THE_GAP:
            yield f"    Note over {ids[arrow.sender]}: … {gap} more arrows …"
        line = "-x" if arrow.end else "->>"
        times = f" ({arrow.count} times)" if arrow.count > 1 else ""
        end = f" ({arrow.end})" if arrow.end else ""
        words = f"{arrow.type}{times}{end} +{seconds(arrow.at - began)}"
        yield f"    {ids[arrow.sender]}{line}{ids[arrow.recipient]}: {words}"


def _arrows(story: Story) -> list[Arrow]:
    arrows: list[Arrow] = []
    repeated: dict[tuple[str, str, str], Arrow] = {}
    for delivery in story.deliveries:
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
        arrow = Arrow(*key, at=delivery.sent_at, end=delivery.end)
        arrows.append(arrow)
        repeated[key] = arrow
    return arrows
