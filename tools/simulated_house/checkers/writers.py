"""Each file has one writer: what lies in a home is changed by the actor that owns it, and by no other."""

from __future__ import annotations

from runtime.simulation.trial import Moment, Trial, Violation

OWNERS: tuple[tuple[str, str], ...] = (
    ("inbox", "inbox_watcher"),
    ("state/batches", "inbox_watcher"),
    ("trained", "inbox_watcher"),
    ("rejected", "inbox_watcher"),
    ("failed", "inbox_watcher"),
    ("state", "checkpointer"),
    ("snapshots", "checkpointer"),
    ("current_model", "checkpointer"),
    ("consolidated_models", "consolidator"),
    ("status", "status_reporter"),
)
"""Who owns what, the more special first."""
MAKES_ITS_FOLDER = ("checkpointer", "state/batches")
"""At the first start the Checkpointer makes the folders below ``state/``, also the one it never writes into."""


def owner_of(path: str) -> str:
    """The one actor that may change this path; ``""``: a person's alone."""
    return next((owner for folder, owner in OWNERS if path == folder or path.startswith(f"{folder}/")), "")


class OneWriterPerFile:
    """Asked whenever an actor does something for the first time in one kind of place."""

    promise = "one writer per file"
    when: tuple[Moment, ...] = ("write",)

    def check(self, trial: Trial) -> None:
        actor, operation, paths = trial.writing
        for path in paths.split(" -> "):
            # A hidden name lies beside what it is for; syncing a folder changes nothing in it.
            if operation == "fsync_dir" or (actor, path) == MAKES_ITS_FOLDER:
                continue
            owner = "checkpointer" if path.startswith(".") and path.endswith(".tmp") else owner_of(path)
            if owner != actor:
                raise Violation(f"{actor or 'nobody'} did {operation} {path}, which belongs to {owner or 'people'}")
