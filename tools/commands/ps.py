"""``nightfold ps``: the actors of a running daemon, and what each is doing or waiting for.

Asked of the daemon itself over its control socket, so it is what holds at this moment. Where nobody answers there, it
is read from ``status/actors.json``, which a daemon writes every second or so, and said to be so. Without a living
daemon the exit code is 1.

``--json`` prints ``schema``, ``living``, ``pid``, ``live`` (is it the daemon's own answer?), ``at`` (of what moment it
is) and ``actors``, each with the fields of ``runtime.cell.ActorDescription`` and ``why``, which tells of a disabled one
why it is, where that is known.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from runtime.control_socket import Unreachable, describe
from runtime.errors import EXIT_DONE, EXIT_FAILED
from runtime.home_lock import living_pid
from tools.commands.home import read_status, require_home, shown

ACTORS = "status/actors.json"
WATCH_SECONDS = 1.0


def ps(home: Path, as_json: bool, watch: bool = False) -> int:
    """Print the actors once, or every second until Ctrl-C."""
    require_home(home)
    while True:
        found, why_not_live = look(home)
        if as_json:
            print(json.dumps(found, indent=None if watch else 2))
        else:
            if watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            _print(home, found, why_not_live)
        sys.stdout.flush()
        if not watch:
            return EXIT_DONE if found["living"] else EXIT_FAILED
        time.sleep(WATCH_SECONDS)


def look(home: Path) -> tuple[dict[str, Any], str]:
    """What ``--json`` prints, and why it is not the daemon's own answer if it is not."""
    pid = living_pid(home)
    found: dict[str, Any] = {"schema": 1, "living": pid is not None, "pid": pid, "live": False, "at": None}
    why = ""
    if pid is not None:
        try:
            found |= {**describe(home), "live": True}
        except Unreachable as unreachable:
            why = str(unreachable)
    if not found["live"]:
        found |= _written(home)
    _explain_disabled(home, found["actors"])
    return found, why


def _print(home: Path, found: dict[str, Any], why_not_live: str) -> None:
    pid, actors = found["pid"], found["actors"]
    if pid is None:
        print(f"no daemon is running on {home}; start it with: nightfold run {home}")
        if actors:
            print(f"this is what was last known, at {shown(found['at'])}:")
    elif not found["live"]:
        last = f"this is what it wrote at {shown(found['at'])}" if actors else "and it has not told of its actors yet"
        print(f"pid {pid} does not answer ({why_not_live}); {last}", file=sys.stderr)
    if actors:
        print("\n".join(page(actors)))


HEAD = (
    *("actor", "state", "restarts", "mailbox", "oldest", "busy", "handled", "drops"),
    *("in hand", "waits for", "last message"),
)


def page(actors: list[dict[str, Any]]) -> list[str]:
    """One line for each actor, and one more for what it has lost or why it is disabled."""
    rows = [HEAD, *(_row(actor) for actor in actors)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEAD))]
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
        if actor.get("why"):
            lost.append(f"{shown(actor.get('state', '?'))}: {shown(actor['why'])}")
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
        f"{actor.get('depth', 0)}/{actor.get('capacity', 0)}",
        f"{oldest:.1f} s" if actor.get("depth") else "-",
        f"{actor.get('busy_share', 0):.1%}",
        f"{actor.get('handled', 0):,}",
        f"{actor.get('dropped', 0):,}",
        in_hand or "-",
        shown(actor.get("waiting_on", "")) or "-",
        shown(actor.get("last_message", "")) or "-",
    )


def _explain_disabled(home: Path, actors: list[dict[str, Any]]) -> None:
    """Add ``why`` to those that are disabled, from the status, which keeps the reason as long as they are."""
    disabled = [actor for actor in actors if actor.get("state") == "disabled"]
    reasons = {line.get("name"): line.get("why", "") for line in read_status(home)["disabled"]} if disabled else {}
    for actor in disabled:
        if actor.get("name") in reasons:
            actor["why"] = reasons[actor["name"]]


def _written(home: Path) -> dict[str, Any]:
    nothing: dict[str, Any] = {"at": None, "actors": []}
    try:
        found = json.loads((home / ACTORS).read_bytes())
    except (OSError, ValueError):
        return nothing
    if not isinstance(found, dict) or not isinstance(found.get("actors"), list):
        return nothing
    return {"at": found.get("at"), "actors": [actor for actor in found["actors"] if isinstance(actor, dict)]}
