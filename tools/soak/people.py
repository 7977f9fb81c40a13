"""What people do to the home: drop, upload, take back, pause, ask for nights, retry, mend. And the disk that fills.

Each deed may meet a full disk or find nothing to be done on, and then leaves things as they were; what is done is noted
in the ledger in the same breath. They work on the home alone, whether a daemon lives there or not.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from actors.inbox_watcher.filing import paper_name
from runtime import OperatorError
from tools.commands.retry import retry
from tools.commands.submit import put_in_place, submit
from tools.soak.audit import things_in
from tools.soak.dropped import Dropped, Ledger, generated, token_at, token_of
from tools.soak.small_disk import SmallDisk

WAITING_MAX = 12
"""People are patient: more than these are not dropped while so many wait."""
PIECES = 5
PAUSE_S = 0.05


class Habit:
    """A deed that is done again and again, on average every so many seconds, by a stream of chance of its own."""

    def __init__(self, seed: str, every_s: float, deed: Callable[[], object]) -> None:
        self._rng = Random(seed)  # noqa: S311 - chance, not secrets
        self._every_s = every_s
        self._deed = deed
        self._due = time.monotonic() + self._rng.expovariate(1 / every_s)

    def look(self) -> None:
        """Do it if it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._rng.expovariate(1 / self._every_s)
            self._deed()


class People:
    """See the module.

    ``done`` counts deeds; ``kept_before`` the steps of failed files whose report a retry took, in the epoch that
    ``epoch_of`` says of their batch.
    """

    def __init__(self, seed: int, home: Path, disk: SmallDisk, outside: Path) -> None:
        self.ledger = Ledger()
        self.done: Counter[str] = Counter()
        self.kept_before: Counter[int] = Counter()
        self.epoch_of: Callable[[str], int] = lambda _: 0
        self._home, self._disk, self._outside = home, disk, outside
        self._inbox = home / "inbox"
        self._rng = Random(f"{seed} people")  # noqa: S311 - chance, not secrets
        self._number = 0
        self._uploads: list[Iterator[None]] = []
        self._copies: list[bytes] = []
        self._resume_at = self._room_at = self._asleep_until = 0.0
        self._habits = [
            Habit(f"{seed} {deed.__name__}", every_s, deed)
            for every_s, deed in (
                (3.5, self.drop_some),
                (15.0, self.drop_again),
                (9.0, self.upload),
                (6.0, self.take_back),
                (20.0, self.pause),
                (20.0, self.ask_for_a_night),
                (9.0, self.try_again),
                (15.0, self.mend),
                (30.0, self.fill_the_disk),
            )
        ]

    def look(self) -> None:
        """Do what is due. Who asked for a night sleeps for a while, or it would never find the inbox empty."""
        for habit in self._habits if time.monotonic() >= self._asleep_until else ():
            habit.look()
        self._go_on()
        if self._resume_at and time.monotonic() >= self._resume_at:
            self.resume()
        if self._room_at and time.monotonic() >= self._room_at:
            self.give_room()

    def cease(self) -> None:
        """No more trouble: room, no pause, uploads are finished."""
        self.give_room()
        self.resume()
        while self._uploads:
            self._go_on()
            time.sleep(PAUSE_S)

    # Dropping.

    def drop_some(self) -> None:
        """A few files at once, by one way or the other."""
        for _ in range(self._rng.randint(1, 6)):
            if self._waiting() < WAITING_MAX:
                dropped = self._next()
                self._put(dropped, dropped.name)

    def drop_again(self) -> None:
        """A content that was dropped before: under a name of its own, or under a name that is known already."""
        if not self._copies:
            return
        data = self._rng.choice(self._copies)
        dropped = Dropped(f"{self._number:05d} again.jsonl", "good", data)
        known = [path.name for path in things_in(self._home / "trained")]
        self._put(dropped, self._rng.choice(known) if known and self._rng.random() < 0.5 else dropped.name)
        self.done["dropped again"] += 1

    def upload(self) -> None:
        """A file that grows in the inbox, under its last name, with pauses."""
        dropped = self._next()
        if dropped.kind in ("link", "folder"):
            self._put(dropped, dropped.name)
        elif not (self._inbox / dropped.name).exists():
            self._uploads.append(self._uploaded(dropped))
            self.done["uploads in pieces"] += 1

    def _next(self) -> Dropped:
        self._number += 1
        dropped = generated(self._rng, self._number)
        if dropped.kind == "good":
            self._copies = [*self._copies[-20:], dropped.data]
        return dropped

    def _waiting(self) -> int:
        return sum(not path.name.startswith(".") for path in self._inbox.iterdir())

    def _put(self, dropped: Dropped, name: str) -> None:
        """In one step, over nobody's file; not at all if the disk is full or the name waits there already."""
        part, target = self._inbox / ".dropping.part", self._inbox / name
        try:
            if dropped.kind == "link":
                part.symlink_to(dropped.data.decode())
            elif dropped.kind == "folder":
                part.mkdir()
                (part / dropped.data.decode()).touch()
                if not target.exists():
                    part.rename(target)
                    self.ledger.drop(token_of(dropped), name)
                return
            elif self._rng.random() < 0.3 and name.isascii() and name.isprintable():
                name = self._submitted(dropped.data, name)
                self.ledger.drop(token_of(dropped), name)
                return
            else:
                part.write_bytes(dropped.data)
            put_in_place(part, target)
            self.ledger.drop(token_of(dropped), name)
        except (OSError, OperatorError):
            self.done["not dropped: no room"] += 1
        finally:
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            part.unlink(missing_ok=True)

    def _submitted(self, data: bytes, name: str) -> str:
        source = self._outside / name
        source.write_bytes(data)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                submit(self._home, [source])
        finally:
            source.unlink()
        return name

    def _uploaded(self, dropped: Dropped) -> Iterator[None]:
        """Piece by piece; what a full disk does not take is written when it does."""
        pause_s = self._rng.uniform(0.1, 0.6)
        size = 1 + len(dropped.data) // PIECES
        with (self._inbox / dropped.name).open("xb", buffering=0) as file:
            at = 0
            while at < len(dropped.data):
                with contextlib.suppress(OSError):
                    at += file.write(dropped.data[at : at + size])
                until = time.monotonic() + pause_s
                while time.monotonic() < until:
                    yield
            # Before it is closed nobody may have taken it, and afterwards anybody.
            self.ledger.drop(token_of(dropped), dropped.name)

    def _go_on(self) -> None:
        for upload in list(self._uploads):
            try:
                next(upload)
            except OSError:  # its very name found no room
                self._uploads.remove(upload)
            except StopIteration:
                self._uploads.remove(upload)

    # Second thoughts.

    def take_back(self) -> None:
        """Out of the inbox again, if it was not claimed in this very moment."""
        waiting = sorted(path for path in self._inbox.iterdir() if not path.name.startswith("."))
        waiting = [path for path in waiting if not path.is_dir() or path.is_symlink()]
        if not waiting or self._uploads:
            return
        path = self._rng.choice(waiting)
        try:
            token = token_at(path)
            path.unlink()
        except FileNotFoundError:
            return
        self.ledger.take_back(token)

    def try_again(self) -> None:
        """``nightfold retry`` of a file that failed or was rejected."""
        self._retry(self._one_of(("failed", "rejected")))

    def mend(self) -> None:
        """A rejected file gets good lines in place of what it held, and another try."""
        path = self._one_of(("rejected",))
        if path is None or self._disk.filled:
            return
        mended = self._next()
        while mended.kind != "good":
            mended = self._next()
        was = token_at(path)
        with contextlib.suppress(OSError):  # what it then holds is told by looking
            path.write_bytes(mended.data)
        self.ledger.mend(was, token_at(path))
        self.done["mended"] += 1
        self._retry(path)

    def _one_of(self, folders: tuple[str, ...]) -> Path | None:
        found = [path for folder in folders for path in things_in(self._home / folder)]
        found = [path for path in found if path.is_file() and not path.is_symlink()]
        return self._rng.choice(found) if found else None

    def _retry(self, path: Path | None) -> None:
        if path is None:
            return
        report = path.with_name(paper_name(path.name, "report"))
        try:
            said = json.loads(report.read_bytes())
            with contextlib.redirect_stdout(io.StringIO()):
                retry(self._home, [f"{path.parent.name}/{path.name}"])
        except (OperatorError, OSError):
            return
        self.kept_before[self.epoch_of(said["batch"])] += said["steps_kept"]
        self.done["retries"] += 1

    # Wishes.

    def pause(self) -> None:
        """For a few seconds."""
        self._resume_at = time.monotonic() + self._rng.uniform(0.5, 4.0)
        with contextlib.suppress(OSError):
            (self._home / ".pause").touch()
            self.done["pauses"] += 1

    def resume(self) -> None:
        """Go on."""
        self._resume_at = 0.0
        (self._home / ".pause").unlink(missing_ok=True)

    def ask_for_a_night(self) -> None:
        """And sleep: nothing else is begun for some seconds."""
        with contextlib.suppress(OSError):
            (self._home / ".consolidate").touch()
            self.done["nights asked for"] += 1
            self._asleep_until = time.monotonic() + self._rng.uniform(3.0, 12.0)

    def fill_the_disk(self) -> None:
        """For some seconds next to nothing, or nothing at all, is left."""
        if self._room_at:
            return
        self._room_at = time.monotonic() + self._rng.uniform(2.0, 8.0)
        self._disk.fill(self._rng.choice((0, 0, 4096, 100_000, 3_000_000)))
        self.done["times full"] += 1

    def give_room(self) -> None:
        """Somebody has tidied up elsewhere."""
        self._room_at = 0.0
        self._disk.give_room()
