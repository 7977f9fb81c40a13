"""The hot paths compiled: they are the same kernel, and what cannot be compiled is said."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from messages import Message
from runtime.hot import envelope
from tools.compiling import __main__ as command
from tools.compiling import build
from tools.compiling.build import CompileError, compiled
from tools.compiling.native import native_source

ROOT = Path(__file__).parents[2]
HEADERS = Path(sysconfig.get_path("include")) / "Python.h"

pytestmark = pytest.mark.xdist_group("compiling")
needs_compiler = pytest.mark.skipif(
    not (shutil.which("cc") and HEADERS.exists()), reason="needs a C compiler and the headers of this Python"
)


def native_classes() -> dict[str, Any]:
    """The classes that the compiler is given, interpreted."""
    source = native_source((ROOT / build.STRUCTS).read_text(encoding="utf-8"))
    names: dict[str, Any] = {"mypyc_attr": lambda **_: lambda made: made}
    exec(source, names)
    return names


def test_the_native_classes_are_made_like_the_structs_and_hold_the_same() -> None:
    natives = native_classes()
    structs = [one for one in vars(envelope).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    made = [one for one in structs if one is not Message]
    assert {one.__name__ for one in made} == {"Envelope", "Reply", "Turn"}
    for struct in made:
        theirs, ours = inspect.signature(struct), inspect.signature(natives[struct.__name__])
        assert [(one.name, one.default) for one in theirs.parameters.values()] == [
            (one.name, one.default) for one in ours.parameters.values()
        ]
        values = {name: object() for name in struct.__struct_fields__}
        assert vars(natives[struct.__name__](**values)) == values


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("def helper() -> None: ...", "neither an import nor a Struct"),
        ("class Plain:\n    at: float", "neither an import nor a Struct"),
        ("class More(msgspec.Struct):\n    def method(self) -> int:\n        return 1", "More holds more than fields"),
    ],
)
def test_what_has_no_native_twin_is_refused(more: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        native_source(f"import msgspec\n{more}\n")


# Of a compiled frame a traceback shows no column, so these texts alone differ.
TRACES = """
import traceback
from runtime import child_runner, worker
from runtime.hot import is_compiled
from tools.simulate import run_seed

child_runner.where_it_broke = worker.where_it_broke = lambda error: "".join(traceback.format_exception_only(error))
print(is_compiled())
for seed in range(40, 48):
    print(run_seed(seed, 1.0).trace)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the house whose hot paths are compiled."""
    folder = tmp_path_factory.mktemp("compiled") / "house"
    assert command.main([str(folder)]) == 0
    return folder


def run(place: Path, arguments: Sequence[str]) -> str:
    """What it prints; the modules are those of ``place``."""
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTEST_ADDOPTS": ""}
    done = subprocess.run([sys.executable, *arguments], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_compiler
@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_compiled_kernel_passes_the_tests_of_the_kernel(tree: Path) -> None:
    assert "hot paths compiled" in run(tree, ["-m", "tools.cli", "--version"])
    assert "hot paths compiled" not in run(ROOT, ["-m", "tools.cli", "--version"])
    told = run(tree, ["-m", "pytest", "tests/runtime", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"])
    assert int(told.rsplit("\n", 2)[-2].split(" passed")[0].rsplit(" ", 1)[-1]) > 300


@needs_compiler
@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_same_seed_gives_the_same_trace_of_the_house_compiled_or_not(tree: Path) -> None:
    ours, theirs = (run(place, ["-c", TRACES]).splitlines() for place in (ROOT, tree))
    assert (ours[0], theirs[0]) == ("False", "True"), "one is compiled"
    assert ours[1:] == theirs[1:]
    assert len(set(ours)) == 9


@needs_compiler
@pytest.mark.real
@pytest.mark.timeout(300)
def test_a_source_that_cannot_be_compiled_is_told_and_nothing_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    project, there = tmp_path / "project", tmp_path / "there"
    for package in ("messages", "runtime"):
        shutil.copytree(ROOT / package, project / package)
    ring = project / "runtime/hot/ring.py"
    ring.write_text(ring.read_text(encoding="utf-8") + "\nWRONG: int = 'a word'\n", encoding="utf-8")
    earlier = there / "runtime/hot/ring.so"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"an earlier copy")
    monkeypatch.setattr(command, "PROJECT", project)
    assert command.main([str(there)]) == 1
    told = capfd.readouterr()
    assert "runtime/hot/ring.py" in told.out + told.err
    assert "could not be compiled" in told.err
    assert earlier.read_bytes() == b"an earlier copy"


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    assert command.main([str(tmp_path)]) == 1
    assert "holds something that is no compiled copy" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "kept"


def test_without_the_compiler_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mypyc.build", None)
    with pytest.raises(CompileError, match="pip install"), compiled(ROOT):
        raise AssertionError("there is no compiler")
