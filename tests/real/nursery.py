"""Bears real daemon processes quickly: it has imported torch once, and each process it forks is a nightfold of its own.

Importing torch costs three processor seconds, which is most of a short life; a test that kills a daemon six times would
spend its time there. A forked process has its own memory, locks, threads and exit, and runs ``tools.cli.main`` as the
command does. So it is with the processes in which its nights are merged, unless it is to be ``cold``. Speaks JSON
lines: ``{"bear": argv, "said": file, "path": folders, "cold": bool}`` gives a pid, ``{"await": pid, "seconds": s}`` the
exit status, negative for a signal, or null if it lives on. When its own input ends it kills whom it bore.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from typing import Any

from tools.crash_matrix import warm_merge


def main() -> None:
    importlib.import_module("actors.trainer.torch_engine")
    importlib.import_module("tools.daemon")
    merges = warm_merge.begin("nursery")

    living: set[int] = set()
    answer("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if "bear" in request:
            pid = os.fork()
            if pid == 0:
                live(request, merges)
            living.add(pid)
            answer(pid)
        else:
            status = waited_for(request["await"], request["seconds"])
            if status is not None:
                living.discard(request["await"])
            answer(status)
    for pid in living:
        os.kill(pid, signal.SIGKILL)


def answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def live(request: dict[str, Any], merges: str) -> None:
    """Become the command: its own input and output, its own environment; ends with its exit code."""
    from tools.cli import main as command

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    said = os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.path[:0] = request["path"]
    if not request["cold"]:
        warm_merge.installed(merges)
    sys.exit(command(request["bear"]))


def waited_for(pid: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.005)


if __name__ == "__main__":
    main()
