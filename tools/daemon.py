"""The daemon: takes the home's lock, builds the house on the real machine, runs it until it is told to stop.

A person speaks to it through plain files in the home (``.stop``, ``.pause``, ``.consolidate``) and through signals, and
looks into it over its control socket. It takes files before torch is loaded, for torch is imported in the Trainer's
thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from actors.consolidator.actor import ConsolidatorSettings
from actors.consolidator.merger import Merger
from actors.consolidator.process_merger import ProcessMerger
from actors.trainer.engine import Engine
from actors.trainer.settings import TrainerSettings
from messages import (
    BatchFailed,
    BatchRejected,
    BatchStarted,
    ConsolidateNow,
    InboxChanged,
    InboxSurveyed,
    PauseTraining,
    RecordTrace,
    ResumeTraining,
    TraceRecording,
    TrainingIdle,
)
from runtime import Actor, ActorSystem, Child, GaveUp, MailboxSpec, on
from runtime.clock import SystemClock
from runtime.control_server import ControlServer
from runtime.disk import Disk
from runtime.errors import EXIT_DONE, EXIT_GAVE_UP, EXIT_SOME_REJECTED
from runtime.home_lock import HomeLock
from runtime.plugin_files import unused_files
from runtime.plugin_manners import WorkersApart
from runtime.settings import Composed
from runtime.watchdog import Watchdog, WatchdogSettings
from runtime.worker import DeviceThread, ThreadWorkers
from tools.house import Parts, house, read_config
from tools.inbox_wake import wake_on_changes
from tools.terminal import Terminal
from tools.wishes import RECORD_WITHIN_SECONDS, pin_wish, record_wish

LOOK_SECONDS = 0.5
"""How often the control files are looked at."""
SWITCH_INTERVAL_SECONDS = 0.0005
"""The interpreter's thread switch interval: at the default 5 ms a training thread can starve the loop for a second."""


class LastOneOut(Actor):
    """Counts what was not trained and, if asked to, turns off the light when nothing is left to do."""

    sends = ()

    def __init__(self, until_idle: bool) -> None:
        self._until_idle = until_idle
        self._inbox_empty = False
        self._training_idle = False
        # Not in on_start, which a stop in the first moments may never let happen: the daemon asks for it all the same.
        self.not_trained = 0

    @on
    async def surveyed(self, inbox: InboxSurveyed) -> None:
        """Every file that was dropped has its outcome when nothing waits and nothing is claimed."""
        self._inbox_empty = not (inbox.waiting_count or inbox.unready or inbox.claimed)
        self._leave_if_done()

    @on
    async def idle(self, _: TrainingIdle) -> None:
        """The Trainer has nothing in hand."""
        self._training_idle = True
        self._leave_if_done()

    @on
    async def started(self, _: BatchStarted) -> None:
        """It has."""
        self._training_idle = False

    @on
    async def not_learnt(self, _: BatchRejected | BatchFailed) -> None:
        """For the exit code."""
        self.not_trained += 1

    def _leave_if_done(self) -> None:
        if self._until_idle and self._inbox_empty and self._training_idle:
            self.system.stop("everything is trained")


def run(home: Path, until_idle: bool, make_disk: Callable[[Path], Disk] = Disk) -> int:
    """Run the daemon in the foreground; returns the exit code. ``make_disk`` makes what its files are reached through.

    Raises:
        OperatorError: bad config (78), the home is locked (75), or something only a person can mend.
    """
    home = home.resolve()
    config = read_config(home)
    console = Terminal()
    with HomeLock(home):
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        if (home / ".stop").exists():
            (home / ".stop").unlink()
            console.line("noted      a stale .stop was removed")
        return asyncio.run(_Daemon(home, config, console, until_idle, make_disk(home)).run())


class _Daemon:
    """One run of the house on one home."""

    def __init__(self, home: Path, config: Composed, console: Terminal, until_idle: bool, disk: Disk) -> None:
        self._home = home
        self._config = config
        self._console = console
        self._disk = disk
        self._until_idle = until_idle
        self._last = LastOneOut(until_idle)
        self._record_wish: tuple[bool, int] | None = None

    async def run(self) -> int:
        parts = Parts(engine=self._engine, merger=self._merger, console=self._console)
        last = Child(
            "last_one_out",
            LastOneOut,
            make=lambda: self._last,
            mailbox=MailboxSpec(4096, "dead_letter", (InboxSurveyed,)),
        )
        workers = WorkersApart(ThreadWorkers())
        system = ActorSystem(
            house(self._config, parts, extra=(last,)),
            clock=SystemClock(),
            disk=self._disk,
            workers=workers,
            make_device=DeviceThread,
        )
        watchdog = Watchdog(self._config.take("watchdog", WatchdogSettings), system)
        loop = asyncio.get_running_loop()
        for wish in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(wish, system.stop, signal.Signals(wish).name)
        watchdog.start()
        self._console.line(f"up         {self._home}: drop *.jsonl into inbox/, Ctrl-C stops")
        for file in unused_files(self._config.plugins, self._home):
            self._console.line(f"noted      {file} is not run: no [plugins.NAME] section names it")
        control = ControlServer(
            self._home, system, (record_wish(lambda on: self._record(system, on)), pin_wish(system.ask))
        )
        async with control, _alongside(self._look_at_wishes(system), self._wake(system)):
            if control.trouble:
                self._console.line(
                    f"noted      no control socket, so ps and trace show what is on disk: {control.trouble}"
                )
            try:
                await system.run()
            except GaveUp as gave_up:
                sys.stderr.write(f"nightfold: NF-RUN-003: the daemon gives up: {gave_up.report}\n")
                return EXIT_GAVE_UP
            finally:
                watchdog.close()
                workers.close()
        self._console.line(f"stopped    {system.stop_reason}")
        return EXIT_SOME_REJECTED if self._until_idle and self._last.not_trained else EXIT_DONE

    def _engine(self) -> Engine:
        # Imported here, not above: status and the file actors are up seconds before torch is.
        from actors.trainer.torch_engine import TorchEngine

        return TorchEngine(self._disk, self._config.take("trainer", TrainerSettings))

    def _merger(self) -> Merger:
        settings = self._config.take("consolidator", ConsolidatorSettings)
        return ProcessMerger(self._disk, self._pristine_base, settings.timeout_seconds)

    def _pristine_base(self) -> Path:
        from actors.trainer.base_model import base_folder

        return base_folder(self._disk, self._config.take("trainer", TrainerSettings).model)

    async def _wake(self, system: ActorSystem) -> None:
        await wake_on_changes(self._home / "inbox", lambda: system.send(InboxChanged()))

    async def _record(self, system: ActorSystem, on: bool | None) -> TraceRecording:
        """Asked over the control socket."""
        if on is not None:
            self._record_wish = (on, system.cells["status_reporter"].incarnation)
        return await system.ask(RecordTrace(on=on), timeout=RECORD_WITHIN_SECONDS)

    async def _look_at_wishes(self, system: ActorSystem) -> None:
        """``.stop`` ends, ``.pause`` holds while it exists, ``.consolidate`` asks for a night."""
        told: tuple[bool, int] = (False, 0)
        while True:
            if (self._home / ".stop").exists():
                (self._home / ".stop").unlink(missing_ok=True)
                system.stop(".stop")
            if (self._home / ".consolidate").exists():
                (self._home / ".consolidate").unlink(missing_ok=True)
                await system.send(ConsolidateNow())
            # A Trainer that was started anew does not know that it is to hold.
            wish = ((self._home / ".pause").exists(), system.cells["trainer"].incarnation)
            if wish[0] != told[0] or (wish[0] and wish != told):
                await system.send(PauseTraining() if wish[0] else ResumeTraining())
            told = wish
            reporter = system.cells["status_reporter"].incarnation
            if self._record_wish is not None and self._record_wish[1] != reporter:
                # Nor does a StatusReporter know that the trace was switched on or off since the start.
                self._record_wish = (self._record_wish[0], reporter)
                await system.send(RecordTrace(on=self._record_wish[0]))
            await asyncio.sleep(LOOK_SECONDS)


@contextlib.asynccontextmanager
async def _alongside(*chores: Coroutine[Any, Any, None]) -> Any:
    """Run chores while the body runs; the body's own exceptions come through unwrapped."""
    tasks = [asyncio.create_task(chore) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
