"""Snapshots without waiting: tensors are copied into kept host buffers that already have the shape of their files.

A safetensors file is a header and then every tensor's bytes. The library writes one such file, and its bytes become a
buffer with a tensor's view at each place that the header names. From then on a snapshot is one copy into these views,
and the buffer *is* the file's content, with nothing to serialise. Hashing, writing and syncing are left to whoever
commits it, behind the next steps and without holding the interpreter's lock.

Guarantees:
    * A filled buffer holds the bytes that ``safetensors.torch.save`` would make of the same tensors.
    * A number that is not finite is never handed on.
    * Buffers are filled again only after they were given back; whoever asks before gets new ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import safetensors.torch
import torch

from actors.trainer.engine import EngineError
from runtime.disk import Buffer

KEPT_MAX = 2
"""One set is written while the next is filled; more than that are needed only while a disk refuses, and not kept."""

Tensors = Mapping[str, torch.Tensor]


class HostFile:
    """One safetensors file in host memory, filled again and again with tensors of the same names, types and shapes.

    Args:
        name: of the file, for errors.
        tensors: an example of what it will hold; the layout is taken from it, not the content.
        pinned: in page-locked memory, to which a GPU copies without a detour.
    """

    def __init__(self, name: str, tensors: Tensors, *, pinned: bool) -> None:
        self._name = name
        shapes = {key: torch.zeros(each.shape, dtype=each.dtype) for key, each in tensors.items()}
        made = bytearray(safetensors.torch.save(shapes, metadata={"format": "pt"}))
        self._bytes = torch.empty(len(made), dtype=torch.uint8, pin_memory=pinned)
        self._bytes.copy_(torch.frombuffer(made, dtype=torch.uint8))
        # The format: eight bytes with the header's length, the header as JSON, then the tensors it has the places of.
        begin = 8 + int.from_bytes(made[:8], "little")
        header = json.loads(made[8:begin])
        self._views: dict[str, torch.Tensor] = {}
        spans: dict[torch.dtype, tuple[int, int]] = {}
        for key, each in shapes.items():
            first, last = (begin + offset for offset in header[key]["data_offsets"])
            self._views[key] = self._bytes[first:last].view(each.dtype).view(each.shape)
            if each.is_floating_point():
                low, high = spans.get(each.dtype, (first, last))
                spans[each.dtype] = (min(low, first), max(high, last))
        # Tensors of one type lie side by side, so all of them are looked at as one.
        self._numbers = [self._bytes[first:last].view(dtype) for dtype, (first, last) in spans.items()]
        self.content: Buffer = memoryview(self._bytes.numpy()).toreadonly()

    def fill(self, tensors: Tensors) -> None:
        """Copy; on a GPU the copy is only begun, and done once the device is synchronised."""
        torch._foreach_copy_(list(self._views.values()), [tensors[key] for key in self._views], non_blocking=True)

    def check(self) -> None:
        """Raises ``EngineError`` NF-TRAIN-005 if a number in it is not finite.

        The least and the greatest of all numbers say it in a fifth of the time that asking each one takes: either is
        not finite where any number is not.
        """
        if all(torch.stack(torch.aminmax(span)).isfinite().all() for span in self._numbers if len(span)):
            return
        name = next(key for key, view in self._views.items() if not view.isfinite().all())
        raise EngineError("NF-TRAIN-005", f"{self._name}: {name} holds numbers that are not finite; it is not saved")


class HostBuffers:
    """Sets of ``HostFile``, each set one snapshot. Filled on the device thread; given back from any.

    Args:
        files: the tensors of each file now, by the file's name; called for each snapshot.
        pinned: see ``HostFile``.
        synchronise: waits until the device has done its copies.
    """

    def __init__(
        self,
        files: Callable[[], Mapping[str, Tensors]],
        *,
        pinned: bool = False,
        synchronise: Callable[[], None] | None = None,
    ) -> None:
        self._files = files
        self._pinned = pinned
        self._synchronise = synchronise
        self._free: list[dict[str, HostFile]] = []
        self._lent: dict[int, dict[str, HostFile]] = {}

    def take(self) -> dict[str, Buffer]:
        """Each file's content as the tensors are now; it stands still until it is given back.

        Raises:
            EngineError: NF-TRAIN-005, a number is not finite.
        """
        now = self._files()
        # One look and no test first: whoever gives back does it from another thread.
        try:
            buffers = self._free.pop()
        except IndexError:
            buffers = {name: HostFile(name, tensors, pinned=self._pinned) for name, tensors in now.items()}
        for name, tensors in now.items():
            buffers[name].fill(tensors)
        if self._synchronise is not None:
            self._synchronise()
        for file in buffers.values():
            file.check()
        content = {name: file.content for name, file in buffers.items()}
        self._lent[id(content[next(iter(content))])] = buffers
        return content

    def give_back(self, content: Mapping[str, Buffer]) -> None:
        """Nobody reads this snapshot any more. One that is not lent, or no longer, is let be."""
        buffers = self._lent.pop(id(next(iter(content.values()))), None)
        if buffers is not None and len(self._free) < KEPT_MAX:
            self._free.append(buffers)
