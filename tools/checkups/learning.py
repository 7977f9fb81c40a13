"""What was learnt: HEAD, and every generation, night and snapshot that it stands on; merged models have a module.

Every byte is read and compared with its manifest. A living daemon goes on meanwhile, so whatever looks damaged is held
against HEAD once more: retention may just have let go of it.
"""

from __future__ import annotations

from pathlib import Path

from actors.checkpointer.head import (
    DELTAS,
    GENERATIONS,
    HEAD_PATH,
    SET_ASIDE,
    SNAPSHOTS,
    Head,
    Kept,
)
from actors.checkpointer.verification import Damaged, verify, verify_alone, verify_kept
from runtime import OperatorError, durable
from runtime.disk import Disk
from runtime.home_lock import living_pid
from tools.checkups.finding import Findings, error, ok, warning
from tools.commands.history import read_head

HEALED = "the daemon sets it aside when it starts and goes on from the newest sound one"


def learning(home: Path, disk: Disk | None = None) -> Findings:
    """All of it, read through ``disk`` if somebody wants to see how far it is."""
    disk = disk or Disk(home)
    try:
        head = read_head(home)
    except OperatorError as problem:
        yield error("HEAD", problem.what, problem.hint, problem.code)
        return
    if head is None:
        if _anything(home):
            todo = "the daemon rebuilds it from the newest sound generation when it starts"
            yield error("HEAD", f"{HEAD_PATH} is gone, and there are generations", todo, "NF-STATE-006")
        else:
            yield ok("HEAD", "nothing was committed yet")
        return
    if head.generation not in {kept.generation for kept in head.kept}:
        yield error(
            "HEAD", f"generation {head.generation} is in force and not among those kept", HEALED, "NF-STATE-006"
        )
        return
    yield ok("HEAD", f"generation {head.generation} is in force; {len(head.kept)} kept, {len(head.nights)} night(s)")
    yield from _generations(home, disk, head)
    yield from _nights(disk, head)
    yield from _snapshots(disk)
    yield from _current(home, head)
    yield from _unreached(home, disk, head)


def _anything(home: Path) -> bool:
    folder = home / GENERATIONS
    return folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())


def _generations(home: Path, disk: Disk, head: Head) -> Findings:
    sound = 0
    for kept in reversed(head.kept):
        why = _damage(disk, head, kept)
        if not why:
            sound += 1
            continue
        now = read_head(home)
        if now is None or kept.generation not in {one.generation for one in now.kept}:
            continue  # let go of while we looked
        force = kept.generation == head.generation
        place = "in force" if force else "kept"
        todo = HEALED if force else "do not roll back to it; the others are not touched by this"
        yield error("generations", f"generation {kept.generation}, {place}, is damaged: {why}", todo, "NF-STATE-006")
    if sound:
        yield ok("generations", f"{sound} sound, every file compared with its manifest")
    if head.kept and not sound:
        todo = "restore state/ or snapshots/ from a backup before you start the daemon"
        yield error("generations", "not one is sound", todo, "NF-STATE-002")


def _damage(disk: Disk, head: Head, kept: Kept) -> str:
    """What is wrong with a generation; ``""`` if nothing is. Its counters must be the manifest's, HEAD's and go on."""
    try:
        verify_kept(disk, kept, head.kept)
    except Damaged as damage:
        return str(damage)
    except OperatorError as problem:
        return problem.what
    return ""


def _nights(disk: Disk, head: Head) -> Findings:
    sound = 0
    for delta in head.deltas:
        try:
            verify(disk, delta.path, delta.digest)
        except Damaged as damage:
            needed = delta.night in head.ledger
            words = f"the delta of night {delta.night} is damaged: {damage}"
            todo = (
                "the next night needs it: restore state/deltas/ from a backup; today's model works without it"
                if needed
                else "no longer in the ledger; rolling back to that night would need it"
            )
            yield (error if needed else warning)("nights", words, todo, "NF-STATE-006")
        else:
            sound += 1
    missing = [night for night in head.ledger if night not in {delta.night for delta in head.deltas}]
    if missing:
        words = f"HEAD names nights that it has no delta of: {', '.join(missing)}"
        yield error("nights", words, "restore state/HEAD from a backup", "NF-STATE-006")
    yield ok("nights", f"{sound} delta(s) sound, {len(head.ledger)} in force" if head.deltas else "none yet")


def _snapshots(disk: Disk) -> Findings:
    sound = 0
    for name in _names(disk, SNAPSHOTS):
        try:
            verify_alone(disk, f"{SNAPSHOTS}/{name}")
        except Damaged as damage:
            if disk.stat(f"{SNAPSHOTS}/{name}") is not None:
                todo = "remove it by hand; the daemon does not need it"
                yield warning("snapshots", f"{name} is damaged: {damage}", todo, "NF-STATE-006")
        else:
            sound += 1
    yield ok("snapshots", f"{sound} sound" if sound else "none yet")


def _names(disk: Disk, folder: str) -> list[str]:
    """What is in a folder, but for leftovers; nothing, if it is not there or no folder (another check tells)."""
    found = disk.stat(folder)
    if found is None or found.kind != "dir":
        return []
    return [name for name in disk.listdir(folder) if not durable.is_leftover(name)]


def _current(home: Path, head: Head) -> Findings:
    link = home / "current_model"
    if not link.is_symlink():
        what = "is missing" if not link.exists() else "is no link"
        todo = (
            "start the daemon, which makes it" if not link.exists() else f"move {link} away; the daemon makes the link"
        )
        yield warning("current_model", f"it {what}", todo)
    elif link.readlink() != Path(head.generation_path):
        words = f"it points to {link.readlink()}, in force is {head.generation_path}"
        yield warning("current_model", words, "nothing: the daemon mends it when it starts; HEAD alone counts")
    else:
        yield ok("current_model", f"points to {head.generation_path}")


def _unreached(home: Path, disk: Disk, head: Head) -> Findings:
    reached = {kept.path for kept in head.kept} | {delta.path for delta in head.deltas}
    unreached = [
        f"{folder}/{name}"
        for folder in (GENERATIONS, DELTAS)
        for name in _names(disk, folder)
        if f"{folder}/{name}" not in reached
    ]
    if unreached and living_pid(home) is None:
        todo = "nothing: the next start removes it, or sets it aside if it is sound"
        yield warning("unreached", f"HEAD does not reach {', '.join(unreached[:5])}", todo)
    aside = _names(disk, SET_ASIDE)
    if aside:
        todo = f"look at what is in {home / SET_ASIDE}, and remove it when you no longer want it"
        yield warning("set aside", f"{len(aside)} folder(s) were set aside: {', '.join(aside)}", todo)
