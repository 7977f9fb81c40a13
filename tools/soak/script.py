"""The whole of it: a home on a small disk, people, and daemons that are killed, stopped and started over it.

Its time is parted: a storm, in which no life is long; a stretch in one life, which nobody ends, for what grows only
slowly; another storm; and then trouble ceases, the daemon must become idle, and is looked at.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from runtime import OperatorError
from runtime.errors import EXIT_DISK
from runtime.home_lock import living_pid
from tools.commands.home import read_status
from tools.commands.rollback import rollback
from tools.soak import audit
from tools.soak.checks import Epoch, Evidence
from tools.soak.life import KILLED, Life
from tools.soak.people import People
from tools.soak.small_disk import SmallDisk

LOOK_S = 0.05
SAMPLE_EVERY_S = 0.5
STOPS_WITHIN_S = 60.0
SETTLES_WITHIN_S = 240.0
LONG_LIFE = (0.30, 0.90)
"""From when to when, as parts of the time, no life is ended."""
LIFE_S = (1.0, 14.0)
LIVING = ("idle", "validating", "training", "paused", "consolidating")

CONFIG = """\
[trainer]
model = "{model}"
rank = 4
learning_rate = 1e-3
warmup_steps = 3
epochs = 1
threads = 1
batch_examples = 2
over_long = "reject"
checkpoint_every_seconds = 2
checkpoint_every_steps = 3
slice_seconds = 0.2
look_again_seconds = 1
retry_seconds = 0.2
[inbox_watcher]
scan_every_seconds = 0.1
quiet_seconds = 0.05
claims_max = 3
[checkpointer]
keep_generations = 4
retry_deletes_every_seconds = 5
[consolidator]
nightly = false
look_every_seconds = 1
[disk_guard]
free_bytes_min = 1048576
measure_every_seconds = 1
[status_reporter]
write_every_seconds = 0.2
heartbeat_every_seconds = 1
events_bytes_max = 1048576
trace_file_bytes = 262144
trace_files = 4
"""


class Soak:
    """One soak in ``work``, on ``disk``; what it came to is ``evidence``, and the rest is for the table."""

    def __init__(self, work: Path, disk: SmallDisk, seed: int, seconds: float) -> None:
        self.home = disk.folder / "home"
        self.said = work / "said"
        self.seconds = seconds
        self.lives: list[Life] = []
        self.done: Counter[str] = Counter()
        self._disk = disk
        self._rng = Random(f"{seed} daemon")  # noqa: S311 - chance, not secrets
        self._lies: list[str] = []
        self._unasked: list[str] = []
        self._epochs = [Epoch(0, 0)]
        self._epoch_of: dict[str, int] = {}
        self._sampled_at = 0.0
        (self.home / "inbox").mkdir(parents=True)
        (self.home / "nightfold.toml").write_text(CONFIG.format(model=work / "model"))
        (work / "outside").mkdir(exist_ok=True)
        self.people = People(seed, self.home, disk, work / "outside")
        self.people.epoch_of = lambda batch: self._epoch_of.get(batch, len(self._epochs) - 1)
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def life(self) -> Life | None:
        """The newest."""
        return self.lives[-1] if self.lives else None

    def run(self, tell: Any) -> Evidence:
        """Through storms and calm to the evidence; ``tell`` is called at every look."""
        try:
            while self.elapsed < self.seconds:
                self._one_life(tell)
                self._between_lives()
            self.people.cease()
            unsettled = self._settle(tell)
            if not unsettled:
                unsettled = self._settle(tell)  # what a failed delete has left, the next start takes
        finally:
            if self.life is not None:
                self.life.kill()
        return self._evidence(unsettled)

    # Lives.

    def _begun(self) -> Life:
        life = Life(len(self.lives) + 1, self.home, self.said, self._disk.make_disk)
        self.lives.append(life)
        return life

    def _one_life(self, tell: Any) -> None:
        """A life and its end: a kill, a signal, a file, or the end of the soak's time."""
        ends_at = self._rng.uniform(*LIFE_S)
        way = self._rng.choices(("kill", "signal", "file"), (6, 2, 2))[0]
        life = self._begun()
        while not life.ended():
            self.people.look()
            self._look(life)
            tell()
            if self.elapsed >= self.seconds:
                way, ends_at = "signal", 0.0
            spared = LONG_LIFE[0] <= self.elapsed / self.seconds < LONG_LIFE[1]
            if life.age >= ends_at and not spared and (life.was_seen or way == "kill"):
                self._end(life, way)
                return
            time.sleep(LOOK_S)
        self._ended(life)

    def _end(self, life: Life, way: str) -> None:
        if way == "kill":
            life.kill()
            self.done["kills"] += 1
            status = read_status(self.home)
            if life.was_seen and (status["state"] != "crashed" or status["pid"] is not None):
                self._lies.append(f"life {life.number} was killed, and status says {status['state']}")
        else:
            life.stop(by_file=way == "file")
            self.done["stops"] += 1
            if not life.end(STOPS_WITHIN_S):
                self._unasked.append(f"life {life.number} did not stop within {STOPS_WITHIN_S:g} s")
                life.kill()
        self._ended(life)

    def _ended(self, life: Life) -> None:
        """It may end when it is killed or told to stop; and it may say, on a full disk, that it cannot begin."""
        was_killed = life.code == KILLED and not life.asked_to_stop
        was_refused = life.code == EXIT_DISK and life.met_a_full_disk and not life.was_seen
        self.done["refused to start"] += was_refused
        if not was_killed and not was_refused and not (life.asked_to_stop and life.code == 0):
            full = ", on a disk that was full" if life.met_a_full_disk else ""
            self._unasked.append(f"life {life.number} ended with {life.code} after {life.seconds:.1f} s{full}")

    def _between_lives(self) -> None:
        if self._rng.random() < 0.25:
            self._roll_back()
        for _ in range(self._rng.randint(0, 3)):
            self.people.look()
            time.sleep(self._rng.uniform(0.0, 0.3))

    def _roll_back(self) -> None:
        head = audit.head_of(self.home)
        others = [kept["generation"] for kept in head["kept"] if kept["generation"] != head["generation"]]
        if not others:
            return
        target = self._rng.choice(others)
        before = audit.step_of(self.home)
        with contextlib.suppress(OperatorError), contextlib.redirect_stdout(io.StringIO()):
            rollback(self.home, str(target), *((self._disk.make_disk,) if self._disk.make_disk else ()))
        if audit.head_of(self.home)["generation"] != target:
            return  # the disk was full
        for paper in audit.papers(self.home, self._epoch_of, len(self._epochs) - 1):
            self._epoch_of[paper.batch] = paper.epoch
        self._epochs[-1] = Epoch(self._epochs[-1].begins, before, last=False)
        after = audit.step_of(self.home)
        self._epochs.append(Epoch(after, after))
        self.done["rollbacks"] += 1

    # Looking.

    def _look(self, life: Life) -> None:
        """Is status true? And at an idle moment: what does the daemon take?"""
        life.met_a_full_disk |= self._disk.filled
        held = living_pid(self.home) == life.pid
        status = read_status(self.home)
        if not held or living_pid(self.home) != life.pid or life.ended():
            return
        life.restarts = status.get("restarts", 0)
        life.was_seen |= status["reason"] not in ("starting", "stopping")
        if status["pid"] != life.pid or status["state"] not in LIVING:
            self._lies.append(
                f"life {life.number} held the lock as {life.pid}, and status says {status['state']}, {status['pid']}"
            )
        idle = life.was_seen and status["state"] == "idle" and not status["reason"] and not status["queue"]
        if idle and time.monotonic() - self._sampled_at >= SAMPLE_EVERY_S:
            self._sampled_at = time.monotonic()
            life.sample()

    def _settle(self, tell: Any) -> str:
        """A last life, in which nothing happens any more but what must; what is wrong if it does not come to rest."""
        life, give_up_at, rest = self._begun(), time.monotonic() + SETTLES_WITHIN_S, 0
        while rest < 10:  # idle for so many looks: a night that was asked for begins within that time
            self._look(life)
            tell()
            if life.ended():
                self._ended(life)
                return f"with room and no trouble the daemon ended with {life.code}"
            if time.monotonic() > give_up_at:
                return f"after {SETTLES_WITHIN_S:g} s it still is {self._where()}"
            status = read_status(self.home)
            busy = status["state"] != "idle" or status["reason"] or (self.home / ".consolidate").exists()
            rest = 0 if busy or not life.was_seen or audit.waiting(self.home) else rest + 1
            time.sleep(LOOK_S)
        self._end(life, "signal")
        return ""

    def _where(self) -> str:
        status = read_status(self.home)
        return f"{status['state']} {status['reason']}; last error {json.dumps(status['last_error'])}"

    # The end.

    def _evidence(self, unsettled: str) -> Evidence:
        self._epochs[-1] = Epoch(self._epochs[-1].begins, audit.step_of(self.home))
        newest = len(self._epochs) - 1
        unpapered, unfiled = audit.unmatched(self.home)
        longest = max(self.lives, key=lambda life: life.seconds)
        return Evidence(
            expected=self.people.ledger.expected,
            names=self.people.ledger.names,
            outcomes=audit.outcomes(self.home),
            waiting=audit.waiting(self.home),
            unpapered=unpapered,
            unfiled=unfiled,
            papers=audit.papers(self.home, self._epoch_of, newest),
            epochs=tuple(self._epochs),
            kept_before=self.people.kept_before,
            global_step=read_status(self.home)["global_step"],
            head=audit.unsound(self.home),
            doctor=audit.errors_of_doctor(self.home),
            leftovers=audit.left_over(self.home),
            longest=longest.warm_samples(),
            lies=self._lies,
            unasked=self._unasked,
            unsettled=unsettled,
        )
