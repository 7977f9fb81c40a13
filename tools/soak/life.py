"""One life of the daemon: a real process, forked from this one, which has imported torch once, and dying with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from actors.consolidator.merge_child import die_with
from runtime import OperatorError
from runtime.disk import Disk
from runtime.trace import Trace

KILLED = -signal.SIGKILL
LOOK_S = 0.02
WARM_HANDLED = Trace().ring.most
"""After a third of so many messages the ring of the trace is full: each is an entry when it is sent, begun and done.
The allocator takes longer, until what it has kept for later suits what is asked of it."""


class Sample(NamedTuple):
    """What a daemon takes at an idle moment: anonymous memory in bytes, open descriptors, threads."""

    age: float
    handled: int
    memory: int
    descriptors: int
    threads: int


class Life:
    """``code`` is how it ended, once it has; ``samples`` are for whoever compares."""

    def __init__(self, number: int, home: Path, said: Path, make_disk: Callable[[Path], Disk] | None) -> None:
        self.number = number
        self.home = home
        self.code: int | None = None
        self.samples: list[Sample] = []
        self.restarts = 0
        self.was_seen = False
        self.asked_to_stop = False
        self.met_a_full_disk = False
        self._began = time.monotonic()
        self.seconds = 0.0
        sys.stdout.flush()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _become_the_daemon(parent, home, said, make_disk)

    @property
    def age(self) -> float:
        return time.monotonic() - self._began

    def ended(self) -> bool:
        """Asks the kernel; ``code`` and ``seconds`` are then known."""
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.code, self.seconds = os.waitstatus_to_exitcode(status), self.age
        return self.code is not None

    def end(self, within_s: float) -> bool:
        """Wait until it has ended; ``False`` if it does not."""
        give_up_at = time.monotonic() + within_s
        while not self.ended():
            if time.monotonic() > give_up_at:
                return False
            time.sleep(LOOK_S)
        return True

    def kill(self) -> None:
        """``kill -9``, and be sure of it."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self.end(30.0)

    def stop(self, *, by_file: bool = False) -> None:
        """Ask it to stop in order."""
        self.asked_to_stop = True
        if by_file:
            with contextlib.suppress(OSError):
                (self.home / ".stop").touch()
                return
        if not self.ended():
            os.kill(self.pid, signal.SIGTERM)

    def sample(self) -> None:
        """Note what it takes now, if that can be read."""
        try:
            actors = json.loads((self.home / "status/actors.json").read_bytes())["actors"]
            memory = _anonymous_bytes(Path(f"/proc/{self.pid}/smaps_rollup").read_text())
            threads = len(list(Path(f"/proc/{self.pid}/task").iterdir()))
            descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        except (OSError, ValueError, KeyError):
            return
        handled = sum(int(actor["handled"]) for actor in actors)
        self.samples.append(Sample(self.age, handled, memory, descriptors, threads))

    def warm_samples(self) -> list[Sample]:
        """Those taken when all that has a bound had reached it."""
        return [sample for sample in self.samples if sample.handled >= WARM_HANDLED]


def _anonymous_bytes(rollup: str) -> int:
    """Resident and swapped, without files: pages shared with the process it was forked from count whole, so that who
    else lives does not change the sum."""
    found = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
    return (found["Anonymous"] + found.get("Swap", 0)) << 10


def _become_the_daemon(parent: int, home: Path, said: Path, make_disk: Callable[[Path], Disk] | None) -> None:
    """In the forked process; never returns."""
    code = 1
    try:
        die_with(parent)
        os.setpgid(0, 0)  # a person's Ctrl-C is for the soak, which then ends this one
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if make_disk is None:
            from tools.cli import main

            code = main(["run", str(home)])
        else:
            from tools.daemon import run

            code = run(home, False, make_disk)
    except OperatorError as error:
        code = error.exit_code
        sys.stdout.write(f"{error}\n")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  (a forked process must never return into its parent's code)
        sys.stdout.write(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(code)
