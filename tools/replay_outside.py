"""What an actor does past its own doors while it is replayed, seen by an audit hook of the interpreter.

What only looks (a file that is read, a folder that is listed) is done again and noted. What would change something, or
speak with somebody, is refused: a replay changes nothing. What no hook can see is done again unnoticed: chance, the
environment, and clocks other than ``self.clock``.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
LOOKS = ("os.listdir", "os.scandir", "os.walk", "glob.glob")
DEEDS = (
    *(f"os.{name}" for name in ("chmod", "chown", "link", "mkdir", "putenv", "remove", "rename", "rmdir", "symlink")),
    *(f"os.{name}" for name in ("truncate", "unsetenv", "utime", "system", "exec", "fork", "posix_spawn", "kill")),
    *(f"socket.{name}" for name in ("bind", "connect", "getaddrinfo", "sendmsg", "sendto")),
    *("subprocess.Popen", "sqlite3.connect", "urllib.Request", "shutil.rmtree", "signal.pthread_kill"),
)
WATCHED = frozenset(("open", *LOOKS, *DEEDS))
SOURCE = ".py"
"""A traceback reads it to show its lines."""
IMPORTS = "<frozen importlib"
"""An import looks, reads and writes as it pleases: whether a module is imported already is nobody's business."""


class _Watch:
    """Who looks at present, if anyone. The hook itself can never be taken away again."""

    thread = 0
    looked: Callable[[str], None]
    refuse: Callable[[str], NoReturn]
    installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _Watch.thread != threading.get_ident() or event not in WATCHED:
        return
    if sys._getframe(1).f_code.co_filename.startswith(IMPORTS):
        return
    if event == "open":
        path, mode, flags = arguments
        name = os.fsdecode(path) if isinstance(path, str | bytes) else str(path)
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITES):
            _Watch.refuse(f"what writing to {name} gave")
        if not name.endswith(SOURCE):
            _Watch.looked(f"read {name}")
    elif event in DEEDS:
        _Watch.refuse(f"what {event}{_few(arguments)} gave")
    else:
        _Watch.looked(f"looked with {event}{_few(arguments)}")


def _few(arguments: tuple[Any, ...]) -> str:
    words = ", ".join(repr(one) for one in arguments if isinstance(one, str | bytes | int | tuple))
    return f"({words if len(words) < 100 else words[:100] + '…'})"


@contextmanager
def watched(looked: Callable[[str], None], refuse: Callable[[str], NoReturn]) -> Iterator[None]:
    """While the body runs, in this thread: ``looked`` hears what is read, ``refuse`` raises for what would be done."""
    if not _Watch.installed:
        _Watch.installed = True
        sys.addaudithook(_hook)
    _Watch.looked, _Watch.refuse = looked, refuse
    _Watch.thread = threading.get_ident()
    try:
        yield
    finally:
        _Watch.thread = 0
