"""``nightfold import``: moves the learning of an older kind of trainer into a Nightfold home.

Guarantees: the old home is only read; everything is checked before anything is written; what does not fit is told all
at once, and what stays behind is named. No moment of the optimizer is fresh unless a person asked for it.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path

from runtime.errors import EXIT_DISK, EXIT_DONE, EXIT_USAGE, OperatorError
from runtime.home_lock import HomeLock
from tools.moving_in.notes import Notes


def import_home(old_folder: Path, home: Path, *, base: str | None, fresh_optimizer: bool) -> int:
    """Move ``old_folder`` into ``home``.

    Raises:
        OperatorError: NF-STATE-011 ``old_folder`` is no folder; NF-STATE-010 with every problem; NF-STATE-001 a daemon
            lives in ``home``; NF-DISK-003 the disk refused.
    """
    if not old_folder.is_dir():
        raise OperatorError(
            "NF-STATE-011",
            f"{old_folder} is no folder",
            hint="name the folder of the older trainer, the one with current_model/ in it",
            exit_code=EXIT_USAGE,
        )
    # Torch takes a second to import, so a mistake in the paths is told before.
    from tools.moving_in.move import Move

    notes = Notes()
    try:
        move = Move(old_folder, home, notes, base=base, fresh_optimizer=fresh_optimizer)
        move.check(datetime.now().astimezone())
    except OSError as error:
        raise OperatorError(
            "NF-STATE-011",
            f"{old_folder} or {home} cannot be read: {error}",
            hint="see that every file in it may be read; nothing was written",
            exit_code=EXIT_DISK,
        ) from error
    notes.raise_problems()
    with HomeLock(move.destination.home) if move.destination.exists else contextlib.nullcontext():
        try:
            kept = move.write()
        except OSError as error:
            raise OperatorError(
                "NF-DISK-003",
                f"the disk refused: {error}",
                hint="mend the disk and import again; if the home then holds learning, the move was done before",
                exit_code=EXIT_DISK,
            ) from error
    print(f"moved {old_folder} into {home}: generation {kept.generation}, step {kept.global_step}")
    print("".join(f"  {words}\n" for words in notes.told), end="")
    if notes.not_taken:
        print("not taken over:")
        print("".join(f"  {one}\n" for one in notes.not_taken), end="")
    print(f"next: nightfold doctor {home}, then: nightfold run {home}")
    return EXIT_DONE
