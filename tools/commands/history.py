"""``nightfold history``: what was learnt, and what one can go back to.

Read from ``state/HEAD`` and the receipts beside the trained files, so it answers while the daemon runs and without it.

``--json`` prints one object whose fields are only ever added to:

* ``schema``; ``in_force``, a generation's number, 0 before the first; ``files_trained``, how many;
* ``generations``, oldest first: ``generation``, ``in_force``, ``when``, ``why``, ``global_step``, ``adapter_id``,
  ``adapter_step``, ``size_bytes``, ``last_batch``, ``model_path``, ``ledger``, ``pinned``;
* ``nights``: ``night``, ``generation``, ``folded``, ``model_path``, ``when``;
* ``ledger``: ``night``, ``due_date``, ``global_step``, ``generation``, ``path``;
* ``snapshots``: ``day``, ``path``, ``generation``;
* ``files``, newest first, at most 20: ``name``, ``batch``, ``when``, ``steps``, ``last_global_step``, ``examples``,
  ``loss_before``, ``loss_after``, ``seconds``, ``warnings``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from actors.checkpointer.head import HEAD_PATH, MANIFEST, SNAPSHOTS, Head, Manifest, decode
from messages import SCHEMA, Receipt
from runtime import OperatorError, durable
from runtime.errors import EXIT_DONE, EXIT_FAILED
from tools.commands.home import require_home, shown

FILES_SHOWN = 20


def history(home: Path, as_json: bool) -> int:
    """Print the history."""
    require_home(home)
    found = gathered(home)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print("\n".join(page(found, home)))
    return EXIT_DONE


def read_head(home: Path) -> Head | None:
    """HEAD, or ``None`` where nothing was ever committed.

    Raises:
        OperatorError: NF-STATE-006 it is damaged; NF-STATE-004 it was written by a newer version.
    """
    try:
        raw = (home / HEAD_PATH).read_bytes()
    except FileNotFoundError:
        return None
    try:
        return decode(raw, Head, HEAD_PATH)
    except msgspec.MsgspecError as error:
        raise OperatorError(
            "NF-STATE-006",
            f"{HEAD_PATH} is damaged: {error}",
            hint=f"the daemon rebuilds it when it starts; nightfold doctor {home} says from what",
            exit_code=EXIT_FAILED,
        ) from error


def receipts(home: Path) -> list[Receipt]:
    """Every readable receipt, oldest first. A damaged one says nothing about the model, so it is passed over."""
    found: list[Receipt] = []
    for path in (home / "trained").glob("*.receipt.json"):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Receipt))
        except (OSError, msgspec.MsgspecError):
            continue
    return sorted(found, key=lambda receipt: (receipt.when, receipt.last_global_step, receipt.batch))


def gathered(home: Path) -> dict[str, Any]:
    """What ``--json`` prints."""
    head = read_head(home) or Head(SCHEMA, 0, 0, "", "", "", "")
    trained = receipts(home)
    return {
        "schema": 1,
        "in_force": head.generation,
        "generations": [
            {
                "generation": kept.generation,
                "in_force": kept.generation == head.generation,
                **{
                    name: getattr(kept, name)
                    for name in ("when", "why", "global_step", "adapter_id", "adapter_step", "size_bytes")
                },
                **{name: getattr(kept, name) for name in ("last_batch", "model_path", "ledger", "pinned")},
            }
            for kept in head.kept
        ],
        "nights": msgspec.to_builtins(head.nights),
        "ledger": [
            {name: getattr(delta, name) for name in ("night", "due_date", "global_step", "generation", "path")}
            for delta in head.deltas_in_force()
        ],
        "snapshots": _snapshots(home),
        "files": [
            {
                **{name: getattr(receipt, name) for name in ("name", "batch", "when", "steps", "last_global_step")},
                **{name: getattr(receipt, name) for name in ("examples", "loss_before", "loss_after", "seconds")},
                "warnings": receipt.warnings,
            }
            for receipt in reversed(trained[-FILES_SHOWN:])
        ],
        "files_trained": len(trained),
    }


def _snapshots(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((home / SNAPSHOTS).glob("*")):
        if durable.is_leftover(path.name):
            continue
        try:
            manifest = decode((path / MANIFEST).read_bytes(), Manifest, str(path))
        except (OSError, msgspec.MsgspecError):
            generation = None  # doctor tells what is wrong with it; here it is only listed
        else:
            generation = manifest.generation
        found.append({"day": path.name, "path": f"{SNAPSHOTS}/{path.name}", "generation": generation})
    return found


def page(found: dict[str, Any], home: Path) -> list[str]:
    """The history for people."""
    lines: list[str] = []
    if found["generations"]:
        lines.append("generations kept (* is in force)")
        lines += table(
            ("", "number", "when", "step", "adapter", "size", "last batch", "why"),
            [
                (
                    "*" if one["in_force"] else "",
                    one["generation"],
                    moment(one["when"]),
                    f"{one['global_step']:,}",
                    f"{one['adapter_id']} at {one['adapter_step']:,}",
                    size(one["size_bytes"]),
                    one["last_batch"],
                    one["why"] + (" (pinned)" if one["pinned"] else ""),
                )
                for one in found["generations"]
            ],
        )
    else:
        lines.append("nothing was committed yet")
    if found["nights"]:
        in_ledger = {delta["night"] for delta in found["ledger"]}
        lines += ["", "nights kept"]
        lines += table(
            ("", "night", "when", "began generation", "model"),
            [
                (
                    "*" if one["night"] in in_ledger else "",
                    one["night"],
                    moment(one["when"]),
                    one["generation"],
                    one["model_path"],
                )
                for one in found["nights"]
            ],
        )
    if found["ledger"]:
        nights = ", ".join(delta["night"] for delta in found["ledger"])
        lines += [
            "",
            f"ledger    the model in force is the pristine base with {len(found['ledger'])} delta(s): {nights}",
        ]
    if found["snapshots"]:
        days = ", ".join(f"{one['day']} (generation {one['generation'] or '?'})" for one in found["snapshots"])
        lines.append(f"snapshots {days}")
    lines += ["", *_files(found)]
    if len(found["generations"]) > 1:
        lines += ["", f"go back with: nightfold rollback {home} NUMBER-OR-NIGHT"]
    return lines


def _files(found: dict[str, Any]) -> list[str]:
    if not found["files"]:
        return ["no file was trained yet"]
    more = found["files_trained"] - len(found["files"])
    return [
        "files trained, newest first" + (f" ({more} older ones not shown)" if more else ""),
        *table(
            ("", "file", "when", "steps", "up to step", "loss before", "after"),
            [
                (
                    "",
                    shown(one["name"]),
                    moment(one["when"]),
                    f"{one['steps']:,}",
                    f"{one['last_global_step']:,}",
                    _loss(one["loss_before"]),
                    _loss(one["loss_after"]) + (" !" if one["warnings"] else ""),
                )
                for one in found["files"]
            ],
        ),
    ]


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    """Columns as wide as they must be; numbers stand right."""
    cells = [head, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    right = [all(isinstance(row[place], int) for row in rows) and bool(rows) for place in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def moment(iso: str) -> str:
    """``2026-11-23 03:00:12`` of an ISO 8601 text."""
    return iso[:19].replace("T", " ")


def size(count: float) -> str:
    """Bytes, in at most four digits."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
