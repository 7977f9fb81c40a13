"""The processes that try cases, each with all that a daemon imports already in it: daemons are forked from them."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from actors.consolidator.merge_child import die_with
from tools.crash_matrix import warm_merge
from tools.crash_matrix.campaign import Case, Reference, tried
from tools.crash_matrix.points import Fault, Point
from tools.crash_matrix.script import STAGES

Job = tuple[Point, Fault]

MODULES = ("actors.trainer.torch_engine", "tools.daemon", "tools.commands.rollback")
STRIDE = 61


@functools.cache
def warm() -> None:
    """Import once what every daemon needs, and what every merge; they are forked."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    for module in MODULES:
        importlib.import_module(module)
    warm_merge.installed(warm_merge.begin("merge"))


def cases_of(work: Path, jobs: list[Job], wanted: Reference, processes: int, each_stage: bool) -> Iterator[Case]:
    """Try all jobs; cases come as they are done. With one process it is this one."""
    asked = [(work, point, fault, wanted, point.stage if each_stage else STAGES[-1]) for point, fault in _spread(jobs)]
    if processes <= 1 or len(asked) <= 1:
        for case in asked:
            warm()
            yield tried(*case)
        return
    # Spawned and not forked: each worker forks daemons itself, and must have no thread but its own.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker, initargs=(os.getpid(),))
    try:
        for done in as_completed([pool.submit(tried, *case) for case in asked]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker(parent: int) -> None:
    die_with(parent)
    warm()


def _spread(jobs: list[Job]) -> list[Job]:
    """In such an order that a campaign which is stopped early has looked everywhere."""
    return [job for first in range(STRIDE) for job in jobs[first::STRIDE]]
