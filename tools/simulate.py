"""``python -m tools.simulate``: universes of the whole house, seed by seed, on all cores.

Prints a line for each violation with the command that reproduces it, and ends with ``trace sha256 …`` over all seeds'
traces (the same seeds give the same line in any process) and a line of totals. Exit 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tools.simulated_house.universe import Outcome, Universe

CHUNK = 4


def run_seed(seed: int, days: float) -> Outcome:
    """One universe, in this process."""
    return Universe(seed, days).run()


def run_seeds(seeds: Sequence[int], days: float, jobs: int) -> Iterator[Outcome]:
    """Universes in order of their seeds, ``jobs`` at a time."""
    if jobs == 1:
        for seed in seeds:
            yield run_seed(seed, days)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_seed, seeds, [days] * len(seeds), chunksize=CHUNK)


def trace_digest(outcomes: Iterable[Outcome]) -> str:
    """One digest over the traces of all seeds, in order."""
    whole = hashlib.sha256()
    for outcome in outcomes:
        whole.update(outcome.trace.encode())
    return whole.hexdigest()


def totals(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The line that ends a campaign."""
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome.faults)
        counts.update(outcome.counts)
    days = sum(outcome.days for outcome in outcomes)
    lives = sum(outcome.lives for outcome in outcomes)
    violations = sum(bool(outcome.violation) for outcome in outcomes)
    told = ", ".join(f"{name} {count}" for name, count in sorted(faults.items()) if count) or "none"
    return (
        f"{len(outcomes)} seeds, {days:g} simulated days in {seconds:.1f} s ({days / seconds:.1f} a second), "
        f"{lives} lives, {counts['batches']} batches, {counts['nights']} nights; faults: {told}; "
        f"violations: {violations}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign."""
    parser = argparse.ArgumentParser(prog="python -m tools.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, metavar="N", help="how many universes (default 200)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="S", help="the first seed (default 0)")
    parser.add_argument("--days", type=float, default=1.0, metavar="D", help="simulated days in each (default 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (default cores)")
    given = parser.parse_args(argv)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for outcome in run_seeds(seeds, given.days, given.jobs):
        outcomes.append(outcome)
        if outcome.violation:
            print(f"seed {outcome.seed}: {outcome.violation}")
            alone = f"--seeds 1 --first-seed {outcome.seed} --days {given.days:g} --jobs 1"
            print(f"  again: python -m tools.simulate {alone}")
        if sys.stderr.isatty():
            print(f"\r{len(outcomes)} of {given.seeds} seeds", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"trace sha256 {trace_digest(outcomes)}")
    print(totals(outcomes, time.monotonic() - began))
    return 1 if any(outcome.violation for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
