"""Supervision: a branch starts its children in order, decides what follows their ends, and stops them backwards.

Restart, disable or escalate, as the tree says (``runtime.tree``). How one child lives and crashes is in
``runtime.child_runner``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from messages import ActorGaveUp
from runtime.cell import Cell
from runtime.child_runner import ChildRunner, Ended
from runtime.tree import Branch

if TYPE_CHECKING:
    from runtime.system import ActorSystem


class GaveUp(Exception):
    """Restarts did not help; ``report`` is for a person."""

    def __init__(self, report: str) -> None:
        super().__init__(report)
        self.report = report


@dataclass(frozen=True)
class _BranchFailed:
    """A branch below has used up its own patience, and escalates this."""

    runner: BranchRunner
    failure: Exception


@dataclass(frozen=True, eq=False)
class _RestartDue:
    runners: tuple[ChildRunner | BranchRunner, ...]


@dataclass(frozen=True)
class _Disable:
    runner: ChildRunner
    why: str


class BranchRunner:
    """One supervisor: starts its children in order, answers their ends, stops them backwards."""

    def __init__(self, system: ActorSystem, spec: Branch, parent: BranchRunner | None) -> None:
        self.system = system
        self.spec = spec
        self.parent = parent
        self.runners: list[ChildRunner | BranchRunner] = [
            BranchRunner(system, child, self) if isinstance(child, Branch) else ChildRunner(system, child, self)
            for child in spec.children
        ]
        self._events: asyncio.Queue[Ended | _BranchFailed | _RestartDue | _Disable | None] = asyncio.Queue()
        self._over: asyncio.Event | None = None
        self._stopping = False
        self._doomed = False
        self._for_good = True
        self._due: dict[_RestartDue, asyncio.TimerHandle] = {}
        self._being_started: set[_RestartDue] = set()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def settled(self) -> bool:
        """Are all below done for good?"""
        return all(runner.settled for runner in self.runners)

    def cells(self) -> list[Cell]:
        """Every cell below, in start order."""
        found: list[Cell] = []
        for runner in self.runners:
            found += runner.cells() if isinstance(runner, BranchRunner) else [runner.cell]
        return found

    async def start(self) -> None:
        """Start every child in order, watching them from the first: one may be asked by the next one's ``on_start``."""
        self._stopping, self._doomed, self._for_good = False, False, True
        self._being_started = set()
        self._events = asyncio.Queue()  # what an earlier life of this branch left unanswered is answered by this start
        self._over = asyncio.Event()
        self.system.spawn(self._watch(self._over), f"branch {self.name}")
        await self._start_each(self.runners)

    async def _start_each(self, runners: list[ChildRunner | BranchRunner]) -> None:
        for runner in runners:
            if self.system.stopping or self._stopping or self._doomed:
                return
            if not runner.settled:
                await runner.start()

    async def _start_again(self, due: _RestartDue) -> None:
        """Start a group in order, as long as no later restart is to do so."""
        for runner in due.runners:
            if due not in self._being_started or self.system.stopping or self._stopping or self._doomed:
                break
            if not runner.settled:
                await runner.start()
        self._being_started.discard(due)

    async def stop(self, *, for_good: bool = True) -> None:
        """Stop every child, last first. Returns when all have ended."""
        if self._over is None or self._over.is_set():
            await self._stop_each(for_good=for_good)  # no one is running, but mailboxes and devices may still be kept
            return
        self._for_good = for_good
        self._stopping = True
        self._events.put_nowait(None)
        await self._over.wait()

    async def _stop_each(self, *, for_good: bool) -> None:
        if for_good:
            # First those who wait for a restart that will not come: nobody shall wait for them any longer.
            for runner in self.runners:
                if isinstance(runner, ChildRunner) and runner.cell.state == "backing_off":
                    await runner.stop()
        for runner in reversed(self.runners):
            await runner.stop(for_good=for_good)

    def disable(self, name: str, why: str) -> bool:
        """Have a child of this branch, or of one below, ended for good. ``False``: it is not here, or not isolated."""
        for runner in self.runners:
            if isinstance(runner, BranchRunner):
                if runner.disable(name, why):
                    return True
            elif runner.name == name and self.spec.isolate:
                self._events.put_nowait(_Disable(runner, why))
                return True
        return False

    def child_ended(self, ended: Ended) -> None:
        """Told by a child's last breath."""
        if ended.crash is not None and ended.crash.for_a_person is not None and not self.spec.isolate:
            # It will not come back: nobody shall wait for it, nor be started after it.
            self._doomed = True
            ended.runner.settle("disabled")
        self._events.put_nowait(ended)

    def branch_failed(self, failed: _BranchFailed) -> None:
        """Told by a branch below when it has stopped."""
        self._events.put_nowait(failed)

    async def _watch(self, over: asyncio.Event) -> None:
        failure: Exception | None = None
        while not self._stopping and failure is None:
            event = await self._events.get()
            if isinstance(event, _RestartDue):
                if self._due.pop(event, None) is not None:
                    self._being_started.add(event)
                    # Beside this loop, not in it: an ``on_start`` may wait for another that is to be restarted, too.
                    self.system.spawn(self._start_again(event), f"restart in {self.name}")
            elif isinstance(event, _Disable):
                await event.runner.disable(event.why)
            elif isinstance(event, _BranchFailed):
                failure = self._answer_branch(event)
            elif isinstance(event, Ended) and not self._stopping:
                failure = await self._answer(event)
        self._stopping = True
        for handle in self._due.values():
            handle.cancel()
        self._due.clear()
        await self._stop_each(for_good=self._for_good)
        over.set()
        if failure is not None:
            if self.parent is None:
                self.system.give_up(failure)
            else:
                self.parent.branch_failed(_BranchFailed(self, failure))

    def _answer_branch(self, failed: _BranchFailed) -> Exception | None:
        if not self.spec.isolate:
            return failed.failure
        self.system.publish(ActorGaveUp(actor=failed.runner.name, why=str(failed.failure), disabled=True))
        return None

    async def _answer(self, ended: Ended) -> Exception | None:
        """Restart, disable or escalate; returns what to escalate with."""
        runner, crash = ended.runner, ended.crash
        if ended.asked:
            return None  # whoever asked has said what comes next
        child = runner.cell.child
        if child.restart == "temporary" or (child.restart == "transient" and crash is None):
            runner.settle("stopped" if crash is None else "disabled")
            return None
        if crash is not None and (crash.for_a_person is not None or runner.exhausted()):
            why = f"{len(runner.crashes)} crashes within {child.period:g} s; the last: {crash.line}"
            if crash.for_a_person is not None:
                why = str(crash.for_a_person)  # no restart mends what a person must: it is told at once
            self.system.publish(ActorGaveUp(actor=runner.name, why=why, disabled=self.spec.isolate))
            if self.spec.isolate:
                runner.settle("disabled", why)
                return None
            return crash.for_a_person or GaveUp(f"{runner.name} kept failing {runner.last_words}")
        await self._restart(runner)
        return None

    async def _restart(self, runner: ChildRunner) -> None:
        """Stop those the strategy names, last first, and have them started again after the back-off."""
        group: list[ChildRunner | BranchRunner] = []
        named = self._group(runner)
        self._being_started = {due for due in self._being_started if not set(due.runners) & set(named)}
        for other in reversed(named):
            if other is not runner:
                temporary = isinstance(other, ChildRunner) and other.cell.child.restart == "temporary"
                await other.stop(for_good=temporary)
            if not other.settled:
                group.insert(0, other)
        for member in group:
            for cell in member.cells() if isinstance(member, BranchRunner) else [member.cell]:
                if cell.state not in ("stopped", "disabled"):
                    cell.state = "backing_off"
                    cell.restarts += 1
        for due, handle in list(self._due.items()):
            if set(group) <= set(due.runners):
                return  # a sibling that crashed at the same time has them started already
            if set(due.runners) <= set(group):
                handle.cancel()
                del self._due[due]
        due = _RestartDue(tuple(group))
        loop = asyncio.get_running_loop()
        self._due[due] = loop.call_later(runner.delay(), self._events.put_nowait, due)

    def _group(self, runner: ChildRunner) -> list[ChildRunner | BranchRunner]:
        match self.spec.strategy:
            case "one_for_one":
                return [runner]
            case "one_for_all":
                return [other for other in self.runners if not other.settled]
            case "rest_for_one":
                return [other for other in self.runners[self.runners.index(runner) :] if not other.settled]
