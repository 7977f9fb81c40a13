"""``state/RESERVE``: bytes that are taken up in good times and given back on a full disk, for HEAD and status.

Guarantees: what has the reserve's name takes up its whole size, on file systems too that compress or leave holes, for
its bytes are blake3's output without end; a half-made one has a hidden name, which start-up sweeps. Its owner alone,
the Checkpointer, makes and releases it. Nothing is ever read back: a damaged reserve is as good as a sound one.
"""

from __future__ import annotations

from collections.abc import Iterator

import blake3

from runtime import durable
from runtime.disk import DiskPort

RESERVE = "state/RESERVE"
SEED = b"nightfold: bytes that do not compress"
CHUNK_BYTES = 1 << 20


class Reserve:
    """The file and how large it is to be; ``0``: there is to be none. Synchronous; each method is one I/O job."""

    def __init__(self, disk: DiskPort, size_bytes: int) -> None:
        self._disk = disk
        self._size_bytes = size_bytes

    def lies(self) -> int:
        """How many bytes lie there."""
        found = self._disk.stat(RESERVE)
        return found.size if found is not None else 0

    def fits(self) -> bool:
        """Does it lie there in the size that is wanted?"""
        return self.lies() == self._size_bytes

    def make(self) -> int:
        """Write it unless it lies there; one of another size goes first. Returns the bytes that were written.

        Raises:
            OSError: the disk refused; nothing is left but what ``durable.sweep`` takes.
        """
        if self.fits():
            self._sync()
            return 0
        self.release()
        if self._size_bytes:
            durable.write_pieces(self._disk, RESERVE, self._pieces())
        return self._size_bytes

    def _pieces(self) -> Iterator[bytes]:
        endless = blake3.blake3(SEED)
        for at in range(0, self._size_bytes, CHUNK_BYTES):
            yield endless.digest(length=min(CHUNK_BYTES, self._size_bytes - at), seek=at)

    def release(self) -> int:
        """Delete it, if it lies there. Returns the bytes that are free again.

        Raises:
            OSError: it may still be there.
        """
        size_bytes = self.lies()
        if size_bytes:
            durable.remove(self._disk, RESERVE)
        else:
            self._sync()
        return size_bytes

    def _sync(self) -> None:
        """A try before may have failed at its last sync, after which a power cut takes back what shows."""
        self._disk.fsync_dir(durable.parent_of(RESERVE))
