"""The figures as a plain table, and the targets beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tools.bench.runtime.shape import CPU, Case, Sample

Samples = Sequence[Sample]


@dataclass(frozen=True)
class Target:
    """A bound on one of our figures; ``of`` draws it from our samples and the peer's of the same rounds."""

    words: str
    of: Callable[[Samples, Samples], float]
    most: float
    has_peer: bool = False

    def told(self, ours: Samples, peers: Samples) -> str:
        """What was reached, and whether it is enough."""
        reached = self.of(ours, peers)
        verdict = "met" if self.met(reached) else "NOT MET"
        return f"{self.words}: {_figure(reached)}, at most {_figure(self.most)}: {verdict}"

    def met(self, reached: float) -> bool:
        """Is it enough?"""
        return reached <= self.most


def ratio(ours: Samples, peers: Samples, column: str = CPU) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(
        our.figure(column) / peer.figure(column) for our, peer in zip(ours, peers, strict=False)
    )  # fmt: skip


def median_of(column: str) -> Callable[[Samples, Samples], float]:
    """Our own median."""
    return lambda ours, _: statistics.median(sample.figure(column) for sample in ours)


def _against_queue(nanoseconds: float, most: float) -> tuple[Target, ...]:
    # The bound in nanoseconds was set in another hour, on a machine that drifts: the ratio is the one that holds.
    return (
        Target(CPU, median_of(CPU), nanoseconds),
        Target("x asyncio.Queue in the same rounds", ratio, most, has_peer=True),
    )


TARGETS: Mapping[str, tuple[Target, ...]] = {
    "tell": _against_queue(450, 0.70),
    "ask": _against_queue(6_000, 1.07),
    "ring": _against_queue(500, 0.75),
    "start": (
        Target("seconds of CPU for all", lambda ours, _: statistics.median(sample.cpu for sample in ours), 1.0),
        Target("seconds for all", lambda ours, _: statistics.median(sample.wall for sample in ours), 1.0),
    ),
    "memory": (Target("bytes for each idle actor", median_of("bytes"), 4096),),
}


def show(name: str, case: Case, results: Mapping[str, Samples], troubles: Mapping[str, str]) -> None:
    """Print one case."""
    print(f"\n{name}: {case.what}. For each {case.unit}, median (min-max)")
    peers = results.get(case.peer, ())
    heads = [*case.columns, *((f"x {case.peer}",) if peers else ())]  # a ratio of each column, in their order
    print(f"  {'':<24}" + "".join(f"{head:>30}" for head in heads))
    for way, samples in results.items():
        cells = [_spread([sample.figure(column) for sample in samples]) for column in case.columns]
        if peers:
            cells.append(" / ".join(f"{ratio(samples, peers, column):.2f}" for column in case.columns))
        print(f"  {way:<24}" + "".join(f"{cell:>30}" for cell in cells))
    for way, words in troubles.items():
        print(f"  {way:<24}  left out: {words}")
    first = next(iter(case.ways))
    named = next((name for name in (f"{first}, compiled", first) if name in results), "")
    ours = results.get(named, ())
    for target in TARGETS.get(name, ()):
        if ours and (peers or not target.has_peer):
            print(f"  target of {named}, {target.told(ours, peers)}")


def _spread(values: Sequence[float]) -> str:
    return f"{_figure(statistics.median(values))} ({_figure(min(values))}-{_figure(max(values))})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
