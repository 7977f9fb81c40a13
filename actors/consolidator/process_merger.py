"""The real ``Merger``: runs a merge in a child process and never outlives it nor lets it outlive the night.

Guarantees: ``merge`` returns only when the child and whatever it started have ended; on time-out, refusal, crash and
cancellation nothing is left at ``out``. Imports no torch: the daemon's memory and start-up are not the merge's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, Process

from actors.consolidator.merge_child import MergeJob, MergeOutcome
from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.merger import MergeDone, MergeRefused, MergeRequest
from actors.consolidator.weights_file import weights_bytes
from runtime.disk import DiskPort

TIMED_OUT = "NF-MERGE-001"
CHILD_DIED = "NF-MERGE-002"

PROJECT = Path(__file__).resolve().parents[2]
CHILD = (sys.executable, "-m", "actors.consolidator.merge_child")
WORDS_KEPT_BYTES = 4096
"""How much of what the child says is kept for the report of its death."""
FORECAST_MARGIN_BYTES = 32 << 20
"""Tokenizer, configs and folders, which come with every merged model."""


class ProcessMerger:
    """``Merger`` in a child process of its own session.

    Args:
        disk: the home's files; only a partial ``out`` is ever removed through it.
        base: where the pristine base lies (asked anew each time, it may be known only after the model was fetched).
        timeout_seconds: the merge with its verification takes no longer, or is killed.
        threads: processors the child may use.
        command: what is run; takes a ``MergeJob`` and prints a ``MergeOutcome``.
    """

    def __init__(
        self,
        disk: DiskPort,
        base: Path | Callable[[], Path],
        timeout_seconds: float,
        *,
        threads: int = 2,
        command: Sequence[str] = CHILD,
    ) -> None:
        self._disk = disk
        self._base = base
        self._timeout_seconds = timeout_seconds
        self._threads = threads
        self._command = tuple(command)

    def forecast_bytes(self) -> int:
        try:
            return weights_bytes(self._pristine()) + FORECAST_MARGIN_BYTES
        except (MergeProblem, OSError):
            # A base that cannot be merged costs no space; merge() says in words what is wrong with it.
            return FORECAST_MARGIN_BYTES

    async def merge(self, request: MergeRequest) -> MergeDone | MergeRefused:
        begun = anyio.current_time()
        result: MergeDone | MergeRefused | None = None
        try:
            result = await self._run(self._job(request))
        finally:
            # None: cancelled or crashed. Shielded, for a cancelled scope would cancel the cleaning too.
            if not isinstance(result, MergeDone):
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(partial(self._remove, request.out))
        if isinstance(result, MergeDone):
            return msgspec.structs.replace(result, seconds=anyio.current_time() - begun)
        return result

    def _pristine(self) -> Path:
        return self._base if isinstance(self._base, Path) else self._base()

    def _job(self, request: MergeRequest) -> MergeJob:
        base = self._pristine().resolve()
        last_base = self._disk.real_path(request.last_base).resolve() if request.last_base else base
        return MergeJob(
            base=str(base),
            adapters=tuple(str(self._disk.real_path(delta).resolve()) for delta in request.deltas),
            out=str(self._disk.real_path(request.out).absolute()),
            last_base=str(last_base),
            parent=os.getpid(),
            verify=request.proof != "none",
            answers=request.proof == "answers",
            threads=self._threads,
            nights=request.nights,
            base_fingerprint=request.base_fingerprint,
        )

    async def _run(self, job: MergeJob) -> MergeDone | MergeRefused:
        process = await anyio.open_process(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=PROJECT,  # So that -m finds this very package, wherever the daemon was started.
            start_new_session=True,  # A group of its own, so that it can be killed with all it started.
        )
        said, words = _Tail(1 << 20), _Tail(WORDS_KEPT_BYTES)
        ended = False
        try:
            with anyio.move_on_after(self._timeout_seconds):
                async with anyio.create_task_group() as streams:
                    assert process.stdin is not None
                    assert process.stdout is not None
                    assert process.stderr is not None
                    streams.start_soon(said.follow, process.stdout)
                    streams.start_soon(words.follow, process.stderr)
                    # The child's input stays open: its end is the sign that this process is gone.
                    await _send(process, msgspec.json.encode(job) + b"\n")
                    await process.wait()
                # Both its outputs are closed too, so nothing that it started holds them any more.
                ended = True
                return _outcome(process.returncode, said.text(), words.text())
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process, ended=ended)
        return MergeRefused(TIMED_OUT, f"it was not done after {self._timeout_seconds:g} seconds and was stopped")

    def _remove(self, path: str) -> None:
        found = self._disk.stat(path)
        if found is None:
            return
        if found.kind != "dir":
            self._disk.unlink(path)
            return
        for name in self._disk.listdir(path):
            self._remove(f"{path}/{name}")
        self._disk.rmdir(path)


class _Tail:
    """The last bytes of what a stream said."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept = b""

    async def follow(self, stream: ByteReceiveStream) -> None:
        async for chunk in stream:
            self._kept = (self._kept + chunk)[-self._size :]

    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


async def _send(process: Process, job: bytes) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.send(job)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        # It died before it read the job; its exit status and last words say why.
        return


async def _end(process: Process, *, ended: bool) -> None:
    """Kill the whole group unless all of it has ended, and wait until it is gone."""
    if not ended:
        with contextlib.suppress(ProcessLookupError):  # All of it may end on its own in this very moment.
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await process.aclose()


def _outcome(status: int | None, said: str, words: str) -> MergeDone | MergeRefused:
    last_words = words.splitlines()[-1] if words else "it said nothing"
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        memory = " (the system kills so when memory runs out)" if -status == signal.SIGKILL else ""
        return MergeRefused(CHILD_DIED, f"the merging process was ended by {name}{memory}")
    if status != 0:
        return MergeRefused(CHILD_DIED, f"the merging process failed with status {status}: {last_words}")
    try:
        outcome = msgspec.json.decode(said, type=MergeOutcome)
    except ValueError:  # msgspec's own errors, and what it raises over bytes that are not UTF-8
        return MergeRefused(CHILD_DIED, f"the merging process ended without an outcome: {last_words}")
    return outcome.done or outcome.refused or MergeRefused(CHILD_DIED, "the merging process named no outcome")
