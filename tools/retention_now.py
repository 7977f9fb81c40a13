"""What retention says of a home at this moment: the policies of those who delete, asked about the disk as it is.

Only looks. A living daemon goes on meanwhile, so whoever calls must bear an ``OSError`` over what has just gone.
"""

from __future__ import annotations

from pathlib import Path

from actors.checkpointer.actor import CheckpointerSettings, store_as_configured
from actors.checkpointer.head import Head
from actors.checkpointer.retention import Verdict
from actors.inbox_watcher.actor import InboxWatcherSettings
from actors.inbox_watcher.upkeep import TrainedFile, judged
from runtime.disk import Disk
from runtime.settings import Composed


def verdicts(home: Path, config: Composed, head: Head | None) -> tuple[Verdict, ...]:
    """Of what the Checkpointer and the Consolidator own, everything measured."""
    store = store_as_configured(Disk(home), config.take("checkpointer", CheckpointerSettings))
    store.head = head
    return store.verdicts(measure=True)


def trained_files(home: Path, config: Composed) -> tuple[tuple[TrainedFile, bool, str], ...]:
    """Of what the InboxWatcher may delete: each file, does it stay, and why."""
    settings = config.take("inbox_watcher", InboxWatcherSettings)
    return judged(Disk(home), settings.keep_trained_files, settings.trained_bytes_max)
