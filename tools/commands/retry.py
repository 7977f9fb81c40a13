"""``nightfold retry``: put failed or mended files back into the inbox.

The file moves first and its report goes afterwards, so a report never disappears while the file still lies beside it.
The file has both names for the moment of the move; a retry that was killed in that moment is finished by the next one.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from runtime.errors import EXIT_DISK, OperatorError
from tools.commands.home import require_home, shown
from tools.commands.submit import put_in_place, sync_folder

FOLDERS = ("failed", "rejected")


def retry(home: Path, names: list[str]) -> int:
    """Move each of ``names`` (``NAME``, ``failed/NAME`` or ``rejected/NAME``) back into ``inbox/``."""
    require_home(home)
    chosen = [_find(home, name) for name in names]
    for path in chosen:
        target = home / "inbox" / path.name
        try:
            if _same_file(path, target):
                path.unlink()  # an earlier retry was killed between giving the file its new name and taking the old one
            else:
                put_in_place(path, target)
            _report(path).unlink(missing_ok=True)
            sync_folder(path.parent)
        except FileExistsError as error:
            raise _taken(target) from error
        except OSError as error:
            raise OperatorError(
                "NF-CONF-010",
                f"{shown(path)} could not be put into the inbox: {error.strerror or error}",
                hint="the file is still there; mend the permission or the disk, then try again",
                exit_code=EXIT_DISK,
            ) from error
        print(f"{shown(path.name)} is in the inbox again (from {path.parent.name}/)")
    return 0


def _find(home: Path, name: str) -> Path:
    wanted = Path(name)
    folder = wanted.parent.name
    folders = (folder,) if folder in FOLDERS else FOLDERS
    found = [home / each / wanted.name for each in folders if (home / each / wanted.name).is_file()]
    if len(found) > 1:
        raise OperatorError(
            "NF-CONF-004",
            f"{shown(wanted.name)} lies in both failed/ and rejected/",
            hint=f"say which: nightfold retry {home} failed/{shown(wanted.name)}",
        )
    if not found or wanted.name.endswith(".report.json"):
        raise OperatorError(
            "NF-CONF-004",
            f"no file {shown(wanted.name)} lies in {' or '.join(f'{each}/' for each in folders)}",
            hint=_hint(home, wanted.name),
        )
    target = home / "inbox" / wanted.name
    if os.path.lexists(target) and not _same_file(found[0], target):
        raise _taken(target)
    return found[0]


def _same_file(path: Path, target: Path) -> bool:
    return os.path.lexists(target) and os.path.samestat(path.lstat(), target.lstat())


def _report(path: Path) -> Path:
    from actors.inbox_watcher.filing import paper_name  # of a long name it is a shorter one

    return path.with_name(paper_name(path.name, "report"))


def _taken(target: Path) -> OperatorError:
    return OperatorError(
        "NF-CONF-004",
        f"{shown(target.name)} waits in the inbox already",
        hint="let that one be trained first, or rename one of the two",
    )


def _hint(home: Path, name: str) -> str:
    there = [
        path.name
        for folder in FOLDERS
        for path in sorted((home / folder).glob("*"))
        if path.is_file() and not path.name.endswith(".report.json")
    ]
    near = difflib.get_close_matches(name, there, n=3, cutoff=0.5) or there[:3]
    if not near:
        return "both folders are empty: there is nothing to try again"
    return "there is: " + ", ".join(shown(each) for each in near)
