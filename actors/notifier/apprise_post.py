"""The way out: apprise, which speaks to a hundred services by one line of address each.

Addresses hold secrets. They come in here and go nowhere: what is said of one is its kind and its place in the list.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from actors.notifier.words import Notice
from runtime import OperatorError


class Address(msgspec.Struct, frozen=True):
    """An address as it may be seen. ``key`` finds what waits for it again after a restart."""

    label: str
    key: str


class Post(Protocol):
    """Both methods are called in blocking jobs."""

    def open(self, urls: Sequence[str]) -> tuple[Address, ...]:
        """Check every address.

        Raises:
            OperatorError: NF-PLUGIN-001 apprise is not there; NF-PLUGIN-002 an address that cannot be used.
        """

    def deliver(self, number: int, title: str, notice: Notice) -> bool:
        """Hand the notice to the address of that number; ``False``: it did not arrive, try again."""


class ApprisePost:
    """``Post`` over apprise, which is imported when the first address is opened."""

    def __init__(self) -> None:
        self._senders: list[Any] = []
        self._types: Any = None

    def open(self, urls: Sequence[str]) -> tuple[Address, ...]:
        try:
            import apprise
        except ImportError as error:
            raise OperatorError(
                "NF-PLUGIN-001",
                f"the notifier needs the package apprise, which is not installed ({error.name or 'apprise'})",
                hint="pip install 'nightfold[notify]'",
            ) from None
        # Its own log says addresses in full, and would end on standard error.
        log = logging.getLogger("apprise")
        log.propagate = False
        log.addHandler(logging.NullHandler())
        self._types = apprise.NotifyType
        self._senders = []
        found: list[Address] = []
        for number, url in enumerate(urls, start=1):
            kind = url.partition("://")[0] if "://" in url else "an address without ://"
            sender = apprise.Apprise()
            if not sender.add(url):
                raise OperatorError(
                    "NF-PLUGIN-002",
                    f"the notifier cannot use address {number} of {len(urls)} ({kind[:20]})",
                    hint="an address is one line as apprise reads it, for instance ntfy://topic or mailto://user:password@host",
                )
            self._senders.append(sender)
            found.append(
                Address(f"{kind} (address {number})", hashlib.blake2b(url.encode(), digest_size=8).hexdigest())
            )
        return tuple(found)

    def deliver(self, number: int, title: str, notice: Notice) -> bool:
        kind = self._types.FAILURE if notice.bad else self._types.INFO
        return bool(self._senders[number].notify(title=title, body=notice.body, notify_type=kind))
