"""The child process that merges: one JSON job on standard input, one JSON outcome on standard output.

``python -m actors.consolidator.merge_child``. Guarantees: it yields to everybody else (lowest priority for the
processor, first choice of the out-of-memory killer), computes on the CPU and never goes to the network, dies when the
daemon dies, and says in one line what came of it. Exit status 0 for ``MergeDone`` and ``MergeRefused`` alike; anything
else is a crash. Torch is imported only once a job is there, so the daemon may import this module for its types.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import threading
from pathlib import Path

import msgspec

from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.merger import MergeDone, MergeRefused
from actors.consolidator.model_manifest import manifest_of
from runtime.manifest import MANIFEST, FileEntry, table_digest

NO_SPACE = "NF-MERGE-003"
DISK_REFUSED = "NF-MERGE-004"
NO_MEMORY = "NF-MERGE-005"

PR_SET_PDEATHSIG = 1


class MergeJob(msgspec.Struct, frozen=True):
    """What to merge, all paths absolute. ``parent`` is the process that must live for this to go on."""

    base: str
    adapters: tuple[str, ...]
    out: str
    last_base: str
    parent: int
    verify: bool = True
    answers: bool = True
    threads: int = 2
    nights: tuple[str, ...] = ()
    base_fingerprint: str = ""


class MergeOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """Exactly one of the two."""

    done: MergeDone | None = None
    refused: MergeRefused | None = None


def main() -> int:
    """Read the job, do it, print the outcome."""
    # Libraries print as they please: from here on all of it goes to standard error, and the outcome to its own handle.
    outcome_handle = os.dup(1)
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=MergeJob)
    die_with(job.parent)
    _step_back(job.threads)
    outcome = _do(job)
    os.write(outcome_handle, msgspec.json.encode(outcome) + b"\n")
    return 0


def die_with(parent: int) -> None:
    """See to it that this process ends when ``parent`` does, however it ends."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0:
            if os.getppid() != parent:  # It died before we asked.
                os._exit(1)
            return
    threading.Thread(target=_exit_at_end_of_input, name="parent watch", daemon=True).start()


def _exit_at_end_of_input() -> None:
    # The parent keeps its end open for as long as it lives; the kernel closes it when it does not.
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def _step_back(threads: int) -> None:
    os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.update(
        CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false"
    )


def _do(job: MergeJob) -> MergeOutcome:
    from actors.consolidator.held_out import kept_in_generation
    from actors.consolidator.merge import fsync, merge, write_new
    from actors.consolidator.verify import verify_answers, verify_tensors

    base, out, adapters = Path(job.base), Path(job.out), [Path(adapter) for adapter in job.adapters]
    try:
        summary = merge(base, adapters, out)
        made_of = tuple(_files_of(adapter) for adapter in adapters)
        nights = job.nights or tuple(adapter.name for adapter in adapters)
        write_new(manifest_of(nights, job.base_fingerprint, made_of, summary.files), out / MANIFEST)
        fsync(out)
        difference, held_out = 0.0, None
        if job.verify:
            verify_tensors(base, adapters, out)
            if adapters and job.answers:
                check = verify_answers(
                    Path(job.last_base), adapters[-1], out, held_out=kept_in_generation(adapters[-1])
                )
                difference, held_out = check.max_logit_difference, check.held_out
    except MergeProblem as problem:
        return MergeOutcome(refused=MergeRefused(problem.code, problem.why))
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return MergeOutcome(refused=MergeRefused(NO_SPACE if full else DISK_REFUSED, f"the disk refused: {error}"))
    except MemoryError:
        return MergeOutcome(refused=MergeRefused(NO_MEMORY, "there was not enough memory to merge and verify"))
    digest = table_digest(summary.files)
    done = MergeDone(summary.tensors, summary.size_bytes, difference, seconds=0.0, digest=digest, held_out=held_out)
    return MergeOutcome(done=done)


def _files_of(adapter: Path) -> dict[str, FileEntry]:
    """The files of an adapter that decide what it adds. They are read to the last byte by the merge itself."""
    from actors.consolidator.adapter_delta import ADAPTER_CONFIG, ADAPTER_WEIGHTS
    from actors.consolidator.merge import entry_of_file

    return {name: entry_of_file(adapter / name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}


if __name__ == "__main__":
    sys.exit(main())
