"""``nightfold history HOME --pin TARGET`` and ``--unpin TARGET``: what must stay, whatever the bounds say.

A target is a generation's number, a night's name or a snapshot's date. A living daemon is asked over its control
socket, for it alone writes HEAD then; without one, HEAD is replaced here, under the home's lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime import control_socket
from runtime.control_socket import Unreachable
from runtime.disk import Disk
from runtime.errors import EXIT_DISK, EXIT_DONE, EXIT_FAILED, EXIT_USAGE, OperatorError
from runtime.home_lock import HomeLock, living_pid
from tools.commands.home import require_home, shown

ANSWER_WITHIN_SECONDS = 110.0
EXITS = {"NF-STATE-003": EXIT_USAGE, "NF-DISK-003": EXIT_DISK}


def pin(home: Path, target: str, *, pinned: bool) -> int:
    """Pin or unpin ``target``.

    Raises:
        OperatorError: NF-STATE-003 it is not kept, or not sound; NF-DISK-003 the disk refused; NF-RUN-011 the daemon
            does not answer.
    """
    require_home(home)
    answer = _asked(home, target, pinned=pinned) if living_pid(home) is not None else _done(home, target, pinned=pinned)
    if "code" in answer:
        code = str(answer["code"])
        raise OperatorError(
            code,
            str(answer["why"]),
            hint=str(answer["hint"]).replace("HOME", str(home)),
            exit_code=EXITS.get(code, EXIT_FAILED),
        )
    already = "" if answer["was"] != answer["pinned"] else " already"
    what = f"{answer['kind']} {shown(answer['target'])}"
    if answer["pinned"]:
        print(f"pinned{already}: {what} stays until it is unpinned")
    elif already:
        print(f"{what} is not pinned")
    else:
        print(f"unpinned: {what} is left to retention; nightfold doctor {home} --what-would-be-deleted tells what goes")
    return EXIT_DONE


def _asked(home: Path, target: str, *, pinned: bool) -> dict[str, Any]:
    request = {"request": "pin", "target": target, "pinned": pinned}
    try:
        return control_socket.ask(home, request, within=ANSWER_WITHIN_SECONDS)
    except Unreachable as why:
        raise OperatorError(
            "NF-RUN-011",
            f"the daemon does not answer on {home / control_socket.SOCKET}: {why}",
            hint=f"it may do it yet: nightfold history {home} shows what is pinned. Or stop the daemon and ask again",
            exit_code=EXIT_FAILED,
        ) from why


def _done(home: Path, target: str, *, pinned: bool) -> dict[str, Any]:
    # Imported here: asking a daemon takes none of it.
    import msgspec

    from actors.checkpointer.actor import CheckpointerSettings, store_as_configured
    from actors.checkpointer.pinning import pin as pin_in
    from tools.house import read_config

    settings = read_config(home).take("checkpointer", CheckpointerSettings)
    with HomeLock(home):
        store = store_as_configured(Disk(home), settings)
        try:
            for what, why, instead in store.open().damage:
                print(f"damage: {what}: {why}" + (f"; in its place: {instead}" if instead else ""))
        except OSError as error:
            return {"code": "NF-DISK-003", "why": f"the disk refused: {error}", "hint": "mend the disk and ask again"}
        return dict(msgspec.to_builtins(pin_in(store, target, pinned=pinned)))
