"""What can go wrong at a numbered point of a simulated disk, and what a power cut leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Survival = Literal["lose_all", "keep_all", "torn"]
"""What of the un-synced outlives a power cut.

- ``lose_all``: nothing. POSIX at its strictest; finds a missing ``fsync`` or ``fsync_dir``.
- ``keep_all``: everything, as after kill -9. Finds what was done in the wrong order.
- ``torn``: a seeded part. Each write is lost, whole, cut short or zero-filled, and of the directory operations a prefix
  survives, as from ext4's journal. Finds deletes that outlive what should have replaced the deleted.

Each finds bugs that the others do not, so a sweep needs all three.
"""

SURVIVALS: tuple[Survival, ...] = ("lose_all", "keep_all", "torn")


class PowerLost(BaseException):
    """The power is gone. Not an ``Exception``: no error handling in the program may hold it up."""


@dataclass(frozen=True, slots=True)
class PowerCut:
    """The power goes before the operation, or half-way through it.

    Half-way: a write has put half its bytes into the cache, an fsync has synced the first half of what waited, and a
    directory operation is done but not synced.
    """

    survival: Survival = "lose_all"
    seed: int = 0
    halfway: bool = False


@dataclass(frozen=True, slots=True)
class NoSpace:
    """ENOSPC, and nothing has happened. On an fsync (delayed allocation): as ``IoError``, but ENOSPC."""


@dataclass(frozen=True, slots=True)
class ShortWrite:
    """Half of a write gets in, then ENOSPC. On other operations the same as ``NoSpace``."""


@dataclass(frozen=True, slots=True)
class IoError:
    """EIO, and nothing has happened.

    On an fsync of a file, as ext4 and XFS have it: the pages are marked clean and their content is gone. It can still
    be read until the power goes, and the next fsync reports success without having saved it.
    On ``fsync_dir`` the names stay un-synced and may be synced again.
    """


Fault = PowerCut | NoSpace | ShortWrite | IoError
