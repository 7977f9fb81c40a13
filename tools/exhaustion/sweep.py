"""The sweep of one protocol: every fault at every point of it, and of what follows the fault.

A *life* is what a daemon does with the protocol: start-up, then the protocol. The sweep begins with the prepared disk
and runs a life on it; each disk that a power cut at any point of the life may leave is a *state*, from which a life is
run in turn, and so on up to ``cuts`` power cuts in a row. A state that was seen before is not run again: what a program
does on a rebooted disk is decided by what lies there, so two equal states have equal futures. Where no new state turns
up, the protocol is proven for any number of power cuts.

Beside the cuts, at each point of the first life: the process is killed (nothing is lost, nothing is synced), and each
error is raised once, after which the same process tries again, or the next one starts; both, and a power cut at every
point of that too where ``thorough``.

What must hold:
    * What is shown is old or new at any moment, and new once it was acknowledged, whatever happens later.
    * A start-up without a fault ends well, leaves nothing half-done, and the protocol then comes to its end.
    * An error that leaves is an ``OSError`` that tells what the disk said.
    * What start-up believed survives a power cut right after it.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime import durable
from runtime.simulation import Fault, IoError, NoSpace, ShortWrite, SimDisk
from tools.exhaustion.forking_disk import ForkingDisk, Point, abandoned, digest, fork, survivors
from tools.exhaustion.scenario import Broken, Scenario
from tools.exhaustion.tally import Tally

ERRORS: dict[str, tuple[Fault, int]] = {
    "no_space": (NoSpace(), errno.ENOSPC),
    "short_write": (ShortWrite(), errno.ENOSPC),
    "io_error": (IoError(), errno.EIO),
}
"""Each error with the number that must leave the protocol. On an fsync a short write is the same as no space."""
VIOLATIONS_MAX = 20


@dataclass(frozen=True)
class _State:
    disk: SimDisk
    acknowledged: bool
    path: tuple[str, ...]
    cuts: int


class Sweep:
    """Build with a scenario, then ``run``.

    Args:
        cuts: how many power cuts may follow each other; the sweep ends before if no new state turns up.
        torn_at_most: outcomes of a torn cut tried at each point; more than that are drawn evenly.
        thorough: after a kill and after an error, cut at every point of what follows.
    """

    def __init__(self, scenario: Scenario, *, cuts: int = 9, torn_at_most: int = 24, thorough: bool = False) -> None:
        self._scenario = scenario
        self._cuts = cuts
        self._torn = torn_at_most
        self._thorough = thorough
        self._seen: set[tuple[str, bool]] = set()
        self._queue: deque[_State] = deque()
        self.tally = Tally(scenario.name)

    def run(self) -> Tally:
        """Sweep until no new state turns up within the bound."""
        self._add(prepared(self._scenario), acknowledged=False, path=(), cuts=0)
        unexplored = False
        while self._queue and len(self.tally.violations) < VIOLATIONS_MAX:
            state = self._queue.popleft()
            unexplored |= state.cuts >= self._cuts
            self._guarded(state.path, lambda state=state: self._live(state))  # type: ignore[misc]
            if not state.path:
                self._guarded((), lambda state=state: self._kills(state))  # type: ignore[misc]
                self._errors(state)
        self.tally.states = len(self._seen)
        self.tally.closed = not unexplored and not self.tally.violations
        return self.tally

    # Lives.

    def _live(self, state: _State) -> None:
        """An undisturbed life, and every disk that a cut in it may leave."""
        disk = fork(state.disk)
        disk.operations = 0
        if state.cuts < self._cuts:
            disk.on_point = lambda point: self._cut(point, state.path, state.cuts, acknowledged=state.acknowledged)
        self._whole_life(disk, acknowledged=state.acknowledged)
        if not state.path:
            self.tally.points = disk.operations
        disk.on_point = None
        for word, found in survivors(disk, self._torn):
            self._found(found, (*state.path, f"cut@end.{word}"), state.cuts + 1, acknowledged=True)

    def _whole_life(self, disk: ForkingDisk, *, acknowledged: bool) -> None:
        """Start-up, and the protocol unless it was acknowledged; all must go well."""
        scenario = self._scenario
        self._is_shown(disk, acknowledged=acknowledged, when="before start-up")
        world = scenario.recover(disk)
        self._is_recovered(disk, acknowledged=acknowledged)
        if not acknowledged:
            scenario.act(disk, world)
            self._is_shown(disk, acknowledged=True, when="after the protocol")
            self._is_tidy(disk, "the protocol")

    def goes_well(self, disk: ForkingDisk, *, acknowledged: bool, started: bool) -> None:
        """What follows the last fault of a case: the rest of its life, one more power cut, and one more life.

        Raises:
            Broken: something that must hold does not.
        """
        if not started:
            self._whole_life(disk, acknowledged=acknowledged)
        for _, found in survivors(disk, self._torn):
            self._whole_life(fork(found), acknowledged=True)

    def _cut(self, point: Point, path: tuple[str, ...], cuts: int, *, acknowledged: bool) -> None:
        for word, found in point.cuts(self._torn):
            self._found(found, (*path, f"cut@{point.number}.{word}"), cuts + 1, acknowledged=acknowledged)

    def _found(self, disk: SimDisk, path: tuple[str, ...], cuts: int, *, acknowledged: bool) -> None:
        """A disk after a power cut: is it as promised? It becomes a state of its own."""
        self.tally.cases["cut" if cuts == 1 else "cut again"] += 1
        if (digest(disk), acknowledged) not in self._seen:
            self._add(disk, acknowledged=acknowledged, path=path, cuts=cuts)

    def _add(self, disk: SimDisk, *, acknowledged: bool, path: tuple[str, ...], cuts: int) -> None:
        self._seen.add((digest(disk), acknowledged))
        self._queue.append(_State(disk, acknowledged, path, cuts))

    # The process is killed.

    def _kills(self, state: _State) -> None:
        disk = fork(state.disk)
        disk.operations = 0
        killed: list[tuple[int, ForkingDisk]] = []
        disk.on_point = lambda point: killed.append((point.number, point.kill()))
        world = self._scenario.recover(disk)
        self._scenario.act(disk, world)
        for number, left in killed:
            self.tally.cases["kill"] += 1
            path = (f"kill@{number}",)
            self._guarded(path, lambda left=left, path=path: self._goes_on(left, path, acknowledged=False))  # type: ignore[misc]

    def _goes_on(self, disk: ForkingDisk, path: tuple[str, ...], *, acknowledged: bool) -> None:
        """The next process starts on a disk that was not rebooted."""
        scenario = self._scenario
        told = acknowledged
        if self._thorough:
            disk.on_point = lambda point: self._cut(point, path, 1, acknowledged=told)
        shown = self._is_shown(disk, acknowledged=acknowledged, when="before start-up")
        world = scenario.recover(disk)
        self._is_recovered(disk, acknowledged=acknowledged)
        if scenario.believed:
            self._stays(disk, shown)
        if not acknowledged:
            scenario.act(disk, world)
            self._is_shown(disk, acknowledged=True, when="after the protocol")
            self._is_tidy(disk, "the protocol")
        disk.on_point = None
        for word, found in survivors(disk, self._torn):
            self._found(found, (*path, f"cut@end.{word}"), 2, acknowledged=True)

    def _stays(self, disk: ForkingDisk, before: str) -> None:
        """What start-up found new, and told, is new after a power cut too."""
        shown = self._scenario.shown(disk)
        for word, found in survivors(disk, self._torn):
            if shown == "new" and self._scenario.shown(found) != "new":
                raise Broken(f"start-up believed what a power cut then took back ({word}; it found {before})")

    # The disk refuses.

    def _errors(self, state: _State) -> None:
        for kind, (fault, number) in ERRORS.items():
            for at in range(1, self.tally.points + 1):
                path = (f"{kind}@{at}",)
                self.tally.cases[kind] += 1
                self._guarded(
                    path,
                    lambda path=path, fault=fault, number=number, at=at: self._one_error(
                        state, path, fault, number, at
                    ),  # type: ignore[misc]
                )

    def _one_error(self, state: _State, path: tuple[str, ...], fault: Fault, number: int, at: int) -> None:
        scenario = self._scenario
        disk = fork(state.disk)
        disk.operations = 0
        disk.faults = lambda operation, *_: fault if operation == at else None
        world = self._tried(number, lambda: scenario.recover(disk))
        if world is _REFUSED:
            self._is_shown(disk, acknowledged=False, when="after start-up failed")
            world = scenario.recover(disk)
        if self._tried(number, lambda: scenario.act(disk, world)) is not _REFUSED:
            self._is_shown(disk, acknowledged=True, when="after the protocol, which told of no error")
            self._ends(disk, path)
            return
        self._is_shown(disk, acknowledged=False, when="after the error")
        disk.faults = None
        for word, found in survivors(disk, self._torn):
            self._found(found, (*path, f"cut@error.{word}"), 1, acknowledged=False)
        left = abandoned(disk)
        self._goes_on(left, (*path, "restart"), acknowledged=False)
        if self._thorough:
            disk.on_point = lambda point: self._cut(point, (*path, "retry"), 1, acknowledged=False)
        scenario.act(disk, world)
        disk.on_point = None
        self._is_shown(disk, acknowledged=True, when="after the next try")
        scenario.after_retry(disk)
        self._ends(disk, (*path, "retry"))

    def _ends(self, disk: ForkingDisk, path: tuple[str, ...]) -> None:
        """It was acknowledged after an error: whatever comes, it stays."""
        for word, found in survivors(disk, self._torn):
            self._found(found, (*path, f"cut@end.{word}"), 1, acknowledged=True)
        self._goes_on(abandoned(disk), (*path, "restart"), acknowledged=True)

    def _tried(self, number: int, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            if error.errno != number:
                said = errno.errorcode.get(number, str(number))
                raise Broken(f"the disk said {said}, and what left the protocol is {error!r}") from error
            return _REFUSED

    # What must hold.

    def _is_shown(self, disk: SimDisk, *, acknowledged: bool, when: str) -> str:
        shown = self._scenario.shown(disk)
        if acknowledged and shown != "new":
            raise Broken(f"{when}: what was acknowledged is not there")
        return shown

    def _is_recovered(self, disk: SimDisk, *, acknowledged: bool) -> None:
        self._is_shown(disk, acknowledged=acknowledged, when="after start-up")
        self._is_tidy(disk, "start-up")
        self._scenario.tidy(disk)

    def _is_tidy(self, disk: SimDisk, after: str) -> None:
        left = [path for path in disk.tree() if durable.is_leftover(path.rsplit("/", 1)[-1])]
        if left and after == "start-up":
            raise Broken(f"{after} left {', '.join(left)}")

    def _guarded(self, path: Sequence[str], check: Callable[[], None]) -> None:
        try:
            check()
        except (Broken, OSError) as broken:
            self.tally.violations.append((" ".join(path), f"{type(broken).__name__}: {broken}"))
        except Exception as broken:  # noqa: BLE001 - whatever a life raises that has no fault in it, is a finding
            self.tally.violations.append((" ".join(path), f"{type(broken).__name__}: {broken}"))


_REFUSED = object()


def prepared(scenario: Scenario) -> ForkingDisk:
    """The disk on which the protocol begins. All that was prepared is durable: it is not what is tried."""
    disk = ForkingDisk()
    scenario.prepare(disk)
    kept = [found for word, found in survivors(disk, 1) if word in ("lose_all", "keep_all")]
    return fork(kept[-1])
