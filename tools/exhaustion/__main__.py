"""``python -m tools.exhaustion``: sweep the protocols, the house in its short story, or double cuts of the house.

Prints a line for each protocol or part of the story, a command for each violation, and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tools.exhaustion.protocols import PROTOCOLS
from tools.exhaustion.replay import replayer
from tools.exhaustion.tally import Tally, both_orders, together
from tools.exhaustion.tasks import LEVELS, Task, swept, tasks_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep as asked."""
    parser = argparse.ArgumentParser(prog="python -m tools.exhaustion", description=__doc__)
    parser.add_argument("--level", choices=LEVELS, action="append", help="what to sweep (default: protocols and story)")
    parser.add_argument("--only", default="", help="protocols, or parts of the story, whose name has this in it")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--sample", type=int, default=0, help="so many points of each part of the story, evenly; 0: all"
    )
    parser.add_argument("--replay", nargs=2, metavar=("NAME", "PATH"), help="one case again, with real faults")
    chosen = parser.parse_args(arguments)
    if chosen.replay:
        return _replay(*chosen.replay)
    levels = chosen.level or ["protocols", "story"]
    tasks = [task for level in levels for task in tasks_of(level, chosen.sample) if chosen.only in task[1]]
    tallies = _sums(_swept(tasks, chosen.jobs))
    _print_table(tallies)
    return 1 if any(tally.violations for tally in tallies) else 0


def _replay(name: str, path: str) -> int:
    try:
        run = replayer(name, {scenario.name: scenario for scenario in PROTOCOLS})
    except KeyError:
        print(
            f"nothing is called {name!r}; there are:", *(scenario.name for scenario in PROTOCOLS), "story", sep="\n  "
        )
        return 2
    broken = run(path)
    print(broken or "it holds")
    return 1 if broken else 0


def _swept(tasks: Sequence[Task], jobs: int) -> list[Tally]:
    if jobs <= 1:
        return [_told(swept(task), number, len(tasks)) for number, task in enumerate(tasks, 1)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way = [pool.submit(swept, task) for task in tasks]
        return [_told(done.result(), number, len(tasks)) for number, done in enumerate(as_completed(under_way), 1)]


def _told(tally: Tally, number: int, of: int) -> Tally:
    if sys.stderr.isatty():
        print(f"\r{number} of {of}: {tally.name:<50}", end="\n" if number == of else "", file=sys.stderr, flush=True)
    return tally


def _sums(tallies: Iterable[Tally]) -> list[Tally]:
    names: dict[str, list[Tally]] = {}
    for tally in tallies:
        names.setdefault(tally.name, []).append(tally)
    return [parts[0] if len(parts) == 1 else together(name, parts) for name, parts in sorted(names.items())]


def _print_table(tallies: Sequence[Tally]) -> None:
    print(f"{'':<48} points  states   cases  broken")
    for tally in tallies:
        closed = "  however often the power goes" if tally.closed else ""
        print(f"{tally.name:<48} {tally.points:6} {tally.states:7} {tally.total:7} {len(tally.violations):7}{closed}")
    cases = together("all", tallies)
    print(f"{'together':<48} {'':6} {cases.states:7} {cases.total:7} {len(cases.violations):7}")
    print("  " + ", ".join(f"{kind}: {count}" for kind, count in sorted(cases.cases.items())))
    if cases.met:
        print("  pairs of messages that met at an actor in both orders: {} of {}".format(*both_orders(cases.met)))
    for tally in tallies:
        for path, why in tally.violations:
            print(f"\n{why}\n  python -m tools.exhaustion --replay '{tally.name}' '{path}'")


if __name__ == "__main__":
    sys.exit(main())
