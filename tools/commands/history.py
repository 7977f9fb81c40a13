"""``nightfold history``: what was learnt, and what one can go back to.

Read from ``state/HEAD`` and the receipts beside the trained files, so it answers while the daemon runs and without it.

``--json`` prints one object whose fields are only ever added to:

* ``schema``; ``in_force``, a generation's number, 0 before the first; ``files_trained``, how many;
* ``generations``, oldest first: ``generation``, ``in_force``, ``when``, ``why``, ``global_step``, ``adapter_id``,
  ``adapter_step``, ``size_bytes``, ``last_batch``, ``model_path``, ``ledger``, ``pinned``, ``kept_because``, and since
  the one before: ``files`` (names), ``steps``, ``loss_before``, ``loss_after`` (means over the files);
* ``nights``: ``night``, ``generation``, ``folded``, ``model_path``, ``when``, ``pinned``, ``in_force``, ``files``,
  ``steps``, ``loss_before``, ``loss_after``, ``delta_bytes``, ``model_bytes``, ``size_bytes``, ``kept_because``;
* ``ledger``: ``night``, ``due_date``, ``global_step``, ``generation``, ``path``;
* ``snapshots``: ``day``, ``path``, ``generation``, ``pinned``, ``size_bytes``, ``kept_because``;
* ``went_back``: ``null``, or the last rollback: ``to``, ``left``, ``when``;
* ``files``, newest first, at most 20: ``name``, ``batch``, ``when``, ``steps``, ``last_global_step``, ``examples``,
  ``loss_before``, ``loss_after``, ``seconds``, ``warnings``;
* ``files_deleted``, how many ``[inbox_watcher]`` let go of; ``files_trained`` does not count them.

``kept_because`` is retention's own reason, or ``""`` where the config cannot be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from actors.checkpointer.head import HEAD_PATH, SNAPSHOTS, Head, Manifest, decode
from actors.checkpointer.retention import Verdict
from actors.inbox_watcher.upkeep import forgotten
from messages import SCHEMA, Receipt
from runtime import OperatorError, durable
from runtime.disk import Disk
from runtime.errors import EXIT_DONE, EXIT_FAILED
from runtime.manifest import MANIFEST
from tools.commands.home import require_home, shown
from tools.house import read_config
from tools.learnt_since import by_generation, by_night
from tools.retention_now import verdicts

FILES_SHOWN = 20
NAMES_SHOWN = 3


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
    judged = _judged(home, head)
    there = {receipt.batch for receipt in trained}
    return {
        "schema": 1,
        "in_force": head.generation,
        "generations": _generations(head, trained, judged),
        "nights": _nights(home, head, trained, judged),
        "ledger": [
            {name: getattr(delta, name) for name in ("night", "due_date", "global_step", "generation", "path")}
            for delta in head.deltas_in_force()
        ],
        "snapshots": _snapshots(home, head, judged),
        "went_back": msgspec.to_builtins(head.went_back),
        "files": [
            {
                **{name: getattr(receipt, name) for name in ("name", "batch", "when", "steps", "last_global_step")},
                **{name: getattr(receipt, name) for name in ("examples", "loss_before", "loss_after", "seconds")},
                "warnings": receipt.warnings,
            }
            for receipt in reversed(trained[-FILES_SHOWN:])
        ],
        "files_trained": len(trained),
        "files_deleted": sum(one.batch not in there for one in forgotten(Disk(home))),
    }


def _judged(home: Path, head: Head) -> dict[tuple[str, str], Verdict]:
    """What retention says of each thing, by kind and name; nothing where the config is not right."""
    try:
        found = verdicts(home, read_config(home), head)
    except (OperatorError, OSError):
        return {}
    return {(verdict.kind, verdict.name): verdict for verdict in found}


def _because(judged: dict[tuple[str, str], Verdict], kind: str, name: str) -> str:
    verdict = judged.get((kind, name))
    if verdict is None:
        return ""
    return verdict.why if verdict.stays else f"goes: {verdict.why}"


def _generations(head: Head, trained: list[Receipt], judged: dict[tuple[str, str], Verdict]) -> list[dict[str, Any]]:
    learnt = by_generation(head, trained)
    names = ("when", "why", "global_step", "adapter_id", "adapter_step", "size_bytes", "last_batch", "model_path")
    return [
        {
            "generation": kept.generation,
            "in_force": kept.generation == head.generation,
            **{name: getattr(kept, name) for name in (*names, "ledger", "pinned")},
            **msgspec.to_builtins(learnt[kept.generation]),
            "kept_because": _because(judged, "generation", str(kept.generation)),
        }
        for kept in head.kept
    ]


def _nights(
    home: Path, head: Head, trained: list[Receipt], judged: dict[tuple[str, str], Verdict]
) -> list[dict[str, Any]]:
    disk = Disk(home)
    learnt = by_night(head, trained)
    deltas = {delta.night: delta.path for delta in head.deltas}
    found: list[dict[str, Any]] = []
    for night in head.nights:
        delta_bytes = _size_of(disk, deltas[night.night]) if night.night in deltas else 0
        model_bytes = _size_of(disk, night.model_path)
        found.append(
            {
                **msgspec.to_builtins(night),
                "in_force": night.night in head.ledger,
                **msgspec.to_builtins(learnt[night.night]),
                "delta_bytes": delta_bytes,
                "model_bytes": model_bytes,
                "size_bytes": delta_bytes + model_bytes,
                "kept_because": _because(judged, "night", night.night),
            }
        )
    return found


def _snapshots(home: Path, head: Head, judged: dict[tuple[str, str], Verdict]) -> list[dict[str, Any]]:
    disk = Disk(home)
    pinned = {one.day for one in head.snapshots}
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
        found.append(
            {
                "day": path.name,
                "path": f"{SNAPSHOTS}/{path.name}",
                "generation": generation,
                "pinned": path.name in pinned,
                "size_bytes": _size_of(disk, f"{SNAPSHOTS}/{path.name}"),
                "kept_because": _because(judged, "snapshot", path.name),
            }
        )
    return found


def _size_of(disk: Disk, path: str) -> int:
    """Bytes of a folder; 0 if the daemon has just let go of it."""
    try:
        return durable.size_of(disk, path)
    except OSError:
        return 0


def page(found: dict[str, Any], home: Path) -> list[str]:
    """The history for people."""
    lines: list[str] = []
    if found["generations"]:
        lines.append("generations kept (* is in force), and what each learnt since the one before")
        lines += table(
            ("", "number", "when", "step", "adapter", "size", "files learnt", "loss", "why", "kept because"),
            [
                (
                    "*" if one["in_force"] else "",
                    one["generation"],
                    moment(one["when"]),
                    f"{one['global_step']:,}",
                    f"{one['adapter_id']} at {one['adapter_step']:,}",
                    size(one["size_bytes"]),
                    _names(one["files"]),
                    _losses(one),
                    one["why"],
                    _kept(one),
                )
                for one in found["generations"]
            ],
        )
    else:
        lines.append("nothing was committed yet")
    if found["nights"]:
        lines += ["", "nights kept (* is in the model in force), and what each folded in"]
        lines += table(
            ("", "night", "when", "generation", "steps", "delta and model", "files folded in", "loss", "kept because"),
            [
                (
                    "*" if one["in_force"] else "",
                    one["night"],
                    moment(one["when"]),
                    one["generation"],
                    f"{one['steps']:,}",
                    f"{size(one['delta_bytes'])} + {size(one['model_bytes'])}",
                    _names(one["files"]),
                    _losses(one),
                    _kept(one),
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
        days = ", ".join(
            f"{one['day']} (generation {one['generation'] or '?'}{', pinned' if one['pinned'] else ''})"
            for one in found["snapshots"]
        )
        lines.append(f"snapshots {days}")
    if found["went_back"]:
        back = found["went_back"]
        lines.append(f"rollback  from generation {back['left']} to {back['to']}; both stay until the next one")
    lines += ["", *_files(found)]
    if len(found["generations"]) > 1:
        lines += [
            "",
            f"go back with: nightfold rollback {home} NUMBER, NIGHT or DATE",
            f"keep one for good with: nightfold history {home} --pin NUMBER, NIGHT or DATE",
        ]
    return lines


def _names(files: list[str]) -> str:
    names = ", ".join(shown(name) for name in files[-NAMES_SHOWN:])
    more = len(files) - NAMES_SHOWN
    return f"{more} more, {names}" if more > 0 else names


def _losses(one: dict[str, Any]) -> str:
    if one["loss_before"] is None and one["loss_after"] is None:
        return ""
    return f"{_loss(one['loss_before'])} -> {_loss(one['loss_after'])}"


def _kept(one: dict[str, Any]) -> str:
    reason = str(one["kept_because"])
    return ", ".join(filter(None, (reason, "pinned" if one["pinned"] and reason != "pinned" else "")))


def _files(found: dict[str, Any]) -> list[str]:
    if not found["files"]:
        return ["no file was trained yet"]
    more = found["files_trained"] - len(found["files"])
    gone = f"; {found['files_deleted']} more were deleted by [inbox_watcher]" if found["files_deleted"] else ""
    return [
        "files trained, newest first" + (f" ({more} older ones not shown)" if more else "") + gone,
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
