"""Fold adapters into a base model: ``round(base + sum of deltas)``, streamed block by block.

Guarantees:
    * The arithmetic is fp32 with one rounding to the base's dtype, from the base as it lies on disk. With one fp32
      adapter the bytes are those of peft's default merge (its ``safe_merge`` rounds the delta too, and differs).
    * The new folder has the base's file names and layout; tensors no adapter touches are copied byte for byte.
    * Memory does not grow with the model: a few blocks for each worker and the factors of one weight at a time.
    * Each file's digest is computed from the very bytes that are written, as they are: nothing is read again for it.
    * When ``merge`` returns, every file and the folder are fsynced. When it raises, what lies at ``out`` is not to be
      used and the caller removes it.

This module writes with ordinary file calls, not through the disk port: it runs in a child process outside the daemon
(or from the command line), only ever below ``out``, which nobody else knows of before the caller renames it.
"""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import blake3
import msgspec
import torch

from actors.consolidator.adapter_delta import ADAPTER_DAMAGED, BaseNames, LowRank, read_delta
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.weights_file import QUANTISED, TensorPlace, WeightsFile, read_model
from runtime.manifest import MANIFEST, FileEntry

NOT_FINITE = "NF-MERGE-023"
OUT_EXISTS = "NF-MERGE-013"

BLOCK_BYTES = 4 << 20
WORKERS_MAX = 2
"""Two workers keep memory and disk busy (0.6 s for 600 MB against 1.5 s with one); more would only hold memory."""

FLOATS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

COPIED_ENDINGS = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
COPIED_BEGINNINGS = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
MORE_TEMPLATES = "additional_chat_templates"


class MergeSummary(msgspec.Struct, frozen=True):
    """What was written: all tensors, those that were changed, the bytes of the weight files, and every file."""

    tensors: int
    merged_tensors: int
    size_bytes: int
    files: Mapping[str, FileEntry]


class Fold(msgspec.Struct, frozen=True):
    """What is added to one weight: for each scaling, ``scaling * left @ right`` in fp32.

    Adapters of one scaling stand side by side in ``left`` and below one another in ``right``, so that a ledger of
    many nights is one product.
    """

    weight: TensorPlace
    groups: tuple[tuple[float, torch.Tensor, torch.Tensor], ...]


class Block(msgspec.Struct, frozen=True):
    """A range of bytes of one file; with ``fold``, whole rows of one weight."""

    start: int
    size: int
    fold: Fold | None = None
    first_row: int = 0
    rows: int = 0


class Plan(msgspec.Struct, frozen=True):
    """Which files there are and which adapters change which of their tensors."""

    files: tuple[WeightsFile, ...]
    deltas: Mapping[str, tuple[LowRank, ...]]
    copied: tuple[str, ...]


def plan_merge(base: Path, adapters: list[Path]) -> Plan:
    """Read all headers and configs, and refuse whatever cannot be merged exactly, before a byte is written."""
    files = tuple(read_model(base))
    names = BaseNames(place for file in files for place in file.tensors)
    deltas: dict[str, tuple[LowRank, ...]] = {}
    for adapter in adapters:
        for name, low_rank in read_delta(adapter, names).items():
            deltas[name] = (*deltas.get(name, ()), low_rank)
    for file in files:
        for place in file.tensors:
            if place.name in deltas and place.dtype not in FLOATS:
                raise MergeProblem(
                    QUANTISED, f"{place.name} is {place.dtype} in the base; a delta needs a float weight"
                )
    copied = [path.name for path in base.iterdir() if path.is_file() and _is_copied(path.name)]
    copied += [f"{MORE_TEMPLATES}/{path.name}" for path in base.glob(f"{MORE_TEMPLATES}/*.jinja")]
    return Plan(files, deltas, tuple(sorted(copied)))


def merge(base: Path, adapters: list[Path], out: Path) -> MergeSummary:
    """Write ``round(base + sum of deltas)`` into the new folder ``out``.

    Raises:
        MergeProblem: base or adapters cannot be merged exactly, or the result is not finite.
        OSError: the disk refused.
    """
    plan = plan_merge(base, adapters)
    if out.exists():
        raise MergeProblem(OUT_EXISTS, f"{out} exists already; a merge writes a new folder")
    out.mkdir()
    written = {file.path.name: _write_weights(plan, file, out / file.path.name) for file in plan.files}
    for name in plan.copied:
        (out / name).parent.mkdir(exist_ok=True)
        written[name] = write_new((base / name).read_bytes(), out / name)
        fsync((out / name).parent)
    fsync(out)
    fsync(out.parent)
    return MergeSummary(
        tensors=sum(len(file.tensors) for file in plan.files),
        merged_tensors=len(plan.deltas),
        size_bytes=sum(file.size for file in plan.files),
        files=written,
    )


def blocks_of(plan: Plan, file: WeightsFile) -> Iterator[Block]:
    """Every byte of the file's tensors once, in order; the factors of a weight are read when its turn comes."""
    for place in file.tensors:
        deltas = plan.deltas.get(place.name)
        if deltas is None:
            for start in range(place.start, place.end, BLOCK_BYTES):
                yield Block(start, min(BLOCK_BYTES, place.end - start))
            continue
        fold = _read_fold(place, deltas)
        row_bytes = (place.end - place.start) // place.shape[0]
        step = max(1, BLOCK_BYTES // row_bytes)
        for first in range(0, place.shape[0], step):
            rows = min(step, place.shape[0] - first)
            yield Block(place.start + first * row_bytes, rows * row_bytes, fold, first, rows)


def for_each_block(plan: Plan, file: WeightsFile, work: Callable[[Workbench, Block], None]) -> None:
    """Run ``work`` on all blocks of a file, by a few workers that each keep their own buffers.

    Blocks are independent, and each one's arithmetic runs on one thread, so the result does not depend on how many
    workers there are. The first error stops all and is raised.
    """
    blocks = blocks_of(plan, file)
    lock = threading.Lock()
    stop = threading.Event()

    def next_block() -> Block | None:
        with lock:
            return None if stop.is_set() else next(blocks, None)

    def run() -> None:
        torch.set_num_threads(1)
        bench = Workbench(_largest_block(plan, file))
        try:
            while (block := next_block()) is not None:
                work(bench, block)
        finally:
            stop.set()

    threads_before = torch.get_num_threads()
    workers = min(WORKERS_MAX, os.cpu_count() or 1)
    try:
        with ThreadPoolExecutor(workers, thread_name_prefix="merge") as pool:
            for future in [pool.submit(run) for _ in range(workers)]:
                future.result()
    finally:
        torch.set_num_threads(threads_before)


class Workbench:
    """One worker's buffers, made once: fresh ones for every block cost more than the arithmetic (page faults)."""

    def __init__(self, size: int) -> None:
        self._raw = torch.empty(size, dtype=torch.uint8)
        # fp32 needs at most twice the bytes of the two-byte floats.
        self._exact = torch.empty(size // 2)
        self._delta = torch.empty(size // 2)
        self._more: torch.Tensor | None = None
        self._beside: torch.Tensor | None = None
        self._bytes = memoryview(self._raw.numpy())

    def load(self, handle: int, block: Block) -> torch.Tensor:
        """Read a block of the base and add to it what its fold says; the bytes are valid until the next call."""
        read_fully(handle, self._bytes[: block.size], block.start)
        if block.fold is not None:
            self._add(block, block.fold)
        return self._raw[: block.size]

    def read_beside(self, handle: int, block: Block) -> torch.Tensor:
        """Read the same range of another file, to compare; valid until the next call, and leaves ``load``'s alone."""
        if self._beside is None:
            self._beside = torch.empty_like(self._raw)
        view = self._beside[: block.size]
        read_fully(handle, memoryview(view.numpy()), block.start)
        return view

    def _add(self, block: Block, fold: Fold) -> None:
        dtype = FLOATS[fold.weight.dtype]
        weight = self._raw[: block.size].view(dtype)
        count = weight.numel()
        delta = self._delta[:count]
        for number, (scaling, left, right) in enumerate(fold.groups):
            target = delta if number == 0 else self._extra()[:count]
            rows = left[block.first_row : block.first_row + block.rows]
            torch.mm(rows, right, out=target.view(block.rows, -1))
            target.mul_(scaling)
            if number > 0:
                delta.add_(target)
        exact = self._exact[:count]
        exact.copy_(weight)
        delta.add_(exact)
        # A dot product is the cheapest pass that any NaN or Inf survives; large but finite sums are looked at again.
        if not math.isfinite(torch.dot(delta, delta)) and not bool(torch.isfinite(delta).all()):
            raise MergeProblem(NOT_FINITE, f"{fold.weight.name}: base + deltas holds NaN or Inf")
        weight.copy_(delta)
        # float16 ends at 65504: a finite sum may still round to Inf.
        if dtype is torch.float16 and not bool(torch.isfinite(weight).all()):
            raise MergeProblem(NOT_FINITE, f"{fold.weight.name}: base + deltas does not fit into float16")

    def _extra(self) -> torch.Tensor:
        if self._more is None:
            self._more = torch.empty_like(self._delta)
        return self._more


def read_fully(handle: int, view: memoryview, start: int) -> None:
    """Fill ``view`` from ``start`` on; a file that ends early has been cut since its header was checked."""
    done = 0
    while done < len(view):
        read = os.preadv(handle, [view[done:]], start + done)
        if read == 0:
            raise OSError(errno.EIO, "the file ended while it was read")
        done += read


def read_tensor(path: Path, place: TensorPlace) -> torch.Tensor:
    """One tensor as a matrix in fp32."""
    if place.dtype not in FLOATS:
        raise MergeProblem(ADAPTER_DAMAGED, f"{path}: {place.name} is {place.dtype}; expected a float type")
    raw = torch.empty(place.end - place.start, dtype=torch.uint8)
    with path.open("rb", buffering=0) as file:
        read_fully(file.fileno(), memoryview(raw.numpy()), place.start)
    return raw.view(FLOATS[place.dtype]).float().view(place.shape)


def _read_fold(weight: TensorPlace, deltas: tuple[LowRank, ...]) -> Fold:
    by_scaling: dict[float, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    for low_rank in deltas:
        a = read_tensor(low_rank.file, low_rank.factor_a)
        b = read_tensor(low_rank.file, low_rank.factor_b)
        for place, factor in ((low_rank.factor_a, a), (low_rank.factor_b, b)):
            if not bool(torch.isfinite(factor).all()):
                raise MergeProblem(NOT_FINITE, f"{low_rank.file}: {place.name} holds NaN or Inf")
        lefts, rights = by_scaling.setdefault(low_rank.scaling, ([], []))
        # (B @ A).T is A.T @ B.T: a Conv1D weight stands the other way round.
        lefts.append(a.T if low_rank.transposed else b)
        rights.append(b.T if low_rank.transposed else a)
    groups = tuple(
        (scaling, torch.cat(lefts, dim=1).contiguous(), torch.cat(rights, dim=0).contiguous())
        for scaling, (lefts, rights) in by_scaling.items()
    )
    return Fold(weight, groups)


class _InOrder:
    """The digest of a file whose blocks are made by several workers: each waits until those before it are in.

    Blocks are handed out in the order of the file, so nobody waits for longer than one other's block takes.
    """

    def __init__(self, preamble: bytes) -> None:
        self._found = blake3.blake3(preamble)
        self._position = len(preamble)
        self._turn = threading.Condition()
        self._given_up = False

    def update(self, start: int, view: memoryview) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._position == start or self._given_up)
            # Nobody else's turn comes before this is in.
            self._found.update(view)
            self._position += len(view)
            self._turn.notify_all()

    def give_up(self) -> None:
        """A block will not come: nobody is to wait for it."""
        with self._turn:
            self._given_up = True
            self._turn.notify_all()

    def entry(self) -> FileEntry:
        return FileEntry(self._position, f"blake3:{self._found.hexdigest()}")


def _write_weights(plan: Plan, file: WeightsFile, path: Path) -> FileEntry:
    digest = _InOrder(file.preamble)
    source = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        _reserve(target, file.size)
        _write_fully(target, memoryview(file.preamble), 0)

        def write(bench: Workbench, block: Block) -> None:
            try:
                view = memoryview(bench.load(source, block).numpy())
                _write_fully(target, view, block.start)
            except BaseException:
                digest.give_up()
                raise
            digest.update(block.start, view)

        for_each_block(plan, file, write)
        os.fsync(target)
    finally:
        os.close(target)
        os.close(source)
    return digest.entry()


def write_new(data: bytes, path: Path) -> FileEntry:
    """Write and sync a file that is not there yet; its name still needs ``fsync`` of the folder."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(len(data), f"blake3:{blake3.blake3(data).hexdigest()}")


def entry_of_file(path: Path) -> FileEntry:
    """What a manifest says of a file that is there."""
    found, size = blake3.blake3(), 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(BLOCK_BYTES):
            found.update(piece)
            size += len(piece)
    return FileEntry(size, f"blake3:{found.hexdigest()}")


def _largest_block(plan: Plan, file: WeightsFile) -> int:
    rows = [(place.end - place.start) // max(1, place.shape[0]) for place in file.tensors if place.name in plan.deltas]
    return max([BLOCK_BYTES, *rows])


def _write_fully(handle: int, view: memoryview, start: int) -> None:
    done = 0
    while done < len(view):
        done += os.pwrite(handle, view[done:], start + done)


def _reserve(handle: int, size: int) -> None:
    """Take the space now, so that a full disk is found before minutes of work and not after."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            raise


def fsync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_copied(name: str) -> bool:
    if name == MANIFEST or name.startswith((".", "adapter_")):
        return False
    return name.endswith(COPIED_ENDINGS) or name.startswith(COPIED_BEGINNINGS)
