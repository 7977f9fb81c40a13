"""Plug-ins: a custom actor is one class and one config section, and cannot take the rest down.

Found as ``package.module:Class`` in ``[plugins.NAME] actor = …``, or by the name of an entry point in the group
``nightfold.actors``. Plug-ins are observers: their full mailbox turns newcomers into dead letters instead of making a
sender wait, and one that keeps crashing is disabled in its own branch of the tree.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any

from messages import TrainingProgress
from runtime.actor import Actor, HandlerError, handlers_of, settings_type
from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.mailbox import MailboxSpec
from runtime.settings import check_plugin
from runtime.tree import Branch, Child, DeadLetter

ENTRY_POINTS = "nightfold.actors"

IMPORT_ERRORS = (ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, LookupError, OSError)
"""What importing a stranger's module may raise. Anything rarer is shown with its traceback."""


def find_actor(spec: str, name: str) -> type[Actor]:
    """The class that ``spec`` names.

    Raises:
        OperatorError: no such module, class or entry point, or not an ``Actor``.
    """
    where = f"[plugins.{name}] actor = {spec!r}"
    if ":" in spec:
        module_name, _, class_name = spec.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), class_name)
        except IMPORT_ERRORS as error:
            raise _not_loaded(where, error) from error
    else:
        points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
        if spec not in points:
            known = ", ".join(sorted(points)) or "none is installed"
            raise OperatorError(
                "NF-RUN-001",
                f"{where}: no entry point of that name in the group {ENTRY_POINTS} (known: {known})",
                hint="write it as 'package.module:Class'",
                exit_code=EXIT_CONFIG,
            )
        try:
            found = points[spec].load()
        except IMPORT_ERRORS as error:
            raise _not_loaded(where, error) from error
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise OperatorError(
            "NF-RUN-001", f"{where}: {found!r} is not a subclass of runtime.Actor", exit_code=EXIT_CONFIG
        )
    try:
        handlers_of(found)
        settings_type(found)
    except (HandlerError, NameError) as error:
        raise OperatorError(
            "NF-RUN-002", f"{where}: {error}", hint="whoever wrote the plug-in must mend it", exit_code=EXIT_CONFIG
        ) from error
    return found


def _not_loaded(where: str, error: BaseException) -> OperatorError:
    return OperatorError(
        "NF-RUN-001",
        f"{where}: {type(error).__name__}: {error}",
        hint="install the package into the environment that runs nightfold, and check the spelling",
        exit_code=EXIT_CONFIG,
    )


def plugin_branch(tables: Mapping[str, Mapping[str, Any]]) -> Branch:
    """The branch of the tree in which the configured plug-ins live."""
    children: list[Child] = []
    for name, table in tables.items():
        actor = find_actor(str(table["actor"]), name)
        children.append(
            Child(
                name=f"plugins.{name}",
                actor=actor,
                settings=check_plugin(name, table, settings_type(actor)),
                restart="permanent",
                on_crash=DeadLetter(),
                mailbox=MailboxSpec(capacity=1024, overflow="dead_letter", latest=(TrainingProgress,)),
                stop_within=10.0,
            )
        )
    return Branch("plugins", tuple(children), strategy="one_for_one", isolate=True)
