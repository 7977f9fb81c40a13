"""The hot paths: what happens to every single message, and nothing else.

These modules run as they stand, or compiled by mypyc into extension modules of the same names (``tools/compiling``);
they behave the same either way. So they are written for both:

    * Classes are plain, with typed attributes. Data that is made for every message is a ``msgspec.Struct`` in
      ``runtime.hot.envelope``, which the compiler is given as native classes with the same fields.
    * They define no exception and no Protocol, and import of this house only each other, ``messages.message`` and
      ``runtime.errors``; whatever else they touch they are handed.
    * What is called for every message is written out where it is used, for the interpreter's sake, and typed to the
      last attribute, for the compiler's.
"""

from __future__ import annotations

from importlib.util import find_spec


def is_compiled() -> bool:
    """Are they extension modules here?"""
    spec = find_spec("runtime.hot.serving")
    return spec is not None and not (spec.origin or "").endswith(".py")
