"""Merging processes that are quickly there: forked from one that has imported torch, transformers and peft already.

A merge of the tiny model takes a few tenths of a second, and the imports before it four seconds: most of a case. The
daemon starts its child as ever, but what it starts is a small client that hands its input and outputs to the warm
process and ends as the merge ends. The merge dies with its client, and the client with its daemon.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import socket
import sys
import threading
import traceback

from actors.consolidator import merge_child
from actors.consolidator.process_merger import ProcessMerger

CLIENT = """
import ctypes, socket, sys
ctypes.CDLL(None).prctl(1, 9)
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1].replace("@", chr(0)))
    socket.send_fds(line, [b"."], [0, 1, 2])
    code = line.recv(1)
sys.exit(code[0] if code else 1)
"""
MODULES = (
    "actors.consolidator.merge",
    "actors.consolidator.verify",
    "peft",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.tokenization_auto",
)


def begin(name: str) -> str:
    """Fork the warm process, which dies with this one; returns where clients find it."""
    address = f"@nightfold-warm-merge-{name}-{os.getpid()}"
    line = socket.socket(socket.AF_UNIX)
    line.bind(address.replace("@", "\0"))
    line.listen(8)
    parent = os.getpid()
    if os.fork() == 0:
        try:
            merge_child.die_with(parent)
            # Nobody asks after the merges: the kernel takes them away.
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for module in MODULES:
                importlib.import_module(module)
            _serve(line)
        finally:
            os._exit(1)
    line.close()
    return address


def installed(address: str) -> None:
    """From here on the daemons of this process have their merges made there."""
    from tools import daemon

    command = (sys.executable, "-I", "-S", "-c", CLIENT, address)
    vars(daemon)["ProcessMerger"] = functools.partial(ProcessMerger, command=command)


def _serve(line: socket.socket) -> None:
    while True:
        client, _ = line.accept()
        _, handles, _, _ = socket.recv_fds(client, 1, 3)
        if len(handles) == 3 and os.fork() == 0:
            _merge(client, handles)
        for handle in handles:
            os.close(handle)
        client.close()


def _merge(client: socket.socket, handles: list[int]) -> None:
    """What ``python -m actors.consolidator.merge_child`` does."""
    code = 1
    try:
        for number, handle in enumerate(handles):
            os.dup2(handle, number)
            os.close(handle)
        # In a spawned process the interpreter's own input is not the one that has number 0.
        sys.stdin = os.fdopen(0, closefd=False)
        threading.Thread(target=_end_with, args=(client,), daemon=True).start()
        # Its parent is not the daemon; it ends with the client instead, which does as this asks.
        vars(merge_child)["die_with"] = lambda parent: parent
        code = merge_child.main()
    except BaseException:  # noqa: BLE001  (a forked process must never return into its parent's code)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.close(1)
        os.close(2)
        client.send(bytes([code]))
        os._exit(code)


def _end_with(client: socket.socket) -> None:
    client.recv(1)  # nothing is ever sent: this is the end of the client
    os._exit(1)
