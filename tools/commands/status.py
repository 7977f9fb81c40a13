"""``nightfold status``: what the daemon is doing, told truthfully even when it is dead.

``--json`` prints the status object (with ``--watch``, one to a line); otherwise a page for people, which
ends with the last error and what to do about it. ``heartbeat_age_s`` is added: how long ago the daemon last
gave a sign of life.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from tools.commands.home import read_status, require_home, shown

_COLOURS = {"training": 32, "validating": 32, "consolidating": 36, "idle": 32, "paused": 33, "crashed": 31}
# The daemon beats every few seconds; a minute of silence is worth a word.
_SILENT_AFTER_S = 60


def status(home: Path, as_json: bool, watch: bool) -> int:
    """Print the status once, or every second."""
    require_home(home)
    while True:
        found = read_status(home)
        found["heartbeat_age_s"] = _age_s(found["heartbeat"])
        if as_json:
            print(json.dumps(found, indent=None if watch else 2))
        else:
            if watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            print(page(found, home, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
        sys.stdout.flush()
        if not watch:
            return 0
        time.sleep(1)


def page(found: dict[str, Any], home: Path, *, colour: bool = False) -> str:
    """The status for people: one line for each thing there is something to say about."""
    lines = [_headline(found, colour)]
    for label, words in (
        ("why", _reason(found)),
        ("now", _batch(found)),
        ("queue", _queue(found["queue"])),
        ("files", _counts(found["counts"])),
        ("model", _model(found)),
        ("night", _night(found)),
        ("disk", _disk(found["disk"])),
        ("scrub", _scrub(found.get("last_scrub"))),
    ):
        if words:
            lines.append(f"  {label:<8} {words}")
    age = found.get("heartbeat_age_s")
    if found["pid"] and age is not None and age > _SILENT_AFTER_S:
        lines.append(f"  ! no sign of life for {_span(age)}: a step may hang; see nightfold ps {home}")
    lines += [
        f"  ! {shown(off['name'])} is switched off since {shown(off['since'])}: {shown(off['why'])}"
        for off in found["disabled"]
    ]
    if isinstance(error := found["last_error"], dict):
        lines.append(f"  ! {shown(error.get('code', ''))} {shown(error.get('message', ''))}")
        if error.get("hint"):
            lines.append(f"    {shown(error['hint'])}")
        lines.append(f"    more: nightfold explain {shown(error.get('code', ''))}")
    if found["state"] in ("stopped", "crashed"):
        lines.append(f"  start it with: nightfold run {home}")
    return "\n".join(lines)


def _headline(found: dict[str, Any], colour: bool) -> str:
    state = found["state"]
    dot = f"\x1b[{_COLOURS.get(state, 0)}m●\x1b[0m" if colour else "●"
    words = "crashed (pid gone)" if state == "crashed" else str(state)
    parts = [f"{dot} {words}"]
    if found["pid"]:
        parts.append(f"pid {found['pid']}")
    uptime_s = found.get("uptime_s") or _age_s(found.get("started"))
    if found["pid"] and uptime_s is not None:
        parts.append(f"up {_span(uptime_s)}")
    return "  ".join(parts)


def _reason(found: dict[str, Any]) -> str:
    batch = found["batch"]
    told_below = isinstance(batch, dict) and found["reason"] == batch.get("name")
    return "" if told_below else shown(found["reason"] or "")


def _batch(found: dict[str, Any]) -> str:
    batch = found["batch"]
    if not isinstance(batch, dict):
        return ""
    parts = [shown(batch.get("name", "?"))]
    step, steps = batch.get("step"), batch.get("steps")
    if isinstance(step, int) and isinstance(steps, int) and steps > 0:
        parts.append(f"step {step}/{steps}  {100 * step // steps}%")
    if batch.get("loss") is not None:
        parts.append(f"loss {batch['loss']:.3f}")
    if found["pid"] and batch.get("tokens_per_second"):
        parts.append(f"{batch['tokens_per_second']:,.0f} tokens/s")
    if found["pid"] and batch.get("eta_s") is not None:
        parts.append(f"~{_span(batch['eta_s'])} left")
    return "  ".join(parts)


def _queue(names: list[str]) -> str:
    if not names:
        return "empty"
    first = ", ".join(shown(name) for name in names[:3])
    files = "1 file" if len(names) == 1 else f"{len(names):,} files"
    return f"{files}: {first}" + (" …" if len(names) > 3 else "")


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{number:,} {shown(word)}" for word, number in counts.items())


def _model(found: dict[str, Any]) -> str:
    model = shown(found["base_model"])
    if found.get("base"):
        model += f" with night {shown(found['base'])}"
    if not found["adapter_id"]:
        return model
    return (
        f"{model}  adapter {shown(found['adapter_id'])} (step {found['adapter_step']:,})  "
        f"generation {found['generation']}  {found['global_step']:,} steps in all"
    ).strip()


def _night(found: dict[str, Any]) -> str:
    parts = []
    if isinstance(found.get("night"), dict):
        parts.append(_fields(found["night"]))
    elif found.get("night"):
        parts.append(shown(found["night"]))
    last = found["last_consolidation"]
    if last:
        parts.append("last: " + (_fields(last) if isinstance(last, dict) else shown(last)))
    return "  ".join(parts)


def _fields(table: dict[str, Any]) -> str:
    return ", ".join(f"{shown(key)} {shown(value)}" for key, value in table.items() if value not in (None, ""))


def _disk(disk: dict[str, Any] | None) -> str:
    if not isinstance(disk, dict) or not (disk.get("free_bytes") or disk.get("needed_bytes")):
        return ""
    words = f"{_size(disk['free_bytes'])} free"
    if disk.get("needed_bytes"):
        words += f", needs {_size(disk['needed_bytes'])} for what comes next"
    if disk.get("low"):
        return words + "  ! running low: training holds until there is room"
    return words if disk.get("ok", True) else words + "  ! not enough"


def _scrub(last: dict[str, Any] | None) -> str:
    if not isinstance(last, dict):
        return ""
    damaged = f"{last['damaged']} damaged" if last.get("damaged") else "all sound"
    return f"{last['things']} things read at {shown(last['when'])}: {damaged}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _span(seconds: float) -> str:
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def _age_s(heartbeat: object) -> float | None:
    """Seconds since ``heartbeat``, which is a Unix time or an ISO 8601 text; ``None`` if it is neither."""
    if isinstance(heartbeat, int | float):
        return round(time.time() - heartbeat, 1)
    try:
        return round(time.time() - datetime.fromisoformat(str(heartbeat)).timestamp(), 1)
    except ValueError:
        return None
