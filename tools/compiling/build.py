"""From the source of the hot paths to extension modules."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.compiling.native import native_source

COPIED = ("actors", "messages", "runtime", "tools", "tests", "pyproject.toml", "README.md", "ARCHITECTURE.md")
HOT = Path("runtime/hot")
STRUCTS = HOT / "envelope.py"
GROUP = "nightfold_hot"
"""Of the module, at the top level, that holds all of the machine code: they call each other directly."""
FLAGS = ("--ignore-missing-imports", "--follow-imports=silent", "--explicit-package-bases")


class CompileError(RuntimeError):
    """The hot paths could not be compiled; the text says why and what to do."""


@contextlib.contextmanager
def compiled(project: Path) -> Iterator[Mapping[Path, Path]]:
    """The extension modules made of ``project``: where each lies for the moment -> where it belongs in the project.

    Raises:
        CompileError: no mypyc, no C compiler, no headers of this Python, or a mistake in the source.
    """
    try:
        from mypyc.build import mypycify
        from setuptools import Distribution
    except ImportError as missing:
        raise CompileError(f"{missing}; what compiles comes with: pip install 'mypy>=2.4' setuptools") from None
    with tempfile.TemporaryDirectory(prefix="nightfold-compiling-") as folder:
        place = Path(folder)
        for package in ("messages", "runtime"):
            shutil.copytree(project / package, place / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        structs = place / STRUCTS
        structs.write_text(native_source(structs.read_text(encoding="utf-8")), encoding="utf-8")
        modules = sorted(str(path.relative_to(place)) for path in (place / HOT).glob("[!_]*.py"))
        with contextlib.chdir(place):
            try:
                extensions = mypycify([*FLAGS, *modules], group_name=GROUP, opt_level="3")
                command = Distribution({"name": "nightfold", "ext_modules": extensions}).get_command_obj("build_ext")
                command.inplace = True
                command.ensure_finalized()
                command.run()
            # mypyc ends the process where the source is wrong, and distutils raises all kinds of things.
            except (Exception, SystemExit) as error:
                raise CompileError(
                    f"the hot paths could not be compiled: {error or type(error).__name__}; what the compilers said "
                    "stands above. A C compiler and the headers of this Python are needed (Debian: gcc, python3-dev)"
                ) from error
        yield {found: found.relative_to(place) for found in sorted([*place.glob("*.so"), *(place / HOT).glob("*.so")])}


def compiled_copy(project: Path, into: Path) -> None:
    """Put a copy of the house and its tests into the folder ``into``, with its hot paths compiled.

    An earlier copy in ``into`` is replaced, once all is compiled.

    Raises:
        CompileError: see ``compiled``, or ``into`` holds something else; the folder is as it was.
    """
    if into.is_dir() and any(into.iterdir()) and not any((into / HOT).glob("*.so")):
        raise CompileError(f"{into} holds something that is no compiled copy; name a new or an empty folder")
    with compiled(project) as modules:
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for name in COPIED:
            if (project / name).is_dir():
                shutil.copytree(project / name, into / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            else:
                shutil.copy2(project / name, into / name)
        for lies, belongs in modules.items():
            shutil.copy2(lies, into / belongs)
