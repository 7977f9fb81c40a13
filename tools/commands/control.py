"""``nightfold pause``, ``resume``, ``stop`` and ``consolidate``: a wish left as a plain file, and what came of it.

The daemon looks for the files twice a second. A file needs no port and no signal, works over any file
system and any container's wall, and can be made with ``touch``. Each command waits until the wish took
effect and says what happened; it never says that something is so because it was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime.errors import EXIT_FAILED, OperatorError
from runtime.home_lock import living_pid
from tools.commands.home import read_status, require_home

STOP = ".stop"
PAUSE = ".pause"
CONSOLIDATE = ".consolidate"

_LOOK_EVERY_S = 0.1
# After the daemon took the wish for a night, this long without a sign of one means that it waits for
# something.
_NIGHT_BEGINS_WITHIN_S = 5.0


def pause(home: Path, wait_s: float) -> int:
    """Hold training after the step in hand, through restarts, until ``resume``."""
    require_home(home)
    (home / PAUSE).touch()
    pid = living_pid(home)
    if pid is None:
        print("no daemon is running: it takes effect at the next start")
        return 0
    return _follow(home, pid, wait_s, "paused", lambda status: bool(status["state"] == "paused"), "pause")


def resume(home: Path, wait_s: float) -> int:
    """Let training go on."""
    require_home(home)
    was_paused = (home / PAUSE).exists()
    (home / PAUSE).unlink(missing_ok=True)
    pid = living_pid(home)
    if pid is None:
        print("no daemon is running: it will train at the next start" if was_paused else "it was not paused")
        return 0
    if not was_paused and read_status(home)["state"] != "paused":
        print("it was not paused")
        return 0
    return _follow(home, pid, wait_s, "resumed", lambda status: bool(status["state"] != "paused"), "resume")


def stop(home: Path, wait_s: float) -> int:
    """Finish the step in hand, checkpoint, exit."""
    require_home(home)
    pid = living_pid(home)
    if pid is None:
        print("not running")
        return 0
    (home / STOP).touch()
    for _ in _looks(wait_s):
        now = living_pid(home)
        if now is None:
            state = read_status(home)
            if state["state"] == "crashed":
                raise OperatorError(
                    "NF-CONF-008",
                    f"the daemon (pid {pid}) ended, but not in order: {state['reason']}",
                    hint=f"what was committed is safe, and the next start repairs the rest: nightfold run {home}",
                    exit_code=EXIT_FAILED,
                )
            print(f"stopped (pid {pid}) at step {state['global_step']}, generation {state['generation']}")
            return 0
        if now != pid:
            print(f"stopped (pid {pid}); something has started it again as pid {now}")
            return 0
    return _asked(home, wait_s, "stop", "the daemon has not ended")


def consolidate(home: Path, wait_s: float) -> int:
    """Fold the adapter in now, as soon as nothing trains, without waiting for the night."""
    require_home(home)
    pid = living_pid(home)
    if pid is None:
        raise OperatorError(
            "NF-CONF-005",
            "no daemon is running on this home, and the daemon is what consolidates",
            hint=f"start it with: nightfold run {home}",
            exit_code=EXIT_FAILED,
        )
    before = read_status(home)
    (home / CONSOLIDATE).touch()
    began = False
    taken_looks = 0
    status = before
    for _ in _looks(wait_s):
        if living_pid(home) != pid:
            raise _ended(home, pid, "consolidate")
        status = read_status(home)
        if status["last_consolidation"] != before["last_consolidation"]:
            print(f"consolidated: {_night(status['last_consolidation'])}")
            return 0
        began = began or status["state"] == "consolidating"
        taken_looks += not (home / CONSOLIDATE).exists()
        if _refused(before, status) or (began and status["state"] != "consolidating"):
            error = status["last_error"] or {}
            raise OperatorError(
                str(error.get("code", "NF-CONF-008")),
                f"the night did not happen: {error.get('message', 'the daemon gave no reason')}",
                hint=str(error.get("hint") or "yesterday's model stays in force, and the adapter is kept"),
                exit_code=EXIT_FAILED,
            )
        if not began and taken_looks * _LOOK_EVERY_S > _NIGHT_BEGINS_WITHIN_S:
            break
    if began:
        print(f"the night is under way; see nightfold status {home}")
        return 0
    if taken_looks:
        print(
            f"asked for; it is {status['state']} now. The night begins when nothing trains or waits, and if "
            f"there is something to fold in; see nightfold status {home}"
        )
        return 0
    return _asked(home, wait_s, "consolidate", "the daemon has not looked yet")


def _follow(home: Path, pid: int, wait_s: float, done: str, holds: Callable[[dict[str, Any]], bool], wish: str) -> int:
    for _ in _looks(wait_s):
        if living_pid(home) != pid:
            raise _ended(home, pid, wish)
        status = read_status(home)
        if status["reason"] != "starting" and holds(status):
            print(f"{done} at step {status['global_step']}, generation {status['generation']}")
            return 0
    return _asked(home, wait_s, wish, f"the daemon is not {done} yet, it is {read_status(home)['state']}")


def _looks(wait_s: float) -> Iterator[None]:
    """One turn right away and one every tenth of a second, for ``wait_s``; none if there is no waiting at all."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        yield
        time.sleep(_LOOK_EVERY_S)


def _asked(home: Path, wait_s: float, wish: str, so_far: str) -> int:
    if wait_s <= 0:
        print(f"asked to {wish}; see nightfold status {home}")
        return 0
    raise OperatorError(
        "NF-CONF-008",
        f"asked to {wish}, but after {wait_s:g} s {so_far}",
        hint=f"it finishes the step in hand first; look at nightfold status {home}, or give it longer with --wait",
        exit_code=EXIT_FAILED,
    )


def _ended(home: Path, pid: int, wish: str) -> OperatorError:
    return OperatorError(
        "NF-CONF-008",
        f"the daemon (pid {pid}) ended before it could {wish}",
        hint=f"the wish is kept for the next start: nightfold run {home}",
        exit_code=EXIT_FAILED,
    )


def _refused(before: dict[str, Any], status: dict[str, Any]) -> bool:
    error = status["last_error"]
    if not isinstance(error, dict) or error == before["last_error"]:
        return False
    # A night may be refused for want of space too; the message says whose trouble it is.
    return str(error.get("code", "")).startswith("NF-MERGE-") or str(error.get("message", "")).startswith("night ")


def _night(last: object) -> str:
    if isinstance(last, dict):
        return ", ".join(f"{key} {value}" for key, value in last.items() if value not in (None, ""))
    return str(last)
