"""Plants each mutation and counts the seeds until it is found: ``python -m tests.simulation.hunt`` prints the table.

Exit 1 if a mutation was not found within its bound. What the simulation is known to be blind to is hunted as well, so
that it is noticed when it sees; it costs no exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import msgspec

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.planting import Edit, NotThere, planted
from tools.simulate import run_seed
from tools.simulated_house import universe

STILLBORN = ("NameError", "TypeError", "AttributeError", "UnboundLocalError", "ImportError", "ModuleNotFoundError")
"""A universe that ends over one of these did not find the bug: the planted code does not run."""
VIOLATION_SHOWN = 160

OPENING = """\
# What the simulation is shown to find

Each line is one bug, planted alone into the running program by `tests/simulation/mutations.py`, and hunted with random
universes until one of them breaks a promise. `make mutations` hunts for all of them and writes this page;
`tests/simulation/test_mutations.py` hunts in every test run. "seeds" is how many universes it took this time, and how
many it may take.
"""
BLIND_OPENING = """
## What it does not find yet

Planted and hunted as well, without success so far; the last column says what would see it.
"""


class Stillborn(AssertionError):
    """The planted code is wrong as code."""


class Unsound(AssertionError):
    """The universe that found a bug breaks a promise without it too: that is a bug of the program, or a false alarm."""


@dataclass(frozen=True)
class Catch:
    """After how many seeds a mutation was found, and by what. ``violation`` is empty if it was not.

    ``problem`` is why there was no hunt worth the name.
    """

    seeds: int
    violation: str
    problem: str = ""


def hunt(mutation: Mutation) -> Catch:
    """Universes with the bug in them, until one breaks a promise that it keeps without the bug.

    Raises:
        Stillborn: one broke because the planted code does not run.
        Unsound: one breaks without it too.
    """
    for count in range(1, mutation.within + 1):
        seed = mutation.first_seed + count - 1
        violation = live(mutation, seed, mutation.edits)
        if any(word in violation for word in STILLBORN):
            raise Stillborn(f"{mutation.name}: {violation}")
        if violation:
            without = live(mutation, seed, ())
            if without:
                raise Unsound(f"seed {seed} in the climate {mutation.climate} breaks without the bug: {without}")
            return Catch(count, violation)
    return Catch(mutation.within, "")


def live(mutation: Mutation, seed: int, edits: tuple[Edit, ...]) -> str:
    """One universe in the mutation's scenery and climate; the promise it broke, or nothing."""
    with weather(mutation), planted((*mutation.scenery, *edits)):
        return run_seed(seed, mutation.days).violation


@contextlib.contextmanager
def weather(mutation: Mutation) -> Iterator[None]:
    """Run the body in the mutation's climate."""
    usual = universe.CLIMATE
    universe.CLIMATE = msgspec.structs.replace(usual, **mutation.climate)
    try:
        yield
    finally:
        universe.CLIMATE = usual


def attempt(mutation: Mutation) -> Catch:
    """A hunt that must not end those after it."""
    try:
        return hunt(mutation)
    except (NotThere, Stillborn, Unsound) as error:
        return Catch(0, "", f"{type(error).__name__}: {error}")


def hunt_all(mutations: Sequence[Mutation], jobs: int) -> Iterator[Catch]:
    """A catch for each, in order; ``jobs`` hunts at a time."""
    if jobs == 1:
        yield from map(attempt, mutations)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(attempt, mutations)


def line(mutation: Mutation, catch: Catch) -> str:
    """One hunt for a person to read."""
    found = catch.problem or in_one_line(catch.violation) or ("not seen" if mutation.blind else "NOT FOUND")
    seen = " (no longer blind: say so in mutations.py)" if mutation.blind and catch.violation else ""
    return f"{catch.seeds:4} of {mutation.within:<4} {mutation.name}: {found}{seen}"


def table(hunted: Sequence[tuple[Mutation, Catch]]) -> str:
    """The page."""
    seen = [(mutation, catch) for mutation, catch in hunted if not mutation.blind]
    blind = [mutation for mutation, _ in hunted if mutation.blind]
    page = [OPENING, "| planted | which breaks | seeds | found by |", "| --- | --- | --- | --- |"]
    page += [
        f"| {mutation.name} | {mutation.breaks} | {catch.seeds} of {mutation.within} "
        f"| {in_one_line(catch.violation or catch.problem) or '**not found**'} |"
        for mutation, catch in seen
    ]
    if blind:
        page += [BLIND_OPENING, "| planted | which breaks | what would see it |", "| --- | --- | --- |"]
        page += [f"| {mutation.name} | {mutation.breaks} | {mutation.blind} |" for mutation in blind]
    return "\n".join(page) + "\n"


def in_one_line(violation: str) -> str:
    """The beginning of a violation, fit for a table."""
    whole = " ".join(violation.split()).replace("|", "/")
    return whole if len(whole) <= VIOLATION_SHOWN else f"{whole[:VIOLATION_SHOWN]}…"


def main(argv: Sequence[str] | None = None) -> int:
    """Hunt for all of them, or for those whose names hold one of the words given."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.hunt", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutations whose names hold one of these")
    parser.add_argument("--seeds", type=int, help="at most so many instead of each one's own bound")
    parser.add_argument("--first-seed", type=int, help="begin there instead of at each one's own seed")
    parser.add_argument("--days", type=float, help="in each universe instead of each one's own")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default cores)")
    parser.add_argument("--write", type=Path, help="write the table there; only when all are hunted")
    given = parser.parse_args(argv)
    changed = {
        name: value
        for name, value in (("within", given.seeds), ("first_seed", given.first_seed), ("days", given.days))
        if value is not None
    }
    wanted = [
        replace(mutation, **changed)
        for mutation in MUTATIONS
        if not given.words or any(word in mutation.name for word in given.words)
    ]
    hunted: list[tuple[Mutation, Catch]] = []
    for mutation, catch in zip(wanted, hunt_all(wanted, given.jobs), strict=True):
        hunted.append((mutation, catch))
        print(line(mutation, catch), flush=True)
    missed = [mutation for mutation, catch in hunted if catch.problem or not (catch.violation or mutation.blind)]
    found = sum(bool(catch.violation) for mutation, catch in hunted if not mutation.blind)
    blind = sum(bool(mutation.blind) for mutation in wanted)
    print(f"{found} of {len(wanted) - blind} found; blind to {blind} more")
    if given.write is not None and len(wanted) == len(MUTATIONS):
        given.write.write_text(table(hunted), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
