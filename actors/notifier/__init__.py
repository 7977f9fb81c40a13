"""A plug-in that tells people: see ``actors.notifier.actor``."""
