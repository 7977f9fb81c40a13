"""The message flow, drawn from the types: a Mermaid chart and a table that cannot disagree with the code.

``python -m tools.message_flow`` prints them; ``--write FILE`` puts them between the markers in FILE, ``--check FILE``
exits 1 if what stands there is not what the code says now.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from runtime.actor import handlers_of
from runtime.topology import Edge, flow
from runtime.tree import children_of
from tools import daemon, markers
from tools.house import default_config, house, silent_parts

BEGIN = "<!-- message-flow:begin -->"
END = "<!-- message-flow:end -->"
LISTENER = "status_reporter"
"""It hears nearly everything and says nothing, so its arrows would hide all others."""
NAMES_AN_ARROW = 3


def edges() -> list[Edge]:
    """Every edge of the house as it is configured by default."""
    tree = house(default_config(), silent_parts(_never, _never))
    actors = [(child.name, child.actor) for child in children_of(tree)]
    found = flow(actors)
    said = {edge.message for edge in found}
    asked_for = _constructed(daemon)
    for name, actor in actors:
        for message in handlers_of(actor):
            if message.__name__ in said:
                continue
            # What no actor says comes from around them, or from the actor's own thread and timers.
            supervision = message.__module__ == "messages.supervision"
            sender = "supervisor" if supervision else "daemon" if message.__name__ in asked_for else name
            found.append(Edge(sender, message.__name__, name))
    return sorted(found)


def _constructed(module: ModuleType) -> set[str]:
    """Names that the module calls; among them are the messages that it makes."""
    tree = ast.parse(inspect.getsource(module))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {func.id for func in calls if isinstance(func, ast.Name)}


def _never() -> NoReturn:
    raise AssertionError("the tree is read, not run")


def drawn(found: Sequence[Edge]) -> str:
    """Chart and table, as Markdown."""
    return "\n".join([*_chart(found), "", *_table(found)])


def _chart(found: Sequence[Edge]) -> list[str]:
    said: dict[tuple[str, str], list[str]] = {}
    for edge in sorted(found):
        if LISTENER not in (edge.sender, edge.recipient):
            said.setdefault((edge.sender, edge.recipient), []).append(edge.message)
    actors = sorted({name for pair in said for name in pair})
    heard = len({edge.message for edge in found if edge.recipient == LISTENER})
    lines = ["```mermaid", "flowchart LR", *(f"    {name}[{name}]" for name in actors)]
    for (sender, recipient), messages in said.items():
        names = [*messages[:NAMES_AN_ARROW]]
        if len(messages) > NAMES_AN_ARROW:
            names.append(f"and {len(messages) - NAMES_AN_ARROW} more")
        lines.append(f'    {sender} -->|"{"<br>".join(names)}"| {recipient}')
    if heard:
        lines.append(f'    note["{LISTENER} listens to {heard} of these and says nothing"]')
    return [*lines, "```"]


def _table(found: Sequence[Edge]) -> list[str]:
    messages: dict[str, tuple[set[str], set[str], str]] = {}
    for edge in found:
        senders, recipients, _ = messages.setdefault(edge.message, (set(), set(), edge.reply))
        senders.add(edge.sender)
        recipients.add(edge.recipient)
    return [
        "| message | said by | heard by | answered with |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{name}` | {', '.join(sorted(senders))} | {', '.join(sorted(recipients))} | "
            + (" or ".join(f"`{one}`" for one in reply.split(" | ")) if reply else "")
            + " |"
            for name, (senders, recipients, reply) in sorted(messages.items())
        ),
    ]


def placed(text: str, picture: str) -> str:
    """``text`` with ``picture`` between the markers; ``ValueError`` where they are not there once each, in order."""
    return markers.placed(text, picture, BEGIN, END)


def main(argv: Sequence[str] | None = None) -> int:
    """Print, write or check."""
    return markers.print_write_or_check(
        argv,
        tool="tools.message_flow",
        does="draw who says what to whom",
        source="the code says",
        part=drawn(edges()),
        place=placed,
    )


if __name__ == "__main__":
    sys.exit(main())
