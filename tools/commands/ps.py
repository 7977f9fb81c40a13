"""``nightfold ps``: the actors of a running daemon, and what each is doing or waiting for.

Read from ``status/actors.json``, which the daemon writes every second or so. Without a living daemon the last known is
shown, said to be so, and the exit code is 1.

``--json`` prints ``schema``, ``living``, ``pid``, ``at`` (when it was written) and ``actors``, each with the fields of
``runtime.cell.ActorDescription``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.errors import EXIT_DONE, EXIT_FAILED
from runtime.home_lock import living_pid
from tools.commands.home import require_home, shown

ACTORS = "status/actors.json"


def ps(home: Path, as_json: bool) -> int:
    """Print the actors."""
    require_home(home)
    pid = living_pid(home)
    written = _written(home)
    if as_json:
        found = {"schema": 1, "living": pid is not None, "pid": pid, "at": None, "actors": [], **(written or {})}
        print(json.dumps(found, indent=2))
        return EXIT_DONE if pid is not None else EXIT_FAILED
    if pid is None:
        print(f"no daemon is running on {home}; start it with: nightfold run {home}")
        if written is not None and written["actors"]:
            print(f"this is what was last known, at {shown(written['at'])}:")
    elif written is None:
        print(f"pid {pid} has not told of its actors yet")
    if written is not None and written["actors"]:
        print("\n".join(page(written["actors"])))
    return EXIT_DONE if pid is not None else EXIT_FAILED


def page(actors: list[dict[str, Any]]) -> list[str]:
    """One line for each actor, and one more for what it is stuck in or has lost."""
    head = ("actor", "state", "restarts", "mailbox", "busy", "handled", "in hand", "waits for", "last message")
    rows = [head, *(_row(actor) for actor in actors)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for actor in actors:
        lost = [
            f"{actor.get(field)} {words}"
            for field, words in (
                ("dead_letters", "dead letter(s)"),
                ("dropped", "message(s) dropped, its mailbox was full"),
            )
            if actor.get(field)
        ]
        if lost:
            lines.append(f"! {shown(actor.get('name', '?'))}: {', '.join(lost)}")
    return lines


def _row(actor: dict[str, Any]) -> tuple[str, ...]:
    in_hand = shown(actor.get("in_hand", ""))
    if in_hand:
        in_hand += f" for {actor.get('in_hand_s', 0):.1f} s"
    oldest = actor.get("oldest_waiting_s", 0)
    return (
        shown(actor.get("name", "?")),
        shown(actor.get("state", "?")),
        str(actor.get("restarts", 0)),
        f"{actor.get('depth', 0)}/{actor.get('capacity', 0)}" + (f" {oldest:.0f} s" if oldest >= 1 else ""),
        f"{actor.get('busy_share', 0):.1%}",
        f"{actor.get('handled', 0):,}",
        in_hand or "-",
        shown(actor.get("waiting_on", "")) or "-",
        shown(actor.get("last_message", "")) or "-",
    )


def _written(home: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((home / ACTORS).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("actors"), list):
        return None
    return {"at": found.get("at"), "actors": [actor for actor in found["actors"] if isinstance(actor, dict)]}
