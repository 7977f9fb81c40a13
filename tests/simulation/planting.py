"""Plants a bug: rewrites the body of one function of the running program, and takes it back.

Guarantees:
    * What is to be rewritten must stand there exactly once, else ``NotThere``: no mutation outlives the code that it
      was made for, to pass for one that the simulation cannot find.
    * Every holder of the function runs the bug, however it was imported: the code object is exchanged, not the name.
    * Layout and comments do not matter: source and search are compared as ``ast.unparse`` writes them.
"""

from __future__ import annotations
import __future__

import ast
import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType

ANNOTATIONS = __future__.annotations.compiler_flag


class NotThere(LookupError):
    """The code that a mutation rewrites is no longer what the mutation was made for."""


@dataclass(frozen=True)
class Edit:
    """In the function ``where`` (``package.module:Class.method``) the text ``old`` becomes ``new``.

    ``old`` may be a part of a line, or several lines, indented as in a function at the module's left edge.
    """

    where: str
    old: str
    new: str


@contextlib.contextmanager
def planted(edits: Sequence[Edit]) -> Iterator[None]:
    """Run the body with all of these in force; several edits of one function are made one after the other."""
    sources: dict[str, str] = {}
    for edit in edits:
        source = sources.get(edit.where) or source_of(edit.where)
        found = source.count(edit.old)
        if found != 1:
            raise NotThere(f"{edit.where} has this {found} times and not once:\n{edit.old}\nIt reads:\n{source}")
        sources[edit.where] = source.replace(edit.old, edit.new)
    before = [(function_at(where), function_at(where).__code__) for where in sources]
    try:
        for where, source in sources.items():
            function = function_at(where)
            function.__code__ = _compiled(source, function)
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def function_at(where: str) -> FunctionType:
    """The function behind ``package.module:Class.method``, whatever decorates it."""
    module, _, path = where.partition(":")
    found: object = importlib.import_module(module)
    for name in path.split("."):
        try:
            found = inspect.getattr_static(found, name)
        except AttributeError:
            raise NotThere(f"{where}: there is no {name}") from None
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if callable(found):
        found = inspect.unwrap(found)
    if not isinstance(found, FunctionType):
        raise NotThere(f"{where} is no function")
    return found


def source_of(where: str) -> str:
    """The function as ``ast.unparse`` writes it, without decorators and docstring."""
    module = ast.parse(textwrap.dedent(inspect.getsource(function_at(where))))
    function = module.body[0]
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        raise NotThere(f"{where} is not written as a function")
    function.decorator_list = []
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:] or [ast.Pass()]
    return ast.unparse(module)


def _compiled(source: str, function: FunctionType) -> CodeType:
    whole = compile(source, f"<planted in {function.__qualname__}>", "exec", flags=ANNOTATIONS, dont_inherit=True)
    code = next(part for part in whole.co_consts if isinstance(part, CodeType))
    return code.replace(co_qualname=function.__qualname__)
