"""The sweep of the whole house in its short story: every disk operation and every message of it, with every fault.

Four parts, each over the numbered points of the undisturbed story:

    * ``cuts``: the power goes, before or in the operation, in every survival mode; the next life finishes the story.
    * ``kills``: the process goes; the next one finds a disk that was not rebooted.
    * ``errors``: the disk refuses once. The same life finishes the story.
    * ``messages``: the receiver crashes, before or after handling it; and, where it is delivered again, once more.

Whatever happened, at every moment what was announced is so and each file is in one place; in the end the home is that
of the undisturbed run; and after the orderly stop a last power cut takes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial

from runtime.hot.envelope import Envelope
from runtime.simulation import Fault, SimDisk
from tools.exhaustion.forking_disk import ForkingDisk, Point, abandoned, digest, fork
from tools.exhaustion.scenario import Broken
from tools.exhaustion.story import Moment, Sabotage, a_home, live, undisturbed
from tools.exhaustion.story_end import Announced, Told, after_the_stop, hold_promises, nothing_hidden, told
from tools.exhaustion.sweep import ERRORS
from tools.exhaustion.tally import Tally

PARTS = ("cuts", "kills", "errors", "messages")
MOMENTS: tuple[Moment, ...] = ("before", "after")


@cache
def expected() -> Told:
    """The end of the undisturbed story."""
    return undisturbed()[0]


@cache
def points_of(part: str) -> int:
    """How many points a part has."""
    ended = undisturbed()[1]
    return ended.handled if part == "messages" else ended.operations


@dataclass(frozen=True)
class _State:
    disk: SimDisk
    announced: Announced
    path: tuple[str, ...]


class StorySweep:
    """Build, then call ``run`` with the points of one part.

    Args:
        torn_at_most: outcomes of a torn cut tried at each point.
        again: cut a second time, at every so many-th operation of each life after a first cut; 0: do not.
    """

    def __init__(self, *, torn_at_most: int = 6, again: int = 0) -> None:
        self._torn = torn_at_most
        self._again = again
        self._seen: set[tuple[object, ...]] = set()
        self._found: list[_State] = []
        self.tally = Tally("story")

    def run(self, part: str, points: Collection[int]) -> Tally:
        """Sweep these points of a part."""
        self.tally.name = f"story: {part}"
        self.tally.points = points_of(part)
        match part:
            case "cuts":
                self._cuts(points)
            case "kills":
                self._kills(points)
            case "errors":
                self._errors(points)
            case "messages":
                self._messages(points)
        return self.tally

    # The power, and the process.

    def _cuts(self, points: Collection[int]) -> None:
        disk, announced = fork(a_home()), Announced()
        disk.on_point = lambda point: self._cut(point, announced, (), points, self._torn)
        self._guarded((), lambda: live(disk, 1, announced))
        first, self._found = self._found, []
        for state in first:
            self._guarded(state.path, partial(self._cut_again, fork(state.disk), state.announced, state.path))
        self._finish_what_was_found()

    def _finish_what_was_found(self) -> None:
        """A third life on each disk that a cut in a second one left."""
        second, self._found = self._found, []
        for state in second:
            self._guarded(state.path, partial(self.finish, fork(state.disk), 3, state.announced))
        self.tally.states = len(self._seen)

    def _cut(
        self, point: Point, announced: Announced, path: tuple[str, ...], points: Collection[int] | None, torn: int
    ) -> None:
        if points is not None and point.number not in points:
            return
        for word, found in point.cuts(torn):
            self.tally.cases["cut again" if path else "cut"] += 1
            key = (digest(found), announced.key)
            if key not in self._seen:
                self._seen.add(key)
                self._found.append(_State(found, announced.copy(), (*path, f"cut@{point.number}.{word}")))

    def _cut_again(self, disk: ForkingDisk, announced: Announced, path: tuple[str, ...]) -> None:
        """The second life, and every disk that a cut in it leaves."""
        announced = announced.copy()
        if self._again:
            disk.on_point = lambda point: (
                self._cut(point, announced, path, None, 1) if point.number % self._again == 0 else None
            )
        self.finish(disk, 2, announced)

    def _kills(self, points: Collection[int]) -> None:
        disk, announced = fork(a_home()), Announced()
        killed: list[tuple[int, ForkingDisk, Announced]] = []

        def note(point: Point) -> None:
            if point.number in points:
                killed.append((point.number, point.kill(), announced.copy()))

        disk.on_point = note
        self._guarded((), lambda: live(disk, 1, announced))
        for number, left, then in killed:
            self.tally.cases["kill"] += 1
            path = (f"kill@{number}",)
            self._guarded(path, partial(self._cut_again, left, then, path))
        self._finish_what_was_found()

    # The disk refuses, and a receiver crashes: the same life goes on.

    def _errors(self, points: Collection[int]) -> None:
        for at in points:
            for kind, (fault, _) in ERRORS.items():
                self.tally.cases[kind] += 1
                self._guarded(
                    (f"{kind}@{at}",),
                    lambda fault=fault, at=at: self._one_disturbed_life(lambda number: fault if number == at else None),  # type: ignore[misc]
                )

    def _messages(self, points: Collection[int]) -> None:
        for at in points:
            for moment in MOMENTS:
                for times in (1, 2):
                    crash = Crash(at, moment, times)
                    self._guarded(
                        (crash.word,),
                        lambda crash=crash: self._one_disturbed_life(None, crash),  # type: ignore[misc]
                    )
                    self.tally.met |= crash.met
                    if crash.times_done == times:
                        self.tally.cases["crash" if times == 1 else "crash again"] += 1

    def _one_disturbed_life(self, fault: Callable[[int], Fault | None] | None, crash: Sabotage | None = None) -> None:
        disk, announced = fork(a_home()), Announced()
        if fault is not None:
            disk.faults = lambda number, *_: fault(number)
        live(disk, 1, announced, crash)
        disk.faults = None
        # What this life could not clean up the next start does, whether or not the power goes in between.
        lost = after_the_stop(disk)
        hold_promises(lost, announced)
        self.finish(fork(lost), 2, announced.copy())
        self.finish(abandoned(disk), 2, announced)

    # The end.

    def finish(self, disk: ForkingDisk, number: int, announced: Announced) -> None:
        """The next life finds this disk, and finishes the story.

        Raises:
            Broken: something that must hold does not.
        """
        hold_promises(disk, announced)
        live(disk, number, announced)
        disk.on_point = None
        nothing_hidden(disk)
        last = after_the_stop(disk)
        hold_promises(last, announced)
        found = told(last)
        if found != expected():
            raise Broken(f"the story ended otherwise: {_difference(found, expected())}")

    def _guarded(self, path: tuple[str, ...], check: Callable[[], object]) -> None:
        try:
            check()
        except Exception as broken:  # noqa: BLE001 - whatever the house raises here is a finding
            self.tally.violations.append((" ".join(path), f"{type(broken).__name__}: {broken}"))


class Crash:
    """Crashes the receiver of the ``at``-th handled message, ``times`` times if it is delivered again."""

    def __init__(self, at: int, moment: Moment, times: int) -> None:
        self._at = at
        self._moment = moment
        self._times = times
        self._id = 0
        self._last: dict[str, str] = {}
        self.times_done = 0
        self.met: set[tuple[str, str, str]] = set()
        self.word = f"crash@{at}.{moment}" + (".again" if times > 1 else "")

    @classmethod
    def read(cls, word: str) -> Crash:
        """From its word in a path."""
        at, moment, *again = word.removeprefix("crash@").split(".")
        return cls(int(at), "after" if moment == "after" else "before", 2 if again else 1)

    def __call__(self, handled: int, actor: str, envelope: Envelope, moment: Moment) -> None:
        kind = type(envelope.message).__name__
        if moment == "before":
            if actor in self._last:
                self.met.add((actor, self._last[actor], kind))
            self._last[actor] = kind
        if moment != self._moment or self.times_done == self._times:
            return
        if handled == self._at or (self.times_done and envelope.id == self._id):
            self._id = envelope.id
            self.times_done += 1
            raise RuntimeError(f"sabotage {moment} {kind}")


def _difference(found: Told, wanted: Told) -> str:
    names = [name for name in found.__dataclass_fields__ if getattr(found, name) != getattr(wanted, name)]
    return "; ".join(f"{name} is {getattr(found, name)}, not {getattr(wanted, name)}" for name in names)[:600]
