"""What protects restarts (rows r1 to r6), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

STORE = "actors/checkpointer/store.py"
TRAINER = "actors/trainer/actor.py"
WATCHER = "actors/inbox_watcher/actor.py"
TORCH = "actors/trainer/torch_engine.py"
DAEMON = "tools/daemon.py"
LOCK = "runtime/home_lock.py"
SETTINGS = "runtime/settings.py"

REMOVALS = (
    gone(
        "r1",
        "a HEAD that cannot be read is rebuilt",
        (
            STORE,
            "except msgspec.MsgspecError as error:\n            damage",
            "except ZeroDivisionError as error:\n            damage",
        ),
        tests="r1_a_damaged_head",
    ),
    gone("r1", "HEAD is compared with its seal", (STORE, "if not seal_holds(raw):", "if False:"), tests="turned_bit"),
    gone(
        "r1",
        "a start announces what was claimed before",
        (WATCHER, "await self._announce()\n        await self.scan()", "await self.scan()"),
        tests="r1_a_restart",
    ),
    gone(
        "r1",
        "a file that was committed is not trained again",
        (TRAINER, "if batch.batch not in committed and await", "if await"),
        tests="while_the_engine_loads",
    ),
    gone(
        "r2",
        "a snapshot takes over where no generation is sound",
        (STORE, "        if not sound:\n", "        if False:\n"),
        tests="the_newest_snapshot the_snapshot_is r2_a_damaged",
    ),
    gone(
        "r2",
        "a lost HEAD is no new home",
        (STORE, "elif damage or self._anything_committed():", "elif damage:"),
        tests="r2_a_lost",
    ),
    gone("r3", "a stale .stop is removed", (DAEMON, '            (home / ".stop").unlink()\n', ""), tests="r3_"),
    gone(
        "r4",
        "a home that is locked is refused",
        (LOCK, "if _lock(handle, fcntl.LOCK_EX) and _is_still(path, handle):", "if True:"),
        tests="r4_",
    ),
    gone(
        "r5",
        "all that is wrong with a config is told at once",
        (SETTINGS, "what = found[0] if len(found) == 1 else", "what = found[0] if found else"),
        tests="r5_",
    ),
    gone(
        "r6",
        "no path of this machine lies in the state",
        (TORCH, "    return path.relative_to(home)", "    return str(home / name)\n    return path.relative_to(home)"),
        tests="r6_",
    ),
)
