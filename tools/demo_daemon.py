"""The daemon as the demo runs it: a real process of its own, whose lines are read as they come.

Guarantees that every wait ends, and that no process is ended but the one this object started. What a wait is for may
be anything; the lines that arrive meanwhile are handed on in their order.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

# So that -m finds this very package, whatever lies in the folder where the demo was called.
PACKAGES = Path(__file__).resolve().parents[1]
LOOK_SECONDS = 0.03
END_SECONDS = 30.0


class WaitFailed(Exception):
    """What was waited for did not come; the words say what, and why not."""


class DemoDaemon:
    """One run of ``nightfold run HOME``. ``on_line`` gets each line it prints, without its end."""

    def __init__(self, home: Path, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.cli", "run", str(home)],
            cwd=PACKAGES,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None, "it was opened as a pipe"
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def until(self, reached: Callable[[], bool], what: str, within_seconds: float) -> None:
        """Wait until ``reached``, handing on lines meanwhile.

        Raises:
            WaitFailed: the time is over, or the daemon has ended.
        """
        end = time.monotonic() + within_seconds
        while True:
            self.hand_on()
            if reached():
                return
            code = self._process.poll()
            if code is not None:
                self._rest()
                raise WaitFailed(f"the daemon ended with exit code {code} before {what}")
            if time.monotonic() > end:
                raise WaitFailed(f"after {within_seconds:g} s the demo still waited until {what}")
            time.sleep(LOOK_SECONDS)

    def hand_on(self) -> None:
        """Hand on the lines that have come."""
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self._on_line(line)

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is put in order."""
        self._process.kill()
        self._process.wait()
        self._rest()

    def ended(self) -> int:
        """Its exit code, once it has ended by itself.

        Raises:
            WaitFailed: it has not.
        """
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise WaitFailed(f"the daemon did not end within {END_SECONDS:g} s") from None
        self._rest()
        return code

    def close(self) -> None:
        """End it, if it lives: in order if it can, by force if it cannot."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._rest()

    def _rest(self) -> None:
        # A merge that outlives its daemon for a moment may hold the pipe open; the reader is not waited for long.
        self._reader.join(5.0)
        self.hand_on()
