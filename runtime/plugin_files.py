"""A plug-in that is one file in the home: ``plugins/NAME.py``, loaded by its path and by nothing else.

The folder never gets onto the module path, so a file in it can neither shadow a module of the house nor be imported by
accident. The module lives under a private name made from the file's; a trace names its messages by that, and a replay,
which builds the same house from the same config, has loaded it before it looks.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.actor import Actor
from runtime.errors import EXIT_CONFIG, OperatorError

FOLDER = "plugins"
MODULES = "nightfold_plugin_"
"""What the private module names begin with."""

LOAD_ERRORS = (
    ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, LookupError, OSError, RuntimeError,
    ArithmeticError, AssertionError,
)  # fmt: skip
"""What running a stranger's module may raise. Anything rarer is shown with its traceback."""


def is_file_spec(spec: str) -> bool:
    """Does ``spec`` name a file, as ``NAME.py:Class`` or ``NAME.py``?"""
    return spec.partition(":")[0].endswith(".py")


def located(tables: Mapping[str, Any], home: Path) -> dict[str, Any]:
    """The ``[plugins.*]`` tables with ``NAME.py`` written as the whole path into this home.

    Raises:
        OperatorError: NF-RUN-001, a name that leads out of the folder.
    """
    found: dict[str, Any] = {}
    for name, table in tables.items():
        spec = table["actor"]
        if is_file_spec(spec):
            file, colon, cls = spec.partition(":")
            if Path(file).name != file:
                raise not_loaded(
                    name, spec, f"a file plug-in lies in {FOLDER}/ itself, not in {Path(file).parent}",
                    hint=f"move the file into {home / FOLDER}, and write its name alone",
                )  # fmt: skip
            found[name] = {**table, "actor": f"{home / FOLDER / file}{colon}{cls}"}
        else:
            found[name] = table
    return found


def unused_files(tables: Mapping[str, Any], home: Path) -> list[str]:
    """Files in ``plugins/`` that no section names. They are not run: a dropped file must not run by surprise."""
    folder = home / FOLDER
    if not folder.is_dir():
        return []
    used = {Path(str(table["actor"]).partition(":")[0]).name for table in tables.values()}
    return sorted(
        f"{FOLDER}/{path.name}"
        for path in folder.glob("*.py")
        if path.name not in used and not path.name.startswith((".", "_"))
    )


def actor_in_file(spec: str, name: str) -> type[Actor]:
    """The class that ``PATH.py:Class`` names, or the one Actor that ``PATH.py`` defines.

    Raises:
        OperatorError: NF-RUN-001 with file and line.
    """
    file, _, class_name = spec.partition(":")
    path = Path(file)
    if not path.is_absolute():
        raise not_loaded(name, spec, f"a file plug-in belongs to a home, in its folder {FOLDER}/")
    module = _load(path, name, spec)
    if class_name:
        found = getattr(module, class_name, None)
        if found is None:
            raise not_loaded(name, spec, f"{path} has no class {class_name!r}{_there_are(module)}")
        if not (isinstance(found, type) and issubclass(found, Actor)):
            raise not_loaded(name, spec, f"{path}: {class_name} is not a subclass of runtime.Actor")
        return found
    own = _own_actors(module)
    if len(own) != 1:
        what = "no subclass of runtime.Actor" if not own else f"{len(own)} actors"
        first = f'actor = "{path.name}:{own[0].__name__}"' if own else "class MyActor(Actor): ..."
        raise not_loaded(name, spec, f"{path} defines {what}{_there_are(module)}", hint=f"write {first}")
    return own[0]


def _load(path: Path, name: str, spec: str) -> ModuleType:
    """Run the file once for each text it has; two sections that name it share the module, and so its messages."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise not_loaded(
            name, spec, f"{path}: {error.strerror or error}", hint="put the file there, or take the section out"
        ) from error
    module_name = MODULES + path.stem
    known = sys.modules.get(module_name)
    if known is not None and (known.__file__, getattr(known, "__nightfold_source__", b"")) == (str(path), source):
        return known
    described = importlib.util.spec_from_file_location(module_name, path)
    assert described is not None, "a path that ends in .py always has a loader"
    module = importlib.util.module_from_spec(described)
    vars(module)["__nightfold_source__"] = source
    # Annotations are resolved, and a trace's messages looked up, under the name that the classes bear.
    sys.modules[module_name] = module
    try:
        # Compiled here and not by the loader, which would leave a __pycache__ in the person's folder.
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))  # noqa: S102 - that is what it is for
    except LOAD_ERRORS as error:
        if known is None:
            del sys.modules[module_name]
        else:
            sys.modules[module_name] = known
        raise not_loaded(
            name, spec, f"{path}{_line_of(error, path)}: {type(error).__name__}: {_words(error)}"
        ) from error
    return module


def _line_of(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.lineno and error.filename == str(path):
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f":{lines[-1]}" if lines else ""


def _words(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _own_actors(module: ModuleType) -> list[type[Actor]]:
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Actor) and found.__module__ == module.__name__
    ]


def _there_are(module: ModuleType) -> str:
    names = ", ".join(actor.__name__ for actor in _own_actors(module))
    return f"; it has {names}" if names else ""


def not_loaded(name: str, spec: str, what: str, *, hint: str = "") -> OperatorError:
    """NF-RUN-001 for the section of this plug-in."""
    return OperatorError(
        "NF-RUN-001",
        f"[plugins.{name}] actor = {spec!r}: {what}",
        hint=hint or "mend the file, check the spelling, or take the section out of the config",
        exit_code=EXIT_CONFIG,
    )
