"""``python -m tools.crash_matrix``: kill, refuse, cut the power at every durable operation of a real daemon.

Each case restarts the daemon, finishes the script and compares what it comes to, byte for byte, with the run that
nothing happened to. It goes on where it stopped as long as the sources are the same. Exits 1 if a case did not recover,
with the command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tools.cli import EXIT_INTERRUPTED
from tools.crash_matrix.campaign import Case, Reference, known_reference, new_reference
from tools.crash_matrix.points import ASKED_FOR, FAULTS, OPERATIONS, Fault, Point, faults_of, parsed
from tools.crash_matrix.script import STAGES
from tools.crash_matrix.workers import Job, cases_of, warm


def main(arguments: Sequence[str] | None = None) -> int:
    """Try what is asked for and is not tried yet."""
    parser = argparse.ArgumentParser(prog="python -m tools.crash_matrix", description=__doc__)
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="N points, evenly spaced (default: all)")
    parser.add_argument("--faults", default=",".join(ASKED_FOR), help=f"of {','.join(ASKED_FOR)}")
    parser.add_argument("--only", metavar="POINT", action="append", help="again, such as learn.rename@state/HEAD#3")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "nightfold-crash-matrix")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--each-stage",
        action="store_true",
        help="compare at the end of the stage that was struck, not of the script: takes half as long, for what comes "
        "after it is a function of what is compared",
    )
    parser.add_argument("--list", action="store_true", help="only name the points")
    chosen = parser.parse_args(arguments)
    asked = tuple(chosen.faults.split(","))
    if not set(asked) <= set(ASKED_FOR):
        parser.error(f"--faults may name {', '.join(ASKED_FOR)}")
    # Before torch is imported: more threads than one only spin on a busy machine, and nothing is to be downloaded.
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", NO_COLOR="1")
    work: Path = chosen.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    wanted = known_reference(work)
    if wanted is None:
        if (work / "results.jsonl").exists():
            print("the sources are not those that were tried before: all is begun anew", flush=True)
        warm()
        wanted = new_reference(work)
    points = wanted.points()
    if chosen.list:
        print("\n".join(map(str, points)))
        return 0
    if chosen.only:
        try:
            points = _known(points, chosen.only)
        except ValueError as error:
            parser.error(str(error))
    elif chosen.sample:
        points = _evenly(points, chosen.sample)
    jobs = [(point, fault) for point in points for fault in faults_of(point.operation, asked)]
    known = {} if chosen.only else _finished(work, each_stage=chosen.each_stage)
    cases = [known[job] for job in jobs if job in known]
    print(
        f"{len(wanted.points())} points, the undisturbed script takes {wanted.seconds:.1f} s; "
        f"{len(jobs)} cases to try, {len(cases)} of them tried before",
        flush=True,
    )
    left = [job for job in jobs if job not in known]
    cases += _try_all(work, left, wanted, chosen.jobs, each_stage=chosen.each_stage)
    return _told(cases, work)


def _known(points: list[Point], wanted: list[str]) -> list[Point]:
    named = [parsed(name) for name in wanted]
    for point in named:
        if point not in points:
            raise ValueError(f"the script does not pass {point}; --list names its points")
    return named


def _evenly(points: list[Point], count: int) -> list[Point]:
    count = min(count, len(points))
    return [points[(2 * number + 1) * len(points) // (2 * count)] for number in range(count)]


def _finished(work: Path, *, each_stage: bool) -> dict[Job, Case]:
    file = work / "results.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() else []
    cases = [msgspec.json.decode(line, type=Case) for line in lines]
    far = [case for case in cases if each_stage or case.last == STAGES[-1]]
    return {(parsed(case.point), case.fault): case for case in far}


def _try_all(work: Path, jobs: list[Job], wanted: Reference, processes: int, *, each_stage: bool) -> list[Case]:
    cases = []
    with (work / "results.jsonl").open("ab", buffering=0) as file:
        for case in cases_of(work, jobs, wanted, processes, each_stage):
            cases.append(case)
            file.write(msgspec.json.encode(case) + b"\n")
            if case.why or sys.stderr.isatty():
                state = f"BROKEN: {case.why}" if case.why else "recovered"
                print(f"{len(cases)} of {len(jobs)}: {case.point} {case.fault}: {state}", file=sys.stderr, flush=True)
    return cases


def _told(cases: list[Case], work: Path) -> int:
    """The table, what is broken, and the exit code."""
    tried_, sound = Counter[tuple[str, Fault]](), Counter[tuple[str, Fault]]()
    for case in cases:
        cell = (parsed(case.point).operation, case.fault)
        tried_[cell] += 1
        sound[cell] += not case.why
    print(f"\n{'':<10}" + "".join(f"{fault:>11}" for fault in FAULTS))
    for operation in OPERATIONS:
        cells = [
            f"{sound[operation, fault]}/{tried_[operation, fault]}" if tried_[operation, fault] else ""
            for fault in FAULTS
        ]
        print(f"{operation:<10}" + "".join(f"{cell:>11}" for cell in cells))
    points = {case.point for case in cases}
    broken = [case for case in cases if case.why]
    for case in broken:
        fault = "kill" if case.fault == "half" else case.fault
        print(f"\n{case.point} {case.fault}: {case.why}")
        print(f"  python -m tools.crash_matrix --work {work} --only '{case.point}' --faults {fault}")
    seconds = sum(case.seconds for case in cases) / max(1, len(cases))
    print(f"\n{len(cases)} cases, {seconds:.1f} s each; what is written to status/ bears no state and is no point")
    print(f"{len(points) - len({case.point for case in broken})} of {len(points)} points recovered bit-exact")
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
