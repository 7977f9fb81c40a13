"""``nightfold doctor HOME --what-would-be-deleted``: what retention takes as the config is now, and what stays.

It asks the very policies that the daemon asks, about the disk as it is; it changes nothing and needs no daemon. What
the next commit or a new file pushes out is not foretold.

``--json`` prints one object whose fields are only ever added to: ``schema``; ``going`` and ``staying``, each a list of
``kind``, ``name``, ``path`` (``""`` for a night, which is a place in HEAD), ``size_bytes``, ``why``, ``pinned``; and
``totals`` by kind: ``going``, ``going_bytes``, ``staying``, ``staying_bytes``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import EXIT_DONE
from tools.commands.history import read_head, size, table
from tools.commands.home import require_home, shown
from tools.house import read_config
from tools.retention_now import trained_files, verdicts

KINDS = ("generation", "night", "model", "snapshot", "delta", "set_aside", "leftover", "trained_file")
LOOKS = 5
"""A living daemon may delete what is being looked at; then it is looked at again."""
WHEN = {"set_aside": "when the daemon starts", "model": "once nothing stands on it"}


def what_would_be_deleted(home: Path, as_json: bool) -> int:
    """Print it."""
    require_home(home)
    found = foretold(home)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print("\n".join(_page(found)))
    return EXIT_DONE


def foretold(home: Path) -> dict[str, Any]:
    """What ``--json`` prints.

    Raises:
        OperatorError: the config or HEAD cannot be read.
    """
    for look in range(LOOKS):
        try:
            things = _things(home)
            break
        except OSError:
            if look == LOOKS - 1:
                raise
    return {
        "schema": 1,
        "going": [_told(one) for one in things if not one["stays"]],
        "staying": [_told(one) for one in things if one["stays"]],
        "totals": {kind: _total([one for one in things if one["kind"] == kind]) for kind in KINDS},
    }


def _things(home: Path) -> list[dict[str, Any]]:
    config = read_config(home)
    found = [msgspec.to_builtins(verdict) for verdict in verdicts(home, config, read_head(home))]
    for file, stays, why in trained_files(home, config):
        name = file.name or file.paper
        one = {"kind": "trained_file", "name": name, "path": f"trained/{name}", "size_bytes": file.size_bytes}
        found.append({**one, "stays": stays, "why": why, "pinned": False})
    return found


def _told(one: dict[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("kind", "name", "path", "size_bytes", "why", "pinned")}


def _total(things: list[dict[str, Any]]) -> dict[str, int]:
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for one in things:
        sizes[one["stays"]].append(one["size_bytes"])
    going, staying = sizes[False], sizes[True]
    return {
        "going": len(going),
        "going_bytes": sum(going),
        "staying": len(staying),
        "staying_bytes": sum(staying),
    }


def _page(found: dict[str, Any]) -> list[str]:
    lines = ["would be deleted" if found["going"] else "nothing would be deleted"]
    if found["going"]:
        lines += table(("path", "size", "because"), [_row(one, going=True) for one in found["going"]])
    files = [one for one in found["staying"] if one["kind"] == "trained_file"]
    others = [one for one in found["staying"] if one["kind"] != "trained_file"]
    if others:
        lines += ["", "stays", *table(("path", "size", "because"), [_row(one, going=False) for one in others])]
    if files:
        lines += ["", f"{len(files)} file(s) in trained/ stay with their receipts: {files[-1]['why']}"]
    rows: list[tuple[object, ...]] = [
        (kind.replace("_", " "), one["going"], size(one["going_bytes"]), one["staying"], size(one["staying_bytes"]))
        for kind, one in found["totals"].items()
        if one["going"] or one["staying"]
    ]
    if rows:
        lines += ["", *table(("kind", "going", "size", "staying", "size"), rows)]
    return lines


def _row(one: dict[str, Any], *, going: bool) -> tuple[object, ...]:
    when = f"; {WHEN[one['kind']]}" if going and one["kind"] in WHEN else ""
    path = shown(one["path"]) or f"night {shown(one['name'])} in HEAD"
    pinned = " (pinned)" if one["pinned"] and one["why"] != "pinned" else ""
    return path, size(one["size_bytes"]), one["why"] + pinned + when
