"""``nightfold merge``: fold PEFT adapters into a base model, exactly, streaming, outside any home.

Guarantees: ``--out`` appears complete, durable and verified, or not at all; base and adapters are only read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actors.consolidator.merge_problem import MergeProblem
from messages.codes import CODES
from runtime.errors import EXIT_DISK, EXIT_DONE, EXIT_FAILED, OperatorError

OUT_EXISTS = "NF-MERGE-013"
ALREADY_MERGING = "NF-MERGE-014"
NO_SPACE = "NF-MERGE-003"
DISK_REFUSED = "NF-MERGE-004"


def merge_command(base: Path, adapters: list[Path], out: Path) -> int:
    """Merge ``adapters`` into ``base`` and put the verified model at ``out``.

    Raises:
        OperatorError: it cannot be merged, or the disk refused.
    """
    # Torch takes a second to import, so a mistake in the paths is told before.
    for folder in (base, *adapters):
        if not folder.is_dir():
            raise OperatorError("NF-MERGE-015", f"{folder} is not a folder", hint="Name a model and adapter folders.")
    out = out.absolute()
    if out.exists() or out.is_symlink():
        raise OperatorError(
            OUT_EXISTS, f"{out} exists already", hint="Name a folder that does not exist; nothing is overwritten."
        )
    if not out.parent.is_dir():
        raise OperatorError("NF-MERGE-015", f"{out.parent} is not a folder", hint="Make it first, or name another.")
    try:
        with _staging(out) as staged:
            return _merge_and_verify(base, adapters, staged, out)
    except MergeProblem as problem:
        raise OperatorError(
            problem.code, problem.why, hint=CODES[problem.code].action, exit_code=EXIT_FAILED
        ) from problem
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        code = NO_SPACE if full else DISK_REFUSED
        raise OperatorError(code, f"the disk refused: {error}", hint=CODES[code].action, exit_code=EXIT_DISK) from error


def _merge_and_verify(base: Path, adapters: list[Path], staged: Path, out: Path) -> int:
    from actors.consolidator.merge import merge
    from actors.consolidator.verify import verify_tensors

    summary = merge(base, adapters, staged)
    print(f"merged {summary.merged_tensors} of {summary.tensors} tensors, {summary.size_bytes / 1e6:.1f} MB")
    check = verify_tensors(base, adapters, staged)
    print(f"verified: every byte read back; {check.kept:.0%} of the update survives the rounding")
    staged.rename(out)
    _fsync_folder(out.parent)
    print(out)
    return EXIT_DONE


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A place beside ``out`` to write in, ``.NAME.part``, locked; one left behind by a killed merge is used again."""
    part = out.parent / f".{out.name}.part"
    part.mkdir(exist_ok=True)
    handle = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                ALREADY_MERGING, f"another merge is writing {out}", hint="Wait for it, or name another folder."
            ) from None
        staged = part / out.name
        if staged.exists():
            shutil.rmtree(staged)
        try:
            yield staged
        finally:
            shutil.rmtree(part)
    finally:
        os.close(handle)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
