"""What must be true after the demo, read from the receipts, reports and HEAD that the daemon left; nothing is assumed.

``faults`` is a pure function of what was found, so a demo that only looks as if it worked cannot pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from actors.checkpointer.head import HEAD_PATH, Head
from messages import Receipt, Report


class Found(msgspec.Struct, frozen=True):
    """What the demo saw and what lies in its home.

    Attributes:
        receipts: of every trained file, by its name.
        reports: of every rejected file, by its name.
        failed: names in ``failed/``.
        head: what is in force at the end.
        crashed_state: what ``status`` called the state after the kill.
        resumed_at: the step at which the killed file went on; 0 if it began anew.
        before, after: question -> answer.
        exit_code: of the daemon that was stopped in order.
    """

    receipts: Mapping[str, Receipt]
    reports: Mapping[str, Report]
    failed: tuple[str, ...]
    head: Head | None
    crashed_state: str
    resumed_at: int
    before: Mapping[str, str]
    after: Mapping[str, str]
    exit_code: int


def receipts_in(home: Path) -> dict[str, Receipt]:
    """Every receipt in ``trained/``."""
    found = [
        msgspec.json.decode(p.read_bytes(), type=Receipt) for p in sorted((home / "trained").glob("*.receipt.json"))
    ]
    return {receipt.name: receipt for receipt in found}


def reports_in(folder: Path) -> dict[str, Report]:
    """Every report in ``rejected/`` or ``failed/``."""
    found = [msgspec.json.decode(path.read_bytes(), type=Report) for path in sorted(folder.glob("*.report.json"))]
    return {report.name: report for report in found}


def head_of(home: Path) -> Head | None:
    """HEAD, or ``None`` before the first commit."""
    path = home / HEAD_PATH
    return msgspec.json.decode(path.read_bytes(), type=Head) if path.exists() else None


def faults(
    found: Found,
    *,
    trained: tuple[str, ...],
    rejected: tuple[str, ...],
    killed: str,
    taught: Mapping[str, tuple[str, ...]],
) -> list[str]:
    """Everything that is not as it should be, each in one sentence; empty if the demo kept its word."""
    return [
        *_of_files(found, trained, rejected),
        *_of_the_crash(found, killed),
        *_of_the_night(found),
        *_of_answers(found, taught),
    ]


def _of_files(found: Found, trained: tuple[str, ...], rejected: tuple[str, ...]) -> list[str]:
    wrong = []
    if sorted(found.receipts) != sorted(trained):
        wrong.append(f"trained should be {_names(trained)}, and is {_names(found.receipts)}")
    if sorted(found.reports) != sorted(rejected):
        wrong.append(f"rejected should be {_names(rejected)}, and is {_names(found.reports)}")
    if found.failed:
        wrong.append(f"nothing should have failed, but there is {_names(found.failed)}")
    for name, report in found.reports.items():
        if not report.errors:
            wrong.append(f"the report on {name} names no line")
    for name, receipt in found.receipts.items():
        before, after = receipt.loss_before, receipt.loss_after
        if before is None or after is None or not after < before:
            wrong.append(f"the loss of {name} did not fall: {before} before, {after} after")
    return wrong


def _of_the_crash(found: Found, killed: str) -> list[str]:
    wrong = []
    if found.crashed_state != "crashed":
        wrong.append(f"after the kill, status said {found.crashed_state!r} and not 'crashed'")
    if found.resumed_at < 1:
        wrong.append(f"{killed} began anew after the kill instead of going on at its cursor")
    receipt = found.receipts.get(killed)
    if receipt is not None and receipt.resumed < 1:
        wrong.append(f"the receipt of {killed} does not say that it was resumed")
    if receipt is not None and receipt.last_global_step - receipt.first_global_step + 1 != receipt.steps:
        wrong.append(f"{killed} has {receipt.steps} steps, but steps were lost or taken twice")
    if found.exit_code != 0:
        wrong.append(f"the daemon was stopped in order and ended with exit code {found.exit_code}")
    return wrong


def _of_the_night(found: Found) -> list[str]:
    if found.head is None:
        return ["there is no HEAD: nothing was ever committed"]
    if len(found.head.ledger) != 1 or not found.head.model_path:
        return [f"one night should be in force, and there are {len(found.head.ledger)}"]
    adapter = found.head.in_force
    if adapter.adapter_step != 0 or adapter.adapter_id == "a0001":
        return [f"a fresh adapter should be in force, and it is {adapter.adapter_id} at step {adapter.adapter_step}"]
    return []


def _of_answers(found: Found, taught: Mapping[str, tuple[str, ...]]) -> list[str]:
    wrong = []
    for question, words in taught.items():
        answer = found.after.get(question, "")
        missing = [word for word in words if word not in answer]
        if missing:
            wrong.append(f"the answer to {question!r} lacks {_names(missing)}: {answer!r}")
        if answer == found.before.get(question):
            wrong.append(f"the answer to {question!r} is what it was before")
    return wrong


def _names(names: object) -> str:
    found = sorted(str(name) for name in names) if isinstance(names, (tuple, list, Mapping)) else []
    return ", ".join(found) or "nothing"
