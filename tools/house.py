"""The house as one value: which actors live in it, in which order, with which settings and policies.

The daemon and the simulation build the same tree; only what stands behind the engine, the merger and the doors differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from actors.checkpointer.actor import Checkpointer, CheckpointerSettings
from actors.consolidator.actor import Consolidator, ConsolidatorSettings
from actors.consolidator.merger import Merger
from actors.disk_guard.actor import DiskGuard, DiskGuardSettings
from actors.disk_guard.forecast import Keeps
from actors.inbox_watcher.actor import InboxWatcher, InboxWatcherSettings
from actors.status_reporter.actor import Console, SilentConsole, StatusReporter, StatusReporterSettings
from actors.trainer.actor import Trainer
from actors.trainer.engine import Engine
from actors.trainer.settings import TrainerSettings
from actors.validator.actor import Validator
from actors.validator.settings import ValidatorSettings
from messages import DiskMeasured, InboxSurveyed, TrainingProgress
from runtime import Branch, Child, MailboxSpec, OperatorError, Retry
from runtime.errors import EXIT_CONFIG
from runtime.plugin_files import located
from runtime.plugins import check_plugins, plugin_branch
from runtime.settings import Composed, compose
from runtime.watchdog import WatchdogSettings

CONFIG = "nightfold.toml"

SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "trainer": TrainerSettings,
    "inbox_watcher": InboxWatcherSettings,
    "validator": ValidatorSettings,
    "checkpointer": CheckpointerSettings,
    "consolidator": ConsolidatorSettings,
    "disk_guard": DiskGuardSettings,
    "status_reporter": StatusReporterSettings,
    "watchdog": WatchdogSettings,
}


@dataclass(frozen=True)
class Parts:
    """What stands behind the ports. Factories, so that each incarnation gets a fresh one.

    ``pid`` is whom the status page names; ``None``: this process.
    """

    engine: Callable[[], Engine]
    merger: Callable[[], Merger]
    console: Console
    pid: int | None = None


def read_config(home: Path) -> Composed:
    """The home's config, composed and checked; plug-ins that are files are found in the home.

    Raises:
        OperatorError: NF-CONF-002 not a home; NF-CONF-001 every problem in the file; NF-RUN-001 a file plug-in that is
            not in its place.
    """
    path = home / CONFIG
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise OperatorError(
            "NF-CONF-002",
            f"{home} is not a home: it has no {CONFIG}",
            hint=f"nightfold init {home} --tiny   makes one",
            exit_code=EXIT_CONFIG,
        ) from None
    config = compose(text, SECTIONS, file=str(path))
    return msgspec.structs.replace(config, plugins=located(config.plugins, home.absolute()))


def default_config() -> Composed:
    """Every section at its defaults."""
    return compose("", SECTIONS, file="defaults")


def house(config: Composed, parts: Parts, *, extra: tuple[Child, ...] = ()) -> Branch:
    """The tree. Order is start order: who answers comes before who asks; the watchers come first and leave last.

    Raises:
        OperatorError: NF-RUN-001, NF-RUN-002, NF-CONF-001: a plug-in cannot be loaded, or cannot work here.
    """
    take = config.take
    checkpoints = take("checkpointer", CheckpointerSettings)
    tree = Branch(
        "nightfold",
        (
            Child(
                "status_reporter",
                StatusReporter,
                make=lambda: StatusReporter(parts.console, parts.pid),
                settings=take("status_reporter", StatusReporterSettings),
                mailbox=MailboxSpec(4096, "dead_letter", (TrainingProgress, DiskMeasured, InboxSurveyed)),
                stop_within=10.0,
            ),
            Child(
                "disk_guard",
                DiskGuard,
                make=lambda: DiskGuard(
                    Keeps(checkpoints.keep_generations, checkpoints.keep_nights),
                    reserve_bytes=checkpoints.reserve_bytes,
                    base_bytes=lambda: parts.merger().forecast_bytes(),
                ),
                settings=take("disk_guard", DiskGuardSettings),
            ),
            Child(
                "checkpointer",
                Checkpointer,
                settings=checkpoints,
                on_crash=Retry(1),
                # A commit over which it crashed is asked for again after a while, so its crashes come slowly.
                period=900.0,
                start_within=600.0,
                stop_within=120.0,
            ),
            Child(
                "trainer",
                Trainer,
                make=lambda: Trainer(parts.engine),
                settings=take("trainer", TrainerSettings),
                start_within=600.0,
                stop_within=300.0,
                drain=False,
            ),
            Child(
                "validator",
                Validator,
                settings=take("validator", ValidatorSettings),
                on_crash=Retry(1),
                drain=False,
            ),
            Child(
                "inbox_watcher",
                InboxWatcher,
                settings=take("inbox_watcher", InboxWatcherSettings),
                on_crash=Retry(1),
                drain=False,
            ),
            Child(
                "consolidator",
                Consolidator,
                make=lambda: Consolidator(parts.merger),
                settings=take("consolidator", ConsolidatorSettings),
                # A merge in its child process is given up at once: the night runs again, and a stop must not wait.
                stop_within=1.0,
                start_within=300.0,
                drain=False,
            ),
            *extra,
            plugin_branch(config.plugins),
        ),
    )
    check_plugins(tree)
    return tree


def silent_parts(engine: Callable[[], Engine], merger: Callable[[], Merger], *, pid: int | None = None) -> Parts:
    """Parts for a house that nobody watches."""
    return Parts(engine=engine, merger=merger, console=SilentConsole(), pid=pid)
