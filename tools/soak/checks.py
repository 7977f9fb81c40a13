"""What must hold at the end of a soak: small checks over plain evidence, each of which says what is broken, or nothing.

``CHECKS`` names them, with the sentence that each one keeps.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tools.soak.life import Sample

THIRDS = 3
SAMPLES_MIN = 12
"""Fewer idle moments of one warm life than these say nothing about growth."""
MEMORY_SHARE, MEMORY_BYTES = 0.05, 2 << 20
DESCRIPTORS_MORE, THREADS_MORE = 1, 2
"""Threads come and go in the pool, by ones; each descriptor has a reason."""
SHOWN = 5


class Paper(msgspec.Struct, frozen=True):
    """A receipt or report. ``epoch`` counts the rollbacks before it was filed; steps are 0 where none were learnt."""

    path: str
    batch: str
    epoch: int
    first_step: int = 0
    last_step: int = 0
    steps_kept: int = 0


class Epoch(msgspec.Struct, frozen=True):
    """The time between two rollbacks: from which step on, and at which it ended. The last one ended idle."""

    begins: int
    ends: int
    last: bool = True


class Evidence(msgspec.Struct, frozen=True):
    """What a soak came to.

    Attributes:
        expected: how often each dropped thing must have an outcome; ``names`` what it was called.
        outcomes: where each thing lies that has one; ``waiting``: what lies in the inbox or among the claimed.
        unpapered, unfiled: files without their paper, papers without their file.
        kept_before: steps of failed files whose report a retry has taken away, by epoch.
        longest: the idle samples of the longest life, taken when all that has a bound had reached it.
        unasked: lives that ended without being asked to, in words.
    """

    expected: Mapping[str, int] = {}
    names: Mapping[str, str] = {}
    outcomes: Mapping[str, Sequence[str]] = {}
    waiting: Sequence[str] = ()
    unpapered: Sequence[str] = ()
    unfiled: Sequence[str] = ()
    papers: Sequence[Paper] = ()
    epochs: Sequence[Epoch] = (Epoch(0, 0),)
    kept_before: Mapping[int, int] = {}
    global_step: int = 0
    head: str = ""
    doctor: Sequence[str] = ()
    leftovers: Sequence[str] = ()
    longest: Sequence[Sample] = ()
    lies: Sequence[str] = ()
    unasked: Sequence[str] = ()
    unsettled: str = ""


def settles(found: Evidence) -> str:
    return found.unsettled


def each_has_one_outcome(found: Evidence) -> str:
    told = []
    for token in sorted({*found.expected, *found.outcomes}):
        wanted, places = found.expected.get(token, 0), found.outcomes.get(token, ())
        if len(places) != wanted:
            name = found.names.get(token, "never dropped")
            told.append(f"{name!r} ({token}) lies {len(places)} times, not {wanted}: {', '.join(places) or 'nowhere'}")
    if found.waiting:
        told.append(f"still waiting: {_some(found.waiting)}")
    return _some(told, "; ")


def each_has_its_paper(found: Evidence) -> str:
    told = [f"{path} has no paper" for path in found.unpapered]
    told += [f"{path} lies without its file" for path in found.unfiled]
    counts = Counter(paper.batch for paper in found.papers)
    for batch in sorted(batch for batch, count in counts.items() if count > 1):
        told.append(f"batch {batch} has {_some([paper.path for paper in found.papers if paper.batch == batch])}")
    return _some(told, "; ")


def steps_are_contiguous(found: Evidence) -> str:
    """In each epoch from its first step on: receipts follow one another, but for steps that failed files have left."""
    for number, epoch in enumerate(found.epochs):
        kept = found.kept_before.get(number, 0)
        kept += sum(paper.steps_kept for paper in found.papers if paper.epoch == number)
        receipts = sorted(
            (paper for paper in found.papers if paper.epoch == number and paper.last_step > epoch.begins),
            key=lambda paper: (paper.first_step, paper.last_step),
        )
        at = epoch.begins
        for place, receipt in enumerate(receipts):
            begins = receipt.first_step if place else max(receipt.first_step, at + 1)  # resumed over a rollback
            if begins <= at:
                return f"{receipt.path} repeats step {begins}: {at} are learnt before it"
            kept -= begins - at - 1
            if kept < 0:
                return f"{receipt.path} begins at step {begins}, and no paper accounts for those from {at + 1} on"
            at = receipt.last_step
        if at > epoch.ends:
            return f"the papers account for {at} steps, HEAD says {epoch.ends}"
        if epoch.last and epoch.ends - at > kept:
            return f"HEAD says {epoch.ends} steps, the papers account for {at} and {kept} of failed files"
    if found.epochs[-1].ends != found.global_step:
        return f"HEAD says {found.global_step} steps, the daemon had said {found.epochs[-1].ends}"
    return ""


def head_loads(found: Evidence) -> str:
    return found.head


def doctor_finds_no_error(found: Evidence) -> str:
    return _some(found.doctor, "; ")


def nothing_is_left_over(found: Evidence) -> str:
    return _some(found.leftovers)


def memory_does_not_grow(found: Evidence) -> str:
    first, _, last = medians(found.longest, lambda sample: sample.memory)
    bound = first * (1 + MEMORY_SHARE) + MEMORY_BYTES
    if last <= bound:
        return ""
    return f"{first / 2**20:.1f} MiB became {last / 2**20:.1f} MiB, over {bound / 2**20:.1f}"


def descriptors_do_not_grow(found: Evidence) -> str:
    first, _, last = medians(found.longest, lambda sample: sample.descriptors)
    return "" if last <= first + DESCRIPTORS_MORE else f"{first:g} open descriptors became {last:g}"


def threads_do_not_grow(found: Evidence) -> str:
    first, _, last = medians(found.longest, lambda sample: sample.threads)
    return "" if last <= first + THREADS_MORE else f"{first:g} threads became {last:g}"


def status_never_lied(found: Evidence) -> str:
    return _some(found.lies, "; ")


def it_ends_only_when_asked(found: Evidence) -> str:
    return _some(found.unasked, "; ")


def medians(samples: Sequence[Sample], of: Callable[[Sample], float]) -> list[float]:
    """Of each third; zeros if there are too few to say anything.

    Two single samples would prove nothing: what the allocator keeps for later comes and goes by a twentieth of all.
    """
    if len(samples) < SAMPLES_MIN:
        return [0.0] * THIRDS
    size = len(samples) // THIRDS
    parts = samples[:size], samples[size:-size], samples[-size:]
    return [statistics.median(map(of, part)) for part in parts]


def _some(told: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return between.join(told[:SHOWN]) + more


CHECKS: tuple[tuple[str, str, Callable[[Evidence], str]], ...] = (
    ("settled", "the daemon becomes idle once trouble has ceased", settles),
    ("outcomes", "everything dropped has one outcome, is nowhere twice, and none is lost", each_has_one_outcome),
    ("papers", "each outcome has its receipt or report, and each batch one of them", each_has_its_paper),
    ("steps", "no step is skipped or repeated, as far as rollbacks do not say so", steps_are_contiguous),
    ("HEAD", "HEAD and all that it keeps is sound", head_loads),
    ("doctor", "nightfold doctor finds no error", doctor_finds_no_error),
    ("leftovers", "no temporary name is left, and nothing that HEAD does not reach", nothing_is_left_over),
    ("memory", "an idle daemon takes no more at the end of its life than at its beginning", memory_does_not_grow),
    ("descriptors", "nor does it hold more files open", descriptors_do_not_grow),
    ("threads", "nor does it have more threads", threads_do_not_grow),
    ("status", "status never lied", status_never_lied),
    ("ends", "no daemon ended without being asked to", it_ends_only_when_asked),
)


def broken(found: Evidence) -> list[tuple[str, str, str]]:
    """(name, sentence, what is wrong) of each check that does not hold."""
    told = [(name, sentence, check(found)) for name, sentence, check in CHECKS]
    return [one for one in told if one[2]]
