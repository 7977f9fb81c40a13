"""``python -m tools.simulate``: universes of the whole house, seed by seed, on all cores.

Prints a line for each violation with the command that reproduces it, then what was shrunk of it: the fewest faults and
deeds that still break the same promise, with the command that runs exactly these. Ends with what struck, what of all
there is was tried, ``trace sha256 …`` over all seeds' traces (the same seeds give the same line in any process), and a
line of totals. Exit 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from runtime.simulation.strikes import Strike, read, written
from tools.simulated_house.campaign import Campaign
from tools.simulated_house.shrunk import shrunk
from tools.simulated_house.universe import Outcome, Universe

SHRUNK_MAX = 3
"""So many seeds are shrunk; the others are told with the command that reproduces them."""
TOLD_EVERY_SECONDS = 10.0
SHOWN_EVERY_SECONDS = 0.2


def run_seed(seed: int, days: float, faults: Sequence[Strike] | None = None, without: tuple[int, ...] = ()) -> Outcome:
    """One universe, in this process."""
    try:
        return Universe(seed, days, faults=True if faults is None else faults, without=without).run()
    except Exception as error:
        error.add_note(f"in seed {seed}, which is no violation but a fault of the simulation itself")
        raise


def run_seeds(
    seeds: Sequence[int],
    days: float,
    jobs: int,
    faults: Sequence[Strike] | None = None,
    without: tuple[int, ...] = (),
) -> Iterator[Outcome]:
    """Universes in order of their seeds, ``jobs`` at a time."""
    run = partial(run_seed, days=days, faults=faults, without=without)
    if min(jobs, len(seeds)) <= 1:
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run, seeds)


class Progress:
    """One line that is written over on a terminal; elsewhere a line now and then. On stderr."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._told = began
        self._terminal = sys.stderr.isatty()

    def tell(self, campaign: Campaign) -> None:
        """After each universe."""
        now = time.monotonic()
        if now - self._told >= (SHOWN_EVERY_SECONDS if self._terminal else TOLD_EVERY_SECONDS):
            self._told = now
            line = campaign.progress(now - self._began)
            print(f"\r{line}\x1b[K" if self._terminal else line, end="" if self._terminal else "\n", file=sys.stderr)
            sys.stderr.flush()

    def clear(self) -> None:
        """Something else is to be printed."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def tell_violation(outcome: Outcome) -> None:
    """What is broken, and how to see it again."""
    print(f"seed {outcome.seed}: {outcome.promise}: {outcome.violation}")
    print(f"  again: {command(outcome)}", flush=True)


def tell_shrunk(outcome: Outcome, seconds: float) -> None:
    """The shortest story, and how to see it."""
    began = time.monotonic()
    least, without = shrunk(outcome, seconds)
    print(
        f"seed {outcome.seed}, shrunk in {time.monotonic() - began:.0f} s from {len(outcome.strikes)} faults "
        f"and {len(outcome.deeds)} deeds to {len(least.strikes)} and {len(least.deeds)}: {least.violation}"
    )
    for strike in least.strikes:
        print(f"  {strike}  {strike.where}".rstrip())
    undone = f" --without-deeds {','.join(map(str, without))}" if without else ""
    print(f"  again: {command(outcome)} --only-faults '{written(least.strikes)}'{undone}", flush=True)


def command(outcome: Outcome) -> str:
    """What reproduces one seed."""
    return f"python -m tools.simulate --first-seed {outcome.seed} --days {outcome.days:g} --seeds 1 --jobs 1"


def _given_faults(text: str) -> Sequence[Strike]:
    try:
        return read(Path(text).read_text(encoding="utf-8") if text and "@" not in text else text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a file nor a list of faults: {error}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _groups(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, default=200, metavar="N", help="how many universes (default 200)")
    add("--first-seed", type=int, default=0, metavar="S", help="the first seed (default 0)")
    add("--days", type=float, default=1.0, metavar="D", help="simulated days in each (default 1)")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (default cores)")
    add(
        "--only-faults",
        type=_given_faults,
        metavar="LIST",
        help="exactly these faults instead of the seed's own: a file, or LIFE.KIND@PLACE#NTH ...; '' for none",
    )
    add("--without-deeds", type=_groups, default=(), metavar="N,N", help="leave these deeds of people undone")
    add("--shrink-seconds", type=float, default=60.0, metavar="T", help="for each broken seed; 0: not at all")
    add("--uncovered", action="store_true", help="list crash points never reached, and pairs seen in one order")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign."""
    given = _arguments(argv)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    began = time.monotonic()
    campaign, progress = Campaign(len(seeds)), Progress(began)
    for outcome in run_seeds(seeds, given.days, given.jobs, given.only_faults, given.without_deeds):
        campaign.add(outcome)
        if outcome.violation:
            progress.clear()
            tell_violation(outcome)
        progress.tell(campaign)
    seconds = time.monotonic() - began
    progress.clear()
    if given.shrink_seconds > 0 and given.only_faults is None:
        for outcome in campaign.broken[:SHRUNK_MAX]:
            tell_shrunk(outcome, given.shrink_seconds)
    print(f"faults: {campaign.what_struck()}")
    print(f"coverage: {campaign.coverage()}")
    if given.uncovered:
        for line in campaign.uncovered():
            print(f"  {line}")
    print(f"trace sha256 {campaign.trace}")
    print(campaign.totals(seconds))
    return 1 if campaign.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
