"""``nightfold rollback``: put a kept generation, the state right after a night, or a snapshot's state in force again.

One replacement of HEAD: no weights are changed, nothing is deleted, and both what was in force before and what is now
stay kept until the next rollback, so the same command takes it back. What is learnt next is numbered above all that is
kept. A snapshot whose generation is not is first copied to one. It needs the home for itself, as a daemon does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from actors.checkpointer.actor import CheckpointerSettings, store_as_configured
from actors.checkpointer.head import Head, Kept
from actors.checkpointer.verification import Damaged
from actors.inbox_watcher.upkeep import forgotten
from runtime import OperatorError
from runtime.clock import SystemClock
from runtime.disk import Disk
from runtime.errors import EXIT_DISK, EXIT_DONE, EXIT_FAILED
from runtime.home_lock import HomeLock
from tools.commands.history import receipts
from tools.commands.home import shown
from tools.house import read_config

NAMES_SHOWN = 5


def rollback(home: Path, target: str, make_disk: Callable[[Path], Disk] = Disk) -> int:
    """Go back to ``target``: a generation's number, a night's name or a snapshot's date.

    Raises:
        OperatorError: NF-STATE-001 a daemon lives (75); NF-STATE-003 it is not kept, or not sound.
    """
    settings = read_config(home).take("checkpointer", CheckpointerSettings)
    disk = make_disk(home)
    with HomeLock(home):
        store = store_as_configured(disk, settings)
        try:
            opened = store.open()
            for what, why, instead in opened.damage:
                print(f"damage: {what}: {why}" + (f"; in its place: {instead}" if instead else ""))
            before = opened.head
            now = store.put_back(target, SystemClock().now().isoformat(timespec="seconds"))
        except Damaged as damage:
            raise OperatorError(
                "NF-STATE-003",
                f"{target} is kept, but it is damaged: {damage}",
                hint=f"nothing was changed; nightfold doctor {home} says which generations are sound",
                exit_code=EXIT_FAILED,
            ) from damage
        except OSError as error:
            raise OperatorError(
                "NF-DISK-003",
                f"the disk refused: {error}",
                hint="what was in force still is; mend the disk and try again",
                exit_code=EXIT_DISK,
            ) from error
    assert before is not None, "put_back refuses where nothing was committed"
    print("\n".join(_told(home, before, now)))
    return EXIT_DONE


def _told(home: Path, before: Head, now: Kept) -> list[str]:
    was = before.in_force
    if was.generation == now.generation:
        return [f"generation {now.generation} is in force already; nothing was changed"]
    lines = [
        f"in force now: {_words(now)}",
        f"before:       {_words(was)}",
        f"take it back: nightfold rollback {home} {was.generation}   (kept for it until the next rollback)",
    ]
    undone = [night for night in was.ledger if night not in now.ledger]
    if undone:
        lines.append(f"nights no longer in force: {', '.join(undone)} (their deltas are kept)")
    there = receipts(home)
    since = [receipt.name for receipt in there if receipt.last_global_step > now.global_step]
    gone = [
        one.name
        for one in forgotten(Disk(home))
        if one.last_global_step > now.global_step and one.batch not in {receipt.batch for receipt in there}
    ]
    if gone:
        names = ", ".join(shown(name) for name in gone[:NAMES_SHOWN]) + (" …" if len(gone) > NAMES_SHOWN else "")
        lines.append(f"learnt since, and deleted from trained/ by [inbox_watcher]: {names} ({len(gone)} file(s))")
    if since:
        names = ", ".join(shown(name) for name in since[:NAMES_SHOWN]) + (" …" if len(since) > NAMES_SHOWN else "")
        lines += [
            f"learnt since, and now not in the model: {names} ({len(since)} file(s))",
            f"they stay in trained/; to learn one again: nightfold submit {home} {home / 'trained'}/NAME",
        ]
    return lines


def _words(kept: Kept) -> str:
    nights = f", {len(kept.ledger)} night(s)" if kept.ledger else ""
    return (
        f"generation {kept.generation} ({kept.why}), step {kept.global_step}, "
        f"adapter {kept.adapter_id} at {kept.adapter_step}{nights}"
    )
