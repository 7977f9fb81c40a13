"""How fast is the kernel beside what else one could use? ``python -m tools.bench.runtime [CASE ...] [--quick]``.

Each repetition runs in a process of its own, the contestants of a case in turn, round after round, so that a slow
minute of the machine is shared. Printed are medians with their range, and the median of each round's ratio to
``asyncio.Queue``, of each column. Targets look at CPU time: wall time counts what others did on the machine as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tools.bench.runtime.cases import CASES
from tools.bench.runtime.shape import Case, Sample, Way
from tools.bench.runtime.table import show
from tools.compiling.build import CompileError, compiled_copy

PROJECT = Path(__file__).resolve().parents[3]
COMPILED = PROJECT / "build" / "compiled"
ROUNDS, SECONDS = 5, 0.25
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.1
PATIENCE_SECONDS = 300.0

Results = dict[str, list[Sample]]


def main(arguments: list[str] | None = None) -> int:
    """Run the cases that were named, or all; exit 1 where a contestant of ours failed."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.runtime", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all of them if none is named")
    parser.add_argument("--only", nargs="+", metavar="WAY", help="only contestants whose name holds one of these words")
    parser.add_argument("--rounds", type=int, help=f"(default {ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"how long a timed pass is at least (default {SECONDS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS} s: a look")
    parser.add_argument("--size", type=int, default=0, help="operations of the first pass, instead of each case's own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there as well")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"no case is called {', '.join(unknown)}; there are {', '.join(CASES)}")
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    seconds = given.seconds if given.seconds is not None else (QUICK_SECONDS if given.quick else SECONDS)
    everything: dict[str, Results] = {}
    failed = False
    cases, only = given.cases or list(CASES), given.only or []
    compiled = any(way.compiled for name in cases for way in _chosen(CASES[name], only).values())
    uncompiled = _compile() if compiled else ""
    print(f"{_machine()}; {rounds} rounds, at least {seconds:g} s each")
    for name in cases:
        results, troubles = in_turn(name, CASES[name], only, rounds, seconds, given.size, uncompiled)
        everything[name] = results
        show(name, CASES[name], results, troubles)
        failed = failed or "nightfold" in troubles
    if given.json:
        told = {name: {way: [msgspec.structs.asdict(one) for one in of] for way, of in results.items()}
                for name, results in everything.items()}  # fmt: skip
        given.json.write_text(json.dumps({"machine": _machine(), "samples": told}, indent=1), encoding="utf-8")
    return 1 if failed else 0


def in_turn(
    name: str, case: Case, only: list[str], rounds: int, seconds: float, size: int, uncompiled: str = ""
) -> tuple[Results, dict[str, str]]:
    """Every contestant's samples, one for each round, and a word about each that could not take part.

    ``uncompiled`` says why none can that is to be compiled.
    """
    troubles: dict[str, str] = {}
    names = []
    for way_name, way in _chosen(case, only).items():
        if way.missing:
            troubles[way_name] = f"{way.missing} is not installed"
        elif way.compiled and uncompiled:
            troubles[way_name] = uncompiled
        else:
            names.append(way_name)
    results: Results = {way_name: [] for way_name in names}
    for turn in range(rounds):
        # Each round begins with another, so that nobody always runs right after the same neighbour.
        for place in range(len(names)):
            way_name = names[(place + turn) % len(names)]
            if way_name in troubles:
                continue
            try:
                results[way_name].append(once(name, way_name, seconds, size))
            except RepetitionFailedError as failure:
                troubles[way_name] = str(failure)
                del results[way_name]
    return results, troubles


class RepetitionFailedError(RuntimeError):
    """A contestant's process ended badly; the text is the last thing it said."""


def once(case: str, way: str, seconds: float, size: int) -> Sample:
    """One repetition in a fresh process."""
    command = [sys.executable, "-m", "tools.bench.runtime.repetition", case, way, str(seconds), str(size)]
    place = COMPILED if CASES[case].ways[way].compiled else PROJECT
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RepetitionFailedError(f"not done after {PATIENCE_SECONDS:g} s") from None
    if done.returncode:
        raise RepetitionFailedError((done.stderr.strip() or f"exit {done.returncode}").rsplit("\n", 1)[-1])
    return msgspec.json.decode(done.stdout.rstrip().rsplit("\n", 1)[-1], type=Sample)


def _chosen(case: Case, only: list[str]) -> Mapping[str, Way]:
    return {name: way for name, way in case.ways.items() if not only or any(word in name for word in only)}


def _compile() -> str:
    """Compile what is here now; why that cannot be done, if so."""
    try:
        compiled_copy(PROJECT, COMPILED)
    except CompileError as error:
        return str(error)
    return ""


def _machine() -> str:
    load = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
