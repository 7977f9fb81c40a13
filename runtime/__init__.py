"""The actor kernel: typed messages, supervised mailboxes, causal trace, simulation. Knows nothing of training.

The names below are looked up when first used. ``nightfold status`` needs two small modules of this package, and must
not wait for the kernel, asyncio and msgspec, which would take most of its time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.actor import Actor, HandlerError, NoSettings, Tick, daily, every, on
    from runtime.errors import AskFailed, AskTimeout, OperatorError, WaitCycle
    from runtime.system import ActorSystem, GaveUp
    from runtime.topology import TopologyError
    from runtime.tree import Backoff, Branch, Child, DeadLetter, MailboxSpec, Retry

__all__ = [
    "Actor",
    "ActorSystem",
    "AskFailed",
    "AskTimeout",
    "Backoff",
    "Branch",
    "Child",
    "DeadLetter",
    "GaveUp",
    "HandlerError",
    "MailboxSpec",
    "NoSettings",
    "OperatorError",
    "Retry",
    "Tick",
    "TopologyError",
    "WaitCycle",
    "daily",
    "every",
    "on",
]

_MODULE_OF = {
    "runtime.actor": ("Actor", "HandlerError", "NoSettings", "Tick", "daily", "every", "on"),
    "runtime.errors": ("AskFailed", "AskTimeout", "OperatorError", "WaitCycle"),
    "runtime.system": ("ActorSystem", "GaveUp"),
    "runtime.topology": ("TopologyError",),
    "runtime.tree": ("Backoff", "Branch", "Child", "DeadLetter", "MailboxSpec", "Retry"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULE_OF.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'runtime' has no attribute {name!r}")
