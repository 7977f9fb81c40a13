"""The sweeps cut into tasks, each small enough that several processes are busy to the end."""

from __future__ import annotations

from collections.abc import Sequence

from tools.exhaustion.durable_protocols import DURABLE
from tools.exhaustion.protocols import PROTOCOLS
from tools.exhaustion.story_sweep import PARTS, StorySweep, points_of
from tools.exhaustion.sweep import Sweep
from tools.exhaustion.tally import Tally

LEVELS = ("protocols", "story", "double")
POINTS_A_TASK = 12
TORN_OF_PROTOCOLS = 12
TORN_OF_STORY = 12
CUTS_MOST = 9
"""Of the protocols of ``durable.py``, which need fewer until no new disk turns up."""
CUTS_OF_ACTORS = 2
"""Of those of the actors: a file's number, a generation's number grow with each, so new disks never cease."""
Task = tuple[str, str, tuple[int, ...]]
"""A level, a protocol or part of the story, and its points."""


def tasks_of(level: str, sample: int) -> Sequence[Task]:
    """What a level is made of; ``sample``: so many points of each part of the story, 0 for all."""
    if level == "protocols":
        return [(level, scenario.name, ()) for scenario in PROTOCOLS]
    parts = PARTS if level == "story" else ("cuts", "kills")
    tasks: list[Task] = []
    for part in parts:
        points = evenly(points_of(part), sample)
        size = POINTS_A_TASK if level == "story" else 2
        tasks += [(level, part, tuple(points[at : at + size])) for at in range(0, len(points), size)]
    return tasks


def evenly(points: int, sample: int) -> list[int]:
    """``sample`` of the numbers from 1 to ``points``, evenly spaced; all for 0."""
    if sample <= 0 or sample >= points:
        return list(range(1, points + 1))
    return [1 + index * points // sample for index in range(sample)]


def swept(task: Task) -> Tally:
    """One task, in whichever process."""
    level, name, points = task
    if level == "protocols":
        scenario = next(scenario for scenario in PROTOCOLS if scenario.name == name)
        cuts = CUTS_MOST if scenario in DURABLE else CUTS_OF_ACTORS
        return Sweep(scenario, cuts=cuts, torn_at_most=TORN_OF_PROTOCOLS, thorough=True).run()
    sweep = StorySweep(torn_at_most=TORN_OF_STORY, again=1 if level == "double" else 0)
    tally = sweep.run(name, points)
    if level == "double":
        tally.name = f"{tally.name}, and cut again"
    return tally
