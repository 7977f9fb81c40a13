"""The script that every case plays: two good files and a bad one, a night, a rollback, one more file; real processes.

A driver that goes by what it finds on disk, as a person would: it drops, waits, asks for a night, starts again what has
ended, and asks again for what was refused. So it also finishes the script after a fault. Each process is forked from
this one, which has imported torch once, and dies with it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actors.consolidator.merge_child import die_with
from runtime import OperatorError, durable
from tools.crash_matrix.dropped import CONFIG, FIRST, LAST, content, names
from tools.crash_matrix.faulty_disk import FaultyDisk, Strike
from tools.crash_matrix.points import Places
from tools.crash_matrix.power_cut import cut_power

STAGES = ("learn", "rollback", "more")
"""Each begins between two processes, so that a case may begin at a copy of the home as it then was."""

PATIENCE_S = 300.0
"""For one stage, with every wait and second try that a fault brings."""
LOOK_S = 0.01
ASK_AGAIN_S = 10.0
STARTS_MAX = 5
POWER_GONE = -signal.SIGKILL


class Broken(Exception):
    """The script did not come to its end, or not to the end it should come to; the text says how."""


class Run:
    """One home and what is done with it, in ``folder``; ``strike`` comes in the first process of ``play``."""

    def __init__(self, folder: Path, *, strike: Strike | None = None, journal: bool = False) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.said = folder / "said"
        self.exits: list[int] = []
        self._journal = folder / "journal" if journal else None
        self._graves = folder / "graves"
        self._struck = folder / "struck"
        self._strike = strike
        self._power_was_cut = False
        self._places = Places(names())

    # Where it begins.

    @classmethod
    def begun(cls, folder: Path, model: Path) -> Run:
        """A fresh home; its journal is kept."""
        run = cls(folder, journal=True)
        (run.home / "inbox").mkdir(parents=True)
        run._graves.mkdir()
        run._noted("folder", "inbox")
        # The lock makes it before the daemon has a disk; it is durable only once the daemon has synced it.
        run._noted("mkdir", "state", "")
        (run.home / "nightfold.toml").write_text(CONFIG.format(model=model))
        return run

    @classmethod
    def copied(cls, image: Path, folder: Path, strike: Strike) -> Run:
        """Goes on where ``image`` was taken."""
        shutil.copytree(image, folder, symlinks=True, copy_function=_copied)
        return cls(folder, strike=strike, journal=strike.fault == "power")

    def image(self, folder: Path) -> None:
        """Keep all of it as it is now, between two processes."""
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=_copied)

    @property
    def struck(self) -> bool:
        """Has the fault come?"""
        return self._struck.exists()

    def drop(self, name: str) -> None:
        """As ``mv`` into the inbox."""
        part = self.home / "inbox" / ".dropping.part"
        part.write_bytes(content(name))
        part.rename(self.home / "inbox" / name)
        self._noted("drop", f"inbox/{name}")

    def _noted(self, *entry: str) -> None:
        if self._journal is not None:
            with self._journal.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # What is done.

    def play(self, stage: str) -> None:
        """One stage to its end.

        Raises:
            Broken: it does not come to it.
        """
        {"learn": self._learn, "rollback": self._roll_back, "more": self._more}[stage]()

    def _learn(self) -> None:
        for name in FIRST:
            self.drop(name)
        wish = _Wish(self)
        self._live(lambda pid: self._filed(FIRST) and wish.granted(pid) and self._idle(pid))

    def _roll_back(self) -> None:
        """To what was in force before the night: the adapter that the night had folded."""
        nights = self.head()["nights"]
        target = str(nights[-1]["folded"]) if nights else "?"

        def roll_back() -> int:
            from tools.commands.rollback import rollback

            return rollback(self.home, target, self._disk)

        for _ in range(STARTS_MAX):
            if self._ended(self._forked(roll_back)) == 0:
                return
        raise Broken(f"rollback to {target} ended with {self.exits}")

    def _more(self) -> None:
        self.drop(LAST)
        self._live(lambda pid: self._filed((LAST,)) and self._idle(pid))

    def live_once_more(self) -> None:
        """A start and a stop, for what only a start tidies up."""
        self._live(self._idle)

    def _live(self, done: Callable[[int], bool]) -> None:
        """Run the daemon, as often as it takes, until ``done`` while it lives and it has then stopped in order."""
        patience_ends = time.monotonic() + PATIENCE_S
        for _ in range(STARTS_MAX):
            pid, asked_to_stop = self._forked(self._daemon), False
            while (code := self._looked_after(pid)) is None:
                if not asked_to_stop and done(pid):
                    os.kill(pid, signal.SIGTERM)
                    asked_to_stop = True
                if time.monotonic() > patience_ends:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    raise Broken(f"not done after {PATIENCE_S:g} s: {self._where()}")
                time.sleep(LOOK_S)
            if code == 0 and asked_to_stop:
                return
        raise Broken(f"the daemon ended with {self.exits}, and was not done: {self._where()}")

    def _daemon(self) -> int:
        from tools.daemon import run

        return run(self.home, False, self._disk)

    def _disk(self, home: Path) -> FaultyDisk:
        """For the next process. A fault that has come does not come again, and after it no journal is needed."""
        return FaultyDisk(
            home,
            self._places,
            journal=None if self.struck else self._journal,
            graves=self._graves,
            strike=None if self.struck else self._strike,
            struck=self._struck,
        )

    # Processes.

    def _forked(self, body: Callable[[], int]) -> int:
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            die_with(parent)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            said = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = body()
        except OperatorError as error:
            code = error.exit_code
            sys.stdout.write(f"{error}\n")
        except BaseException:  # noqa: BLE001  (a forked process must never return into its parent's code)
            sys.stdout.write(traceback.format_exc())
        finally:
            sys.stdout.flush()
            os._exit(code)

    def _looked_after(self, pid: int) -> int | None:
        """Its exit code, once it has one; after the power cut the home is what that left."""
        found, status = os.waitpid(pid, os.WNOHANG)
        return self._noticed(status) if found else None

    def _ended(self, pid: int) -> int:
        return self._noticed(os.waitpid(pid, 0)[1])

    def _noticed(self, status: int) -> int:
        code = os.waitstatus_to_exitcode(status)
        self.exits.append(code)
        power = self._strike is not None and self._strike.fault == "power"
        if code == POWER_GONE and power and self.struck and not self._power_was_cut:
            assert self._journal is not None, "a power cut needs a journal"
            self._power_was_cut = True
            cut_power(self.home, self._journal, self._graves)
        return code

    # What is found.

    def json(self, path: str) -> dict[str, Any]:
        """A record of the home; empty while it is not there."""
        try:
            return dict(json.loads((self.home / path).read_bytes()))
        except FileNotFoundError:
            return {}

    def head(self) -> dict[str, Any]:
        """HEAD, or what it is before the first commit."""
        return self.json("state/HEAD") or {"ledger": [], "nights": [], "generation": 0}

    def refused_nights(self) -> int:
        """How many nights were refused so far."""
        events = self.home / "status/events.jsonl"
        return events.read_bytes().count(b'"NightRefused"') if events.exists() else 0

    def _idle(self, pid: int) -> bool:
        status = self.json("status/training_status.json")
        # Idle it also is before the model is loaded; what a start tidies up is tidied once it is.
        return status.get("pid") == pid and status.get("state") == "idle" and bool(status.get("device"))

    def _filed(self, wanted: tuple[str, ...]) -> bool:
        """Each has its outcome and no claim is left; a claim's hidden leftover is the next start's business."""
        folders = ("trained", "rejected", "failed")
        if not all(any((self.home / folder / name).exists() for folder in folders) for name in wanted):
            return False
        claims = {path.name for path in (self.home / "state/batches").iterdir() if not durable.is_leftover(path.name)}
        return claims == {"LAST"}

    def _where(self) -> str:
        head, status = self.head(), self.json("status/training_status.json")
        return (
            f"{status.get('state')} {status.get('reason')}; generation {head['generation']}, nights {head['ledger']}; "
            f"last error {status.get('last_error')}"
        )


class _Wish:
    """A person who wants one night, and asks again when it was refused or the wish was lost with the daemon."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asked: tuple[int, int] | None = None
        self._asked_at = 0.0

    def granted(self, pid: int) -> bool:
        """Is there a night? If not, it is asked for."""
        if self._run.head()["ledger"]:
            return True
        now = (pid, self._run.refused_nights())
        if now != self._asked or time.monotonic() - self._asked_at > ASK_AGAIN_S:
            self._asked, self._asked_at = now, time.monotonic()
            (self._run.home / ".consolidate").touch()
        return False


def _copied(source: str, target: str) -> str:
    """A merged model is never changed in its place, and large: it may be the same file."""
    if "/consolidated_models/" in source:
        os.link(source, target)
    elif not Path(source).is_socket():
        shutil.copy2(source, target)
    return target
