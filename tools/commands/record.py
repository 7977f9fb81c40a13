"""``nightfold trace HOME record``: is the trace written to disk, and shall it be from now on?

The living daemon is asked over its control socket; it alone writes. How it begins is said by ``[status_reporter]
trace_on_disk``, and a switch lasts until it ends.
"""

from __future__ import annotations

from pathlib import Path

from runtime.control_socket import Unreachable
from runtime.control_socket import record as asked
from runtime.errors import EXIT_DONE, EXIT_FAILED, OperatorError
from runtime.home_lock import living_pid

TRACE = "status/trace"
WISHES = {None: None, "on": True, "off": False}


def record(home: Path, wish: str | None) -> int:
    """Tell what holds now, after switching it if ``wish`` is ``on`` or ``off``.

    Raises:
        OperatorError: NF-CONF-005 no daemon lives to be switched, NF-RUN-011 it does not answer.
    """
    if wish not in WISHES:
        raise OperatorError(
            "NF-CONF-011", f"record is on or off, and not {wish!r}", hint=f"nightfold trace {home} record on"
        )
    if living_pid(home) is None:
        return _without_a_daemon(home, wish)
    try:
        now = asked(home, WISHES[wish])
    except Unreachable as why:
        raise OperatorError(
            "NF-RUN-011",
            f"the daemon does not answer on {home / '.control'}: {why}",
            hint="it goes on as before; [status_reporter] trace_on_disk says how it begins at its next start",
            exit_code=EXIT_FAILED,
        ) from why
    word = "" if now["on"] != now["was"] or wish is None else " already"
    if now["on"]:
        size = _size(home) or "nothing yet"
        print(f"on{word or (' now' if wish else '')}: the trace is written to {home / TRACE} ({size})")
        if now.get("trouble"):
            print(f"  ! the disk refuses: {now['trouble']}. It is tried again; memory keeps the newest")
    else:
        print(f"off{word or (' now' if wish else '')}: the trace is kept in memory only; nightfold trace {home} tail")
        if left := _size(home):
            print(f"  what was written before stays in {home / TRACE} ({left})")
    return EXIT_DONE


def _without_a_daemon(home: Path, wish: str | None) -> int:
    if wish is not None:
        raise OperatorError(
            "NF-CONF-005",
            "no daemon is running on this home, and the daemon is what writes the trace",
            hint=f"how it begins is said by [status_reporter] trace_on_disk; start it with: nightfold run {home}",
            exit_code=EXIT_FAILED,
        )
    from actors.status_reporter.actor import StatusReporterSettings
    from tools.house import read_config

    begins = read_config(home).take("status_reporter", StatusReporterSettings).trace_on_disk
    print(f"no daemon is running; the next one begins with it {'on' if begins else 'off'} (trace_on_disk)")
    return EXIT_DONE


def _size(home: Path) -> str:
    files = [path.stat().st_size for path in (home / TRACE).glob("*.trace")]
    if not files:
        return ""
    return f"{len(files)} file{'s' if len(files) > 1 else ''}, {sum(files) / 1000:,.0f} kB"
