"""A home on the real disk and the real processes that live on it, as the tests of this folder handle them.

Every wait is bounded, and one that runs out shows what the daemon said.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 60.0
LEARNT = ("adapter_model.safetensors", "held_out.json", "optimizer.safetensors", "rng.safetensors")
"""The files of a generation that are the same after every life of a home."""

CONFIG: Mapping[str, Mapping[str, object]] = {
    "trainer": {
        "model": "model",
        "rank": 4,
        "learning_rate": 5e-3,
        "warmup_steps": 5,
        "epochs": 1,
        "threads": 1,
        "batch_examples": 2,
        "checkpoint_every_steps": 3,
    },
    "inbox_watcher": {"scan_every_seconds": 0.2, "quiet_seconds": 0.1},
    "consolidator": {"nightly": False},
    "status_reporter": {"write_every_seconds": 0.2},
}


class Home:
    """One home."""

    def __init__(self, path: Path, model: Path) -> None:
        self.path = path
        (path / "inbox").mkdir(parents=True)
        shutil.copytree(model, path / "model")
        self.configure()

    def configure(self, **changes: Mapping[str, object]) -> None:
        """The quick config, with whole keys changed: ``configure(validator={"bad_lines": …})``."""
        sections = {name: {**CONFIG.get(name, {}), **changes.get(name, {})} for name in {**CONFIG, **changes}}
        text = "\n".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for name, table in sections.items()
        )
        (self.path / "nightfold.toml").write_text(text)

    def drop(self, name: str, lines: Iterable[object]) -> None:
        """Put a file into the inbox in one step, as ``mv`` would."""
        part = self.path / "inbox" / ".dropping.part"
        part.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        part.rename(self.path / "inbox" / name)

    def json(self, path: str) -> Any:
        return json.loads((self.path / path).read_bytes())

    def has(self, path: str) -> bool:
        return os.path.lexists(self.path / path)

    def head(self) -> dict[str, Any]:
        """HEAD; all zeros where nothing was ever committed."""
        return dict(self.json("state/HEAD")) if self.has("state/HEAD") else {"number": 0, "generation": 0}

    def steps_committed(self) -> int:
        head = self.head()
        kept = {one["generation"]: one for one in head.get("kept", ())}
        return int(kept[head["generation"]]["global_step"]) if kept else 0

    def learnt(self) -> dict[str, bytes]:
        """What the generation in force has learnt, and what it has held out."""
        folder = self.path / self.head()["generation_path"]
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name in LEARNT}

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of one type, oldest first."""
        file = self.path / "status" / "events.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [event for event in map(json.loads, lines) if event["type"] == kind]

    def status(self) -> dict[str, Any]:
        """What ``nightfold status --json`` says, without a process of its own."""
        from tools.commands.home import read_status

        return read_status(self.path)


class Daemon:
    """One process. ``code`` is how it ended; -9 is a kill."""

    def __init__(self, pid: int, said: Path, waited: Callable[[float], int | None]) -> None:
        self.pid = pid
        self._said = said
        self._waited = waited
        self.code: int | None = None

    @property
    def said(self) -> str:
        """All it wrote to its output and its errors."""
        return self._said.read_text() if self._said.exists() else ""

    def lives(self) -> bool:
        return self.ended(within_s=0.0) is None

    def ended(self, within_s: float) -> int | None:
        """Its exit code, or ``None`` if it still lives then."""
        if self.code is None:
            self.code = self._waited(within_s)
        return self.code

    def end(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code; fails if it does not end."""
        code = self.ended(within_s)
        assert code is not None, f"it has not ended after {within_s} s:\n{self.said}"
        return code

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.pid, which)

    def kill(self) -> None:
        """``kill -9``, and be sure of it."""
        if self.lives():
            self.signal(signal.SIGKILL)
            assert self.end() == -signal.SIGKILL, self.said

    def until(self, what: str, holds: Callable[[], object], within_s: float = PATIENCE_S) -> None:
        """Wait until ``holds()``; fails if it does not in time or if the daemon ends before."""
        give_up_at = time.monotonic() + within_s
        while not holds():
            alive = self.lives()
            if holds():
                return
            assert alive, f"it ended with {self.code} before: {what}\n{self.said}"
            assert time.monotonic() < give_up_at, f"not within {within_s} s: {what}\n{self.said}"
            time.sleep(0.005)


def until_gone(pid: int, within_s: float = PATIENCE_S) -> None:
    """Wait until no process has this pid; a dead one that nobody has asked after yet counts as gone."""
    give_up_at = time.monotonic() + within_s
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        assert time.monotonic() < give_up_at, f"process {pid} lives on"
        time.sleep(0.005)


class Nursery:
    """The process that bears daemons; see ``tests.real.nursery``. ``close`` ends it and whom it bore."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.real.nursery"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self._heard() == "ready"

    def bear(self, *argv: str | Path, path: tuple[Path, ...] = (), cold: bool = False) -> Daemon:
        """A process that runs ``nightfold ARGV``; ``path`` comes first on its module path.

        Args:
            cold: its merges are made in new interpreters, as in real life, not in forked ones that are there at once.
        """
        self._count += 1
        said = self._folder / f"said-{self._count:03d}"
        pid = self._ask(bear=[*map(str, argv)], said=str(said), path=[*map(str, path)], cold=cold)
        return Daemon(pid, said, lambda seconds: self._ask(**{"await": pid, "seconds": seconds}))

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE_S)

    def _ask(self, **request: object) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def environment(*path: Path) -> dict[str, str]:
    """One thread, no network, colours off, and ``path`` on the module path."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (*path, PROJECT))),
    }


def command(*argv: str | Path, cwd: Path = PROJECT, within_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """``python -m tools.cli ARGV`` to its end, in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *map(str, argv)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def chat(asked: str, answered: str) -> dict[str, Any]:
    """One exchange, as an example of the chat format."""
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}


def lesson(seed: int, examples: int, words: int = 20) -> list[dict[str, str]]:
    """Examples that differ, long enough that a step takes some milliseconds."""
    text = [f"{(seed * 7919 + number * 104729) % 9973} nights" for number in range(examples + words)]
    return [
        {"prompt": f"Count {seed}.{number}", "completion": " and ".join(text[number : number + words])}
        for number in range(examples)
    ]
