"""Supervision: the one place where a crash is caught, and where it is decided what comes next.

A crash ends the incarnation, never mends it: the fresh instance starts from what is on disk and from the mailbox, which
the cell kept. Order is: the old instance is gone and its device is quiet, the back-off passes, the new instance's
``on_start`` returns, then messages flow again.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel

from messages import ActorCrashed, ActorGaveUp, ActorStarted
from runtime.cell import Cell, Stop
from runtime.errors import OperatorError
from runtime.tree import Branch, Child, Retry

if TYPE_CHECKING:
    from runtime.system import ActorSystem

YIELD_EVERY = 64
"""Messages a cell handles before it lets others run, should no handler ever suspend."""


@dataclass(frozen=True)
class _Ended:
    runner: ChildRunner | BranchRunner
    error: BaseException | None
    asked: bool = False


@dataclass(frozen=True)
class _RestartDue:
    runners: tuple[ChildRunner | BranchRunner, ...]


class ChildRunner:
    """Runs one child's incarnations, one after the other."""

    def __init__(self, system: ActorSystem, child: Child, branch: BranchRunner) -> None:
        self.system = system
        self.cell = Cell(system, child)
        self.branch = branch
        self.crashes: deque[float] = deque()
        self.streak = 0
        self._asked = False
        self._over: asyncio.Event | None = None
        self._scope = anyio.CancelScope()

    @property
    def name(self) -> str:
        return self.cell.name

    async def start(self) -> None:
        """Begin an incarnation; returns when it is up or has already ended."""
        self._asked = False
        self._over = asyncio.Event()
        self._scope = anyio.CancelScope()
        up = asyncio.Event()
        self.system.spawn(self._incarnation(up, self._over, self._scope))
        await up.wait()

    async def stop(self, *, for_good: bool = True) -> None:
        """End the incarnation in order, or by force after ``stop_within`` seconds.

        ``for_good=False``: another incarnation follows, so mailbox and device are kept.
        """
        if self._over is not None and not self._over.is_set():
            await self._end_incarnation(self._over)
        if for_good:
            self._settle("stopped")

    async def _end_incarnation(self, over: asyncio.Event) -> None:
        self._asked = True
        self.cell.state = "stopping"
        self.system.put(self.cell, "supervisor", 0, Stop(), control=True)
        with anyio.move_on_after(self.cell.child.stop_within):
            await over.wait()
        if not over.is_set():
            self._scope.cancel()
            await over.wait()

    def disable(self) -> None:
        """No more incarnations; what waits becomes a dead letter."""
        self._settle("disabled")

    def _settle(self, state: Literal["stopped", "disabled"]) -> None:
        self.cell.state = state
        self.system.empty_out(self.cell, f"{self.name} {state}")
        self.cell.close_device()

    async def _incarnation(self, up: asyncio.Event, over: asyncio.Event, scope: anyio.CancelScope) -> None:
        error: Exception | None = None
        with scope:
            try:
                await self.cell.quiet_device()
                actor = self.cell.new_instance()
                with anyio.fail_after(self.cell.child.start_within):
                    await actor.on_start()
                self.cell.running()
                self.system.publish(ActorStarted(actor=self.name, incarnation=self.cell.incarnation))
                up.set()
                await self._serve()
                await actor.on_stop()
            except Exception as caught:  # noqa: BLE001 - the supervisor is where crashes are caught
                error = caught
        if error is not None:
            self._note_crash(error)
        elif self.cell.mailbox.in_hand is not None:
            # Cancelled with a message in hand: it was not dealt with.
            self.system.dead_letter(self.cell, self.cell.mailbox.in_hand, "cancelled")
            self.cell.mailbox.acknowledge()
        self.cell.ended()
        over.set()
        up.set()
        self.branch.child_ended(self, error, asked=self._asked)

    async def _serve(self) -> None:
        mailbox, cell = self.cell.mailbox, self.cell
        stopping = False
        handled = 0
        while not (stopping and (mailbox.depth == 0 or not cell.child.drain)):
            envelope = await mailbox.next()
            if isinstance(envelope.message, Stop):
                stopping = True
            else:
                await cell.handle(envelope)
            mailbox.acknowledge()
            handled += 1
            if handled % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    def _note_crash(self, error: Exception) -> None:
        """Settle the message in hand by the child's policy, count the crash, tell the observers."""
        cell = self.cell
        envelope = cell.mailbox.in_hand
        now = self.system.clock.monotonic()
        why = "".join(traceback.format_exception(error)).strip()
        error.__traceback__ = None  # it would keep the dead instance, and all it holds, alive
        policy = cell.child.on_crash
        first_time = envelope is None or envelope.attempt == 0
        if self.crashes and now - self.crashes[-1] > cell.child.backoff.healthy:
            self.streak = 0
        self.streak += 1
        if first_time:
            # A second crash over one redelivered message is the same trouble: it is not charged twice.
            self.crashes.append(now)
        chain: tuple[str, ...] = ()
        if envelope is not None:
            chain = self.system.trace.cause_chain(envelope.id)
            cell.record(
                "crashed", envelope.id, envelope.cause, envelope.sender, cell.name, type(envelope.message).__name__,
                envelope.attempt, body=f"{type(error).__name__}: {error}",
            )  # fmt: skip
            if envelope.reply is None and isinstance(policy, Retry) and envelope.attempt < policy.times:
                envelope.attempt += 1
            else:
                self.system.dead_letter(cell, envelope, why)
                cell.mailbox.acknowledge()
        self.system.publish(
            ActorCrashed(
                actor=cell.name,
                incarnation=cell.incarnation,
                message_type=type(envelope.message).__name__ if envelope is not None else "",
                why=why,
                cause_chain=chain,
                restart_in_s=round(self.delay(), 3),
            )
        )

    def delay(self) -> float:
        """The back-off before the next start, with this crash's seeded jitter."""
        backoff = self.cell.child.backoff
        delay = min(backoff.most, backoff.first * 2.0 ** (max(1, self.streak) - 1))
        return delay * self.system.jitter(self.name, self.cell.incarnation)

    def exhausted(self) -> bool:
        """More crashes than the intensity allows within the period?"""
        now = self.system.clock.monotonic()
        while self.crashes and now - self.crashes[0] > self.cell.child.period:
            self.crashes.popleft()
        return len(self.crashes) > self.cell.child.intensity


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
        self._events: asyncio.Queue[_Ended | _RestartDue | None] = asyncio.Queue()
        self._over: asyncio.Event | None = None
        self._stopping = False
        self._for_good = True
        self._due: list[asyncio.TimerHandle] = []

    @property
    def name(self) -> str:
        return self.spec.name

    def cells(self) -> list[Cell]:
        """Every cell below, in start order."""
        found: list[Cell] = []
        for runner in self.runners:
            found += runner.cells() if isinstance(runner, BranchRunner) else [runner.cell]
        return found

    async def start(self) -> None:
        """Start every child in order, then keep watching them in a task of their own."""
        self._stopping = False
        self._over = asyncio.Event()
        for runner in self.runners:
            await runner.start()
        self.system.spawn(self._watch(self._over))

    async def stop(self, *, for_good: bool = True) -> None:
        """Stop every child, last first. Returns when all have ended."""
        self._for_good = for_good
        if self._over is None or self._over.is_set():
            return
        self._stopping = True
        self._events.put_nowait(None)
        await self._over.wait()

    def child_ended(
        self, runner: ChildRunner | BranchRunner, error: BaseException | None, *, asked: bool = False
    ) -> None:
        """Told by a child's last breath; ``asked`` when it was the supervisor that stopped it."""
        self._events.put_nowait(_Ended(runner, error, asked))

    async def _watch(self, over: asyncio.Event) -> None:
        failure: BaseException | None = None
        while not self._stopping and failure is None:
            event = await self._events.get()
            if isinstance(event, _RestartDue):
                for runner in event.runners:
                    await runner.start()
            elif isinstance(event, _Ended) and not self._stopping:
                failure = await self._answer(event)
        for handle in self._due:
            handle.cancel()
        for runner in reversed(self.runners):
            await runner.stop(for_good=self._for_good)
        over.set()
        if failure is not None:
            if self.parent is None:
                self.system.give_up(failure)
            else:
                self.parent.child_ended(self, failure)

    async def _answer(self, ended: _Ended) -> BaseException | None:
        """Restart, disable or escalate; returns what to escalate with."""
        runner, error = ended.runner, ended.error
        if isinstance(runner, BranchRunner):
            return error  # a branch that fails has already used up its own patience
        if ended.asked and error is None:
            return None
        child = runner.cell.child
        if child.restart == "temporary" or (child.restart == "transient" and error is None):
            runner.disable()
            return None
        if isinstance(error, OperatorError):
            # No restart mends what a person must: tell at once instead of failing again and again.
            if not self.spec.isolate:
                return error
            self.system.publish(ActorGaveUp(actor=runner.name, why=str(error), disabled=True))
            runner.disable()
            return None
        if error is not None and runner.exhausted():
            why = f"{len(runner.crashes)} crashes within {child.period:g} s; the last: {error}"
            self.system.publish(ActorGaveUp(actor=runner.name, why=why, disabled=self.spec.isolate))
            if self.spec.isolate:
                runner.disable()
                return None
            return error
        group = self._group(runner)
        for other in reversed(group):
            if other is not runner:
                await other.stop(for_good=False)
        delay = runner.delay()
        for member in group:
            if isinstance(member, ChildRunner):
                member.cell.state = "backing_off"
                member.cell.restarts += 1
        self._due = [handle for handle in self._due if not handle.cancelled()]
        loop = asyncio.get_running_loop()
        self._due.append(loop.call_later(delay, self._events.put_nowait, _RestartDue(tuple(group))))
        return None

    def _group(self, runner: ChildRunner) -> list[ChildRunner | BranchRunner]:
        match self.spec.strategy:
            case "one_for_one":
                return [runner]
            case "one_for_all":
                return list(self.runners)
            case "rest_for_one":
                return self.runners[self.runners.index(runner) :]
