"""Structs as native classes: what the compiler is given in the place of ``runtime/hot/envelope.py``.

To the interpreter a ``msgspec.Struct`` is the quickest thing to make, and one that its garbage collector need not look
at. To compiled code it is as foreign as any other object, while an attribute of a class of its own is a field in
memory. So the fields are written down once, as a Struct, and the other class is made from them.
"""

from __future__ import annotations

import ast

_HEAD = '''"""Made from the Structs of the same names; see ``tools.compiling.native``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr

'''


def native_source(source: str) -> str:
    """The module ``source`` with each of its Structs as a plain class of the same fields, order and defaults.

    The classes are ``acyclic``: like ``gc=False``, a promise that no circle ever leads through one of them.

    Raises:
        ValueError: there is more in the module than imports and Structs that hold nothing but fields.
    """
    parts = [_HEAD]
    for node in ast.parse(source).body:
        match node:
            case ast.ImportFrom(module="__future__") | ast.Import(names=[ast.alias(name="msgspec")]):
                continue
            case ast.Import() | ast.ImportFrom():
                parts.append(f"{ast.unparse(node)}\n")
            case ast.ClassDef(bases=[ast.Attribute(attr="Struct")]):
                parts.append(_native_class(node))
            case ast.Expr(value=ast.Constant()):
                continue
            case _:
                raise ValueError(f"line {node.lineno}: {ast.unparse(node)!r} is neither an import nor a Struct")
    return "".join(parts)


def _native_class(struct: ast.ClassDef) -> str:
    names: list[str] = []
    parameters: list[str] = []
    for node in struct.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=default):
                names.append(name)
                given = "" if default is None else f" = {ast.unparse(default)}"
                parameters.append(f"{name}: {ast.unparse(annotation)}{given}")
            case ast.Expr(value=ast.Constant()):
                continue
            case _:
                raise ValueError(f"line {node.lineno}: {struct.name} holds more than fields: {ast.unparse(node)!r}")
    lines = [
        "\n\n@mypyc_attr(acyclic=True)",
        f"class {struct.name}:",
        f"    def __init__(self, {', '.join(parameters)}) -> None:",
        *(f"        self.{name} = {name}" for name in names),
    ]
    return "\n".join(lines) + "\n"
