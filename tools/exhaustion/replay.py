"""One case again, with the faults put in for real: it must break as it broke in the sweep, or the sweep was wrong.

A path is the faults in order, with spaces between:

    cut@17.before.torn.0.2   the power goes before (or halfway.) the life's 17th operation; what survives follows
    cut@end.lose_all         the power goes once the protocol has come to its end
    cut@error.keep_all       the power goes right after the error that is named before
    kill@17                  the process is gone before its 17th operation
    io_error@17              the disk refuses its 17th operation (or no_space, short_write) ...
    retry, restart           ... and the same process tries again, or the next one starts
    crash@17.before          the receiver of the 17th handled message crashes (.after; .before.again: twice)

What no fault is named for goes undisturbed, and is checked as the sweep checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.simulation import Fault, PowerCut, PowerLost
from tools.exhaustion.forking_disk import ForkingDisk, abandoned, cut_for_real, fork
from tools.exhaustion.scenario import Broken, Scenario
from tools.exhaustion.story import Killed, a_home, live
from tools.exhaustion.story_end import Announced, after_the_stop, hold_promises
from tools.exhaustion.story_sweep import Crash, StorySweep
from tools.exhaustion.sweep import ERRORS, Sweep, prepared


class Step:
    """One word of a path."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.kind, _, rest = word.partition("@")
        at, _, self.mode = rest.partition(".")
        self.at = int(at) if at.isdigit() else 0
        self.where = at
        self.halfway = False
        if self.kind == "cut" and self.at:
            moment, _, self.mode = self.mode.partition(".")
            self.halfway = moment == "halfway"

    def fault(self, number: int, _operation: str, _path: str) -> Fault | None:
        """What the disk is told at each operation."""
        if number != self.at:
            return None
        if self.kind == "kill":
            raise Killed
        return PowerCut(halfway=self.halfway) if self.kind == "cut" else ERRORS[self.kind][0]


class ProtocolReplay:
    """One protocol on its way through a path."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._disk = prepared(scenario)
        self._world: Any = None
        self._started = False
        self._acknowledged = False

    def run(self, path: str) -> str:
        """What breaks, or ``""``."""
        try:
            for word in path.split():
                self._take(Step(word))
            if self._started:
                self._rest_of_life()
                self._scenario.after_retry(self._disk)
            Sweep(self._scenario).goes_well(self._disk, acknowledged=self._acknowledged, started=self._started)
        except Exception as broken:  # noqa: BLE001 - whatever it raises is what was asked for
            return f"{type(broken).__name__}: {broken}"
        return ""

    def _take(self, step: Step) -> None:
        if step.kind == "restart":
            self._next_life(abandoned(self._disk))
        elif step.kind in ERRORS:
            self._with_an_error(step)
        elif step.kind == "kill" or step.at:
            self._disk.faults = step.fault
            try:
                self._rest_of_life()
            except PowerLost:
                self._next_life(fork(cut_for_real(self._disk, step.mode)))
            except Killed:
                self._next_life(abandoned(self._disk))
            else:
                raise ValueError(f"{step.word}: the life ended before")
        elif step.where == "end":
            self._rest_of_life()
            self._next_life(fork(cut_for_real(self._disk, step.mode)))
        elif step.where == "error":
            self._next_life(fork(cut_for_real(self._disk, step.mode)))

    def _next_life(self, disk: ForkingDisk) -> None:
        self._disk, self._world, self._started = disk, None, False

    def _rest_of_life(self) -> None:
        if not self._started:
            self._world = self._scenario.recover(self._disk)
            self._started = True
        if not self._acknowledged:
            self._scenario.act(self._disk, self._world)
            self._acknowledged = True

    def _with_an_error(self, step: Step) -> None:
        number = ERRORS[step.kind][1]
        self._disk.faults = step.fault
        try:
            self._world = self._scenario.recover(self._disk)
        except OSError:
            self._world = self._scenario.recover(self._disk)
        self._started = True
        try:
            self._scenario.act(self._disk, self._world)
            self._acknowledged = True
        except OSError as error:
            if error.errno != number:
                raise Broken(f"the disk said {number}, and what left the protocol is {error!r}") from error
        self._disk.faults = None


def replay_story(path: str) -> str:
    """What breaks in the story, or ``""``."""
    disk, announced, life = fork(a_home()), Announced(), 1
    sweep = StorySweep()
    try:
        for word in path.split():
            step = Step(word)
            if word == "restart":
                disk = abandoned(disk)
                continue
            if step.where == "end":
                disk = fork(after_the_stop(disk))
                continue
            crash = None
            if step.kind == "crash":
                crash = Crash.read(word)
            else:
                disk.faults = step.fault
            ended = live(disk, life, announced, crash)
            life += 1
            if ended.lost == "power":
                disk = fork(cut_for_real(disk, step.mode))
            elif ended.lost == "killed":
                disk = abandoned(disk)
            disk.faults = None
            hold_promises(disk, announced)
        sweep.finish(disk, life, announced)
    except Exception as broken:  # noqa: BLE001 - whatever it raises is what was asked for
        return f"{type(broken).__name__}: {broken}"
    return ""


Replay = Callable[[str], str]


def replayer(name: str, scenarios: dict[str, Scenario]) -> Replay:
    """What runs a path of this protocol, or of the ``story``.

    Raises:
        KeyError: there is none of that name.
    """
    return replay_story if name.startswith("story") else ProtocolReplay(scenarios[name]).run
