"""Homes with the tiny model in them, and daemons that do not outlive their test."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.daemons import LEARNT, Daemon, Home, Nursery, command, lesson

Live = Callable[..., Daemon]

STEPS = 40
"""Of the two lessons together, at two examples a step."""
HELD_OUT = 2
"""Of the examples of each, which are in no step."""


def lessons(home: Home) -> None:
    """The two files that every story about byte identity trains."""
    home.drop("first.jsonl", lesson(1, STEPS + HELD_OUT))
    home.drop("second.jsonl", lesson(2, STEPS + HELD_OUT))


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path) -> Home:
    return Home(tmp_path / "home", tiny_model)


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def live(nursery: Nursery) -> Iterator[Live]:
    """``live("run", home.path)`` starts a real process; those that still live at the end of the test are killed."""
    borne: list[Daemon] = []

    def bear(*argv: str | Path, path: tuple[Path, ...] = (), cold: bool = False) -> Daemon:
        borne.append(nursery.bear(*argv, path=path, cold=cold))
        return borne[-1]

    yield bear
    for daemon in borne:
        daemon.kill()


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, bytes]:
    """What a home has learnt that trained both lessons in one undisturbed life, in an interpreter of its own."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / "straight.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / "straight"
        if not folder.exists():
            home = Home(root / "straight.part", tiny_model)
            lessons(home)
            done = command("run", home.path, "--until-idle")
            assert done.returncode == 0, done.stdout + done.stderr
            assert home.head()["generation"] >= STEPS // 4, "it was to be checkpointed every three steps"
            assert home.steps_committed() == STEPS
            home.path.rename(folder)
    generation = (folder / "current_model").resolve()
    return {file.name: file.read_bytes() for file in sorted(generation.iterdir()) if file.name in LEARNT}
