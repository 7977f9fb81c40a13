"""What a plug-in wants a person to know, whatever the plug-in is."""

from __future__ import annotations

from messages.message import Message


class PluginNoted(Message, frozen=True):
    """A line for the terminal and the event log; with a ``code``, something went wrong and ``status`` shows it.

    Any plug-in may say it; ``plugin`` is its own name. Never a secret: it is shown, kept and passed on.
    """

    plugin: str
    what: str
    code: str = ""
    hint: str = ""
