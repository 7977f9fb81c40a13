"""Plug-ins: a custom actor is one class and one config section, and cannot take the rest down.

Found as ``package.module:Class`` in ``[plugins.NAME] actor = …``, by the name of an entry point in the group
``nightfold.actors``, or as a file in the home's ``plugins/`` (``runtime.plugin_files``). Plug-ins are observers: their
full mailbox turns newcomers into dead letters instead of making a sender wait, one that keeps crashing or standing in
everybody's way is disabled in its own branch of the tree, and what they say and do is held to manners
(``runtime.plugin_manners``). What cannot work is refused before anything starts, with the line where it is written.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from messages import DiskMeasured, InboxSurveyed, TrainingProgress
from runtime.actor import Actor, HandlerError, handlers_of, settings_type, timers_of
from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.plugin_files import LOAD_ERRORS, actor_in_file, is_file_spec, not_loaded
from runtime.plugin_manners import PREFIX, with_manners
from runtime.settings import check_plugin
from runtime.topology import TopologyError, check_topology
from runtime.tree import Branch, Child, DeadLetter, MailboxSpec, children_of

ENTRY_POINTS = "nightfold.actors"
NOT_INSTALLED = "install the package into the environment that runs nightfold, and check the spelling"
AUTHOR = "whoever wrote the plug-in must mend it"
MAILBOX = MailboxSpec(capacity=1024, overflow="dead_letter", latest=(TrainingProgress, DiskMeasured, InboxSurveyed))


def find_actor(spec: str, name: str) -> type[Actor]:
    """The class that ``spec`` names.

    Raises:
        OperatorError: NF-RUN-001 no such file, module, class or entry point, or not an ``Actor``; NF-RUN-002 written in
            a way that cannot work.
    """
    found = actor_in_file(spec, name) if is_file_spec(spec) else _imported(spec, name)
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise not_loaded(name, spec, f"{found!r} is not a subclass of runtime.Actor")
    where = f"[plugins.{name}] actor = {spec!r}"
    try:
        settings = settings_type(found)
        handlers = handlers_of(found)
        inspect.signature(found).bind()
    except (HandlerError, NameError, TypeError) as error:
        raise _badly_written(where, found, str(error)) from error
    for handler in handlers.values():
        if handler.control:
            # Control is never refused, so a slow plug-in's mailbox would grow without a bound.
            raise _badly_written(
                where, found, f"{found.__name__}.{handler.method} asks for the control lane, which plug-ins do not have"
            )
    fields = settings.__struct_fields__
    for timer in timers_of(found):
        named = timer.every if timer.daily is None else timer.daily
        if isinstance(named, str) and named not in fields:
            raise _badly_written(
                where, found, f"{found.__name__}.{timer.method} is timed by {named!r}, which is no setting"
            )
    return found


def _imported(spec: str, name: str) -> Any:
    try:
        if ":" in spec:
            module_name, _, class_name = spec.partition(":")
            return getattr(importlib.import_module(module_name), class_name)
        points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
        if spec in points:
            return points[spec].load()
    except LOAD_ERRORS as error:
        line = f" ({error.filename}:{error.lineno})" if isinstance(error, SyntaxError) and error.filename else ""
        raise not_loaded(name, spec, f"{type(error).__name__}: {error}{line}", hint=NOT_INSTALLED) from error
    known = ", ".join(sorted(points)) or "none is installed"
    raise not_loaded(
        name, spec, f"no entry point of that name in the group {ENTRY_POINTS} (known: {known})",
        hint="write it as 'package.module:Class', or 'NAME.py' for a file in the home's plugins/",
    )  # fmt: skip


def _badly_written(where: str, actor: type[Actor], what: str) -> OperatorError:
    method = re.match(rf"{re.escape(actor.__name__)}\.(\w+)", what)
    code = getattr(inspect.unwrap(getattr(actor, method[1], actor)) if method else None, "__code__", None)
    place = f"{code.co_filename}:{code.co_firstlineno}" if code else (inspect.getsourcefile(actor) or "")
    return OperatorError(
        "NF-RUN-002", f"{where}: {what}" + (f" ({place})" if place else ""), hint=AUTHOR, exit_code=EXIT_CONFIG
    )


def plugin_branch(tables: Mapping[str, Mapping[str, Any]]) -> Branch:
    """The branch of the tree in which the configured plug-ins live."""
    children: list[Child] = []
    for name, table in tables.items():
        actor = find_actor(str(table["actor"]), name)
        children.append(
            Child(
                name=PREFIX + name,
                actor=actor,
                make=partial(with_manners, actor),
                settings=check_plugin(name, table, settings_type(actor)),
                restart="permanent",
                on_crash=DeadLetter(),
                mailbox=MAILBOX,
                # The daemon's own stop waits for a start that is under way.
                start_within=20.0,
                stop_within=10.0,
            )
        )
    return Branch("plugins", tuple(children), strategy="one_for_one", isolate=True)


def check_plugins(tree: Branch) -> None:
    """Refuse what the plug-ins of a whole tree cannot do together with the others.

    Raises:
        OperatorError: NF-RUN-002: a name used twice, an answer to a question that another answers already, a question
            nobody answers, or a message that nobody hears. A house without plug-ins has none of these.
    """
    if any(child.name.startswith(PREFIX) for child in children_of(tree)):
        try:
            check_topology(tree, strict=True)
        except TopologyError as error:
            raise OperatorError("NF-RUN-002", f"the plug-ins: {error}", hint=AUTHOR, exit_code=EXIT_CONFIG) from error
