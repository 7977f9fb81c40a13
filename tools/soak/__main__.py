"""``python -m tools.soak --minutes 20``: many minutes of everything at once over one real daemon's home.

Generated files good and bad, kills, stops, pauses, nights, rollbacks, second thoughts, a disk that fills; and at the
end an audit. The same seed draws the same deeds at the same moments; what they meet is up to the machine. Ends with a
table and ``clean``, or with what is broken; then it exits 1 and keeps the home.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.cli import EXIT_INTERRUPTED
from tools.crash_matrix.workers import warm
from tools.soak import audit
from tools.soak.checks import SAMPLES_MIN, Evidence, broken, medians
from tools.soak.life import Sample
from tools.soak.script import Soak
from tools.soak.small_disk import small_disk

DISK_BYTES = 96 << 20
TOLD_EVERY_SECONDS = 10.0
SHOWN_EVERY_SECONDS = 0.5


class Progress:
    """One line that is written over on a terminal; elsewhere a line now and then. On stderr."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._told >= (SHOWN_EVERY_SECONDS if self._terminal else TOLD_EVERY_SECONDS):
            self._told = now
            line = self._line()
            print(f"\r{line}\x1b[K" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
            sys.stderr.flush()

    def clear(self) -> None:
        """Something else is to be printed."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        soak, people = self._soak, self._soak.people
        counts = {folder: len(audit.things_in(soak.home / folder)) for folder in audit.PAPERS}
        filed = ", ".join(f"{count} {folder}" for folder, count in counts.items())
        life = soak.life
        return (
            f"{_clock(soak.elapsed)} of {_clock(soak.seconds)}: "
            + (f"life {life.number} for {life.age:.0f} s; " if life is not None else "")
            + f"{people.ledger.dropped} dropped, {filed}, {people.ledger.taken_back} taken back; "
            f"step {audit.step_of(soak.home)}, {len(audit.head_of(soak.home)['deltas'])} nights, "
            f"{people.done['times full']} times full"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, audit, tell."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="how long (default 20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every deed (default 0)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="where; it is emptied (default: a temporary folder)")
    parser.add_argument("--quota", action="store_true", help="a Disk with a quota, also where a tmpfs may be mounted")
    chosen = parser.parse_args(arguments)
    # Before torch is imported: more threads than one only spin on a busy machine, and nothing is to be downloaded.
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", NO_COLOR="1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    work: Path = (chosen.work or Path(tempfile.mkdtemp(prefix="nightfold-soak-"))).resolve()
    shutil.rmtree(work, ignore_errors=True)
    (work / "disk").mkdir(parents=True)
    disk = small_disk(work / "disk", DISK_BYTES, quota=chosen.quota)
    print(
        f"seed {chosen.seed}, {chosen.minutes:g} minutes, on {disk.words} of {DISK_BYTES >> 20} MiB; "
        f"to look in: /proc/{os.getpid()}/root{disk.folder}/home",
        flush=True,
    )
    warm()
    _build_model(work / "model")
    soak = Soak(work, disk, chosen.seed, chosen.minutes * 60)
    progress, wrong = Progress(soak), True
    try:
        found = soak.run(progress)
        progress.clear()
        wrong = _told(soak, found)
    except (KeyboardInterrupt, SystemExit):
        wrong = False  # a person has seen enough
        raise
    finally:
        if wrong:
            _keep(soak, work)
        disk.close()
        if not wrong:
            shutil.rmtree(work, ignore_errors=True)
    return 1 if wrong else 0


def _build_model(folder: Path) -> None:
    from tools.tiny_model import build_tiny_model

    build_tiny_model(folder)


def _told(soak: Soak, found: Evidence) -> bool:
    """The table, and what is broken; is anything?"""
    for name, value in _table(soak, found):
        print(f"{name:<22}{value}")
    wrong = broken(found)
    for name, sentence, why in wrong:
        print(f"\nbroken: {name}: {sentence}\n  {why}")
    if not wrong:
        print("clean", flush=True)
    return bool(wrong)


def _keep(soak: Soak, work: Path) -> None:
    """The small disk goes with this process: what is to be looked at is copied."""
    kept = work / "home"
    shutil.copytree(soak.home, kept, symlinks=True, ignore=lambda *_: [".control"])
    print(f"\nthe home: {kept}\nwhat the daemons said: {soak.said}", flush=True)


def _table(soak: Soak, found: Evidence) -> Iterator[tuple[str, str]]:
    people, head = soak.people, audit.head_of(soak.home)
    yield "minutes", f"{soak.elapsed / 60:.1f}"
    yield "lives", f"{len(soak.lives)}, the longest {max(life.seconds for life in soak.lives):.0f} s"
    yield "kills, stops", f"{soak.done['kills']}, {soak.done['stops']}"
    yield "refused to start", f"{soak.done['refused to start']}, on a full disk"
    yield "files dropped", str(people.ledger.dropped)
    for folder in audit.PAPERS:
        yield f"  {folder}", str(len(audit.things_in(soak.home / folder)))
    yield "  taken back", str(people.ledger.taken_back)
    for deed in ("retries", "mended", "dropped again", "uploads in pieces", "pauses", "times full"):
        yield deed, str(people.done[deed])
    yield "rollbacks", str(soak.done["rollbacks"])
    yield "steps, generations", f"{found.global_step}, {head['generation']}"
    yield "nights", f"{len(head['deltas'])} of {people.done['nights asked for']} asked for"
    yield "restarts of actors", str(sum(life.restarts for life in soak.lives))
    samples = found.longest
    if len(samples) < SAMPLES_MIN:
        yield "growth", f"not judged: {len(samples)} idle moments of a warm life, of {SAMPLES_MIN} that it takes"
        return
    yield (
        "its idle moments",
        f"{len(samples)}, from {samples[0].age:.0f} s to {samples[-1].age:.0f} s; medians of thirds:",
    )
    yield "  memory, MiB", _row(samples, lambda sample: sample.memory / 2**20, "{:.1f}")
    yield "  descriptors", _row(samples, lambda sample: sample.descriptors, "{:g}")
    yield "  threads", _row(samples, lambda sample: sample.threads, "{:g}")


def _row(samples: Sequence[Sample], of: Callable[[Sample], float], form: str) -> str:
    return ", ".join(form.format(each) for each in medians(samples, of))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
