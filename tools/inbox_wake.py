"""File-system events as a hint: they wake the scan, which alone decides what is true.

An event source goes silent for ever when the watched folder is replaced, and cannot see what other machines do on a
network drive. So it is armed anew whenever the folder's identity changes, and nothing depends on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

LOOK_MILLISECONDS = 2000
ABSENT_SECONDS = 1.0


async def wake_on_changes(folder: Path, wake: Callable[[], Awaitable[None]]) -> None:
    """Call ``wake`` soon after something changed in ``folder``. Runs until it is cancelled."""
    from watchfiles import awatch

    while True:
        try:
            armed_for = (await anyio.Path(folder).stat()).st_ino
        except OSError:
            await anyio.sleep(ABSENT_SECONDS)
            continue
        async for changes in awatch(
            folder,
            watch_filter=None,
            recursive=False,
            debounce=100,
            step=50,
            rust_timeout=LOOK_MILLISECONDS,
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            if changes:
                await wake()
            if not _is(folder, armed_for):
                break


def _is(folder: Path, inode: int) -> bool:
    try:
        return folder.stat().st_ino == inode
    except OSError:
        return False
