"""A home in a temporary folder, and a stand-in for the daemon that keeps its side of the contract with the commands."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.home_lock import HomeLock


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as ``init`` leaves it, as far as the commands look."""
    home = tmp_path / "home"
    for folder in ("inbox", "trained", "rejected", "failed", "state", "status"):
        (home / folder).mkdir(parents=True)
    (home / "nightfold.toml").write_text('[trainer]\nmodel = "model"\n')
    return home


def write_status(home: Path, **fields: object) -> None:
    """Replace the status file, as the daemon does."""
    part = home / "status" / "training_status.json.tmp"
    part.write_text(json.dumps({"schema": 1, "pid": os.getpid(), "state": "idle", **fields}))
    part.replace(home / "status" / "training_status.json")


class LivingDaemon:
    """Holds the home's lock and answers wishes by ``answer(wish, home)``, looking every few milliseconds.

    It lives in a thread of this process: the kernel tells two open lock files apart, not two processes.
    """

    def __init__(self, home: Path, answer: Callable[[str, Path], dict[str, Any] | None]) -> None:
        self.home = home
        self._answer = answer
        self._over = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> LivingDaemon:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self.die()

    def die(self) -> None:
        """End without a word, as kill -9 would."""
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        with HomeLock(self.home):
            paused = (self.home / ".pause").exists()
            self._up.set()
            while not self._over.wait(0.005):
                for wish in (".stop", ".consolidate"):
                    if (self.home / wish).exists():
                        (self.home / wish).unlink()
                        self._say(wish)
                        if wish == ".stop":
                            return
                if paused != (self.home / ".pause").exists():
                    paused = not paused
                    self._say(".pause" if paused else "resume")

    def _say(self, wish: str) -> None:
        fields = self._answer(wish, self.home)
        if fields is not None:
            write_status(self.home, **fields)


Answers = dict[str, dict[str, Any] | None]


@pytest.fixture
def daemon(home: Path) -> Iterator[Callable[..., LivingDaemon]]:
    """``daemon(answers)`` starts one that is idle at step 7; ``answers`` maps a wish to the status it leads to."""
    started: list[LivingDaemon] = []

    def start(answers: Answers | None = None, **status: object) -> LivingDaemon:
        write_status(home, **{"global_step": 7, "generation": 3, **status})
        known = answers or {}
        living = LivingDaemon(home, lambda wish, _home: known.get(wish))
        living.__enter__()
        started.append(living)
        return living

    yield start
    for living in started:
        living.die()
