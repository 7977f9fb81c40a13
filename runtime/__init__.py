"""The actor kernel: typed messages, supervised mailboxes, causal trace, simulation. Knows nothing of training."""

from __future__ import annotations

from runtime.actor import Actor, HandlerError, NoSettings, Tick, daily, every, on
from runtime.errors import OperatorError
from runtime.mailbox import MailboxSpec
from runtime.system import ActorSystem, AskFailed, AskTimeout, GaveUp, WaitCycle
from runtime.topology import TopologyError
from runtime.tree import Backoff, Branch, Child, DeadLetter, Retry

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
