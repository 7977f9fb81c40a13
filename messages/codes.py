"""Every code a person can meet, and what ``nightfold explain CODE`` says about it.

Codes are stable: a meaning never changes and a number is never used again.
"""

from __future__ import annotations

import msgspec


class Explanation(msgspec.Struct, frozen=True):
    """What a code means. ``safe`` says what happened to the person's data; ``action`` what to do now."""

    title: str
    meaning: str
    safe: str
    action: str


# Bad data: found before any GPU time is spent. The file goes to rejected/ beside its report.
DATA: dict[str, Explanation] = {}

# Config, command line and home.
CONF: dict[str, Explanation] = {
    "NF-CONF-001": Explanation(
        "The config is not right",
        "nightfold.toml is not TOML, or has a key or section that nobody knows, or a value of the wrong type or out of "
        "its range. Every finding is listed at once, with its line.",
        "Nothing was started and nothing was changed.",
        "Mend the lines that are named and start again; `nightfold doctor HOME` checks the file without starting.",
    ),
    "NF-CONF-002": Explanation(
        "This folder is not a home",
        "A home is a folder with a nightfold.toml in it. This one has none, or does not exist.",
        "Nothing was changed.",
        "Check the path you typed, or make a home there: nightfold init HOME --model PATH-OR-ID (or --tiny).",
    ),
    "NF-CONF-003": Explanation(
        "The file cannot be submitted",
        "Only regular files named *.jsonl that you may read are taken, and none whose name begins with a dot.",
        "The file was not touched and none of the files named beside it was copied.",
        "Check the path, or give the file a name like data.jsonl; `nightfold check FILE` tells if its lines are right.",
    ),
    "NF-CONF-004": Explanation(
        "No such file to try again",
        "retry takes the names of files that lie in failed/ or rejected/. There is none of that name, or there are two, "
        "or one of that name waits in the inbox already.",
        "Every file is where it was.",
        "Look into failed/ and rejected/, name the file as it is called there, or as failed/NAME to say which.",
    ),
    "NF-CONF-005": Explanation(
        "No daemon is running on this home",
        "What you asked for is done by the daemon, and none lives on this home.",
        "Nothing was changed.",
        "Start it with `nightfold run HOME` and ask again.",
    ),
    "NF-CONF-006": Explanation(
        "The home cannot be locked",
        "The daemon holds a lock on state/LOCK so that there is never a second one. The file system refused it: no "
        "permission, read-only, or without flock.",
        "Nothing was started and nothing was changed.",
        "Give yourself write permission, or move the home to a local file system.",
    ),
    "NF-CONF-007": Explanation(
        "No such code",
        "explain knows the codes that Nightfold prints, like NF-DATA-001.",
        "Nothing was changed.",
        "`nightfold explain` without a code lists them all.",
    ),
    "NF-CONF-008": Explanation(
        "The daemon has not done it yet",
        "The wish was put down for the daemon, but it did not take effect while the command waited, or the daemon ended. "
        "A step in hand is always finished first, and a long one takes its time.",
        "Nothing is lost; the wish stays in force and is followed as soon as the daemon looks.",
        "Look at `nightfold status HOME`, or wait longer with --wait SECONDS.",
    ),
    "NF-CONF-009": Explanation(
        "The model in force cannot be found",
        "generate reads state/HEAD and loads the model and the adapter that it names. HEAD cannot be read, or a folder "
        "that it names is not there.",
        "Nothing was changed; generate only reads.",
        "Run `nightfold doctor HOME`; the daemon repairs what can be repaired when it starts.",
    ),
    "NF-CONF-010": Explanation(
        "The file could not be put into the inbox",
        "Copying stopped at an error of the file system: no space, no permission, or no such folder.",
        "Your file is untouched, and no part of it was left in the inbox.",
        "Make room or mend the permission, then submit it again.",
    ),
}

# Disk space and I/O.
DISK: dict[str, Explanation] = {}

# The base model and its tokenizer.
MODEL: dict[str, Explanation] = {}

# Training.
TRAIN: dict[str, Explanation] = {}

# Nights: merging and verifying.
MERGE: dict[str, Explanation] = {}

# What lies under state/.
STATE: dict[str, Explanation] = {
    "NF-STATE-001": Explanation(
        "Another daemon lives on this home",
        "A home belongs to one daemon at a time, and the kernel says that the one named is alive and holds the lock.",
        "Nothing was started and nothing was changed.",
        "Stop it with `nightfold stop HOME`, or use another home. A lock left by a dead process never causes this.",
    ),
}

# The actor runtime and its plug-ins.
RUN: dict[str, Explanation] = {}

CODES: dict[str, Explanation] = {**DATA, **CONF, **DISK, **MODEL, **TRAIN, **MERGE, **STATE, **RUN}
