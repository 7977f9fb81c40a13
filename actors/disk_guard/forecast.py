"""What the next batch and the next night will write at their peak, by the sizes of what lies on the disk.

This is the one place that forecasts. It guarantees that a batch or a night that begins with so many bytes free beside
the minimum does not run out of space by what the house itself writes: as many generations as retention will let lie,
the one being written beside them, the day's snapshot, the merged model beside the one it replaces.
"""

from __future__ import annotations

import contextlib
import posixpath

import msgspec

from runtime import durable
from runtime.disk import DiskPort

GENERATIONS = "state/generations"
DELTAS = "state/deltas"
SNAPSHOTS = "snapshots"
MODELS = "consolidated_models"
RESERVE = "state/RESERVE"

FOLDER_BYTES = 32 << 10
"""What a folder takes beyond the bytes of the one that was measured: eight blocks of 4 KiB that are not full, and
counters and a manifest that grow by a line."""
SPARE_GENERATIONS = 1
"""One that retention does not count: left in force by going back, or pinned by a person."""
BYTES_A_PARAMETER = 12
"""Of a trained parameter: the weight and two moments, each a float32."""
UNKNOWN_GENERATION_BYTES = 64 << 20
"""Before anything was committed and the model is loaded: a rank of 16 on a model of about a billion parameters."""


class Keeps(msgspec.Struct, frozen=True):
    """How much retention lets lie: the newest generations, and those before and after the newest nights."""

    generations: int = 5
    nights: int = 2


class Lying(msgspec.Struct, frozen=True):
    """What lies on the disk. Sizes are those of the newest of each kind, 0 if there is none.

    ``reserve_bytes`` counts what is being written of a reserve too: it is no longer free, and not yet shown.
    """

    free_bytes: int
    generations: int = 0
    generation_bytes: int = 0
    snapshot_bytes: int = 0
    snapshot_today: bool = False
    nights: int = 0
    model_bytes: int = 0
    reserve_bytes: int = 0


class Forecast(msgspec.Struct, frozen=True):
    """Bytes that a batch and a night will write at most before retention takes what they replace."""

    batch_bytes: int
    night_bytes: int


def look(disk: DiskPort, today: str) -> Lying:
    """Free bytes first: what is released or made meanwhile then counts twice rather than never."""
    free_bytes = disk.free_bytes()
    generations = sorted((name for name in _names(disk, GENERATIONS) if name.isdigit()), key=int)
    snapshots = _names(disk, SNAPSHOTS)
    staged = durable.hidden(RESERVE, "tmp")
    return Lying(
        free_bytes=free_bytes,
        generations=len(generations),
        generation_bytes=_newest_bytes(disk, GENERATIONS, generations),
        snapshot_bytes=_newest_bytes(disk, SNAPSHOTS, snapshots),
        snapshot_today=today in snapshots,
        nights=len(_names(disk, DELTAS)),
        model_bytes=_newest_bytes(disk, MODELS, _names(disk, MODELS)),
        reserve_bytes=durable.size_of(disk, RESERVE) + durable.size_of(disk, staged),
    )


def forecast(lying: Lying, keeps: Keeps, *, adapter_bytes: int, base_bytes: int) -> Forecast:
    """``adapter_bytes`` and ``base_bytes`` stand in for a generation and a merged model while there is none."""
    generation = (lying.generation_bytes or adapter_bytes or UNKNOWN_GENERATION_BYTES) + FOLDER_BYTES
    snapshot = 0 if lying.snapshot_today else max(generation, lying.snapshot_bytes + FOLDER_BYTES)
    in_the_end = keeps.generations + 2 * min(keeps.nights, lying.nights)
    more_to_stay = max(SPARE_GENERATIONS, in_the_end - lying.generations)
    being_written = generation
    model = (lying.model_bytes or base_bytes) + FOLDER_BYTES
    delta = generation  # its adapter alone: less
    return Forecast(
        batch_bytes=more_to_stay * generation + being_written + snapshot,
        night_bytes=model + delta + being_written + snapshot,
    )


def _names(disk: DiskPort, folder: str) -> list[str]:
    """What is whole in a folder, sorted; nothing of a folder that is not there, or just went."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return [name for name in disk.listdir(folder) if not name.startswith(".")]
    return []


def _newest_bytes(disk: DiskPort, folder: str, names: list[str]) -> int:
    """The owners go on meanwhile: one that just went has no size."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return durable.size_of(disk, posixpath.join(folder, names[-1])) if names else 0
    return 0
