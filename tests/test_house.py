"""The rules of the house, read off the syntax tree of every source file; each rule is itself shown a breach of it.

A rule is a generator over one parsed file that yields ``(line, sentence)`` for each breach. What it cannot see, it does
not claim: a set that hides behind a name is found by the simulation, which runs each seed in two hash orders.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from messages import codes

ROOT = Path(__file__).parents[1]
PACKAGES = ("messages", "runtime", "actors", "tools")


class Source(NamedTuple):
    """One file: its path in the repository, and what it says."""

    path: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.partition("/")[0]

    @property
    def room(self) -> str:
        """Which actor's room it is: ``actors/trainer/engine.py`` and ``actors/trainer.py`` are the trainer's."""
        parts = self.path.removesuffix(".py").split("/")
        return parts[1] if parts[0] == "actors" and len(parts) > 1 else ""


Breach = tuple[int, str]
Rule = Callable[[Source], Iterator[Breach]]

SOURCES = [
    Source(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported dotted name, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}"


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for a name or an attribute of one, else ``""``."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{before}.{node.attr}" if (before := dotted(node.value)) else ""
    return ""


def calls(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


def imports_run_one_way(source: Source) -> Iterator[Breach]:
    may = PACKAGES[: PACKAGES.index(source.package) + 1]
    for line, name in imported(source.tree):
        top = name.partition(".")[0]
        if name.startswith("."):
            yield line, "a relative import; write the whole name"
        elif top in (*PACKAGES, "tests") and top not in may:
            yield line, f"{source.package} may not import {top}: messages <- runtime <- actors <- tools"


def actors_never_import_each_other(source: Source) -> Iterator[Breach]:
    if source.room:
        for line, name in imported(source.tree):
            parts = name.split(".")
            if parts[0] == "actors" and parts[1:2] != [source.room]:
                yield line, f"{source.room} imports {name}; send a message instead"


def kernel_never_loads_torch(source: Source) -> Iterator[Breach]:
    if source.package in ("messages", "runtime"):
        for line, name in imported(source.tree):
            if name.partition(".")[0] in ("torch", "transformers", "peft", "accelerate", "tokenizers"):
                yield line, f"{source.package} must not load {name.partition('.')[0]}"


# The modules through which time, chance and blocking work come in.
DOORS = ("runtime/clock.py", "runtime/worker.py", "runtime/watchdog.py", "runtime/home_lock.py", "runtime/simulation/")
TIME_AND_CHANCE = re.compile(
    r"(time\.(time|monotonic|perf_counter|process_time)(_ns)?|time\.(sleep|localtime|gmtime|strftime)"
    r"|(\w+\.)?datetime\.(now|utcnow|today)|(\w+\.)?date\.today"
    r"|random\.\w+|secrets\.\w+|uuid\.\w+|os\.urandom|(asyncio|anyio|trio)\.sleep\w*)"
)


def time_and_chance_have_doors(source: Source) -> Iterator[Breach]:
    if source.package == "tools" or source.path.startswith(DOORS):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and TIME_AND_CHANCE.fullmatch(name := dotted(node)):
            yield node.lineno, f"{name} goes past the doors of time and chance; ask for a clock or a callable"
    for line, name in imported(source.tree):
        if TIME_AND_CHANCE.fullmatch(name) or name in ("random", "secrets", "uuid"):
            yield line, f"import of {name}: time and chance have one door each"


def nobody_walks_over_a_set(source: Source) -> Iterator[Breach]:
    def is_set(node: ast.expr) -> bool:
        return isinstance(node, ast.Set | ast.SetComp) or (
            isinstance(node, ast.Call) and dotted(node.func) in ("set", "frozenset")
        )

    for node in ast.walk(source.tree):
        walked: list[ast.expr] = []
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            walked = [node.iter]
        elif isinstance(node, ast.Call):
            keeps_order = ("list", "tuple", "iter", "enumerate", "zip", "map", "filter", "next")
            joins = isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "extend")
            walked = node.args if joins or dotted(node.func) in keeps_order else []
        for each in walked:
            if is_set(each):
                yield each.lineno, "the order of a set changes from process to process; sort it first"


# The one place where files of an older trainer are read, whose moments exist in no other form: torch.load with
# weights_only=True written out rebuilds tensors and plain values and runs nothing that a file names. What it refuses
# with is an error that only pickle has a name for.
OLD_PICKLES = ("tools/moving_in/torch_files.py",)


# Some of the peers that are timed beside ours pickle: there it is what is timed.
PEERS = ("tools/bench/checkpoint.py",)


def no_pickle(source: Source) -> Iterator[Breach]:
    if source.path in PEERS:
        return
    reads_old = source.path in OLD_PICKLES
    for line, name in imported(source.tree):
        pickles = name.partition(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
        if pickles and not (reads_old and name == "pickle.UnpicklingError"):
            yield line, f"import of {name}: nothing here is pickled"
    guarded = {id(call.func) for call in calls(source) if reads_old and _loads_weights_only(call)}
    for node in ast.walk(source.tree):
        if dotted(node) in ("torch.load", "torch.save") and id(node) not in guarded:
            yield getattr(node, "lineno", 0), f"{dotted(node)} is pickle; use safetensors"


def _loads_weights_only(call: ast.Call) -> bool:
    return dotted(call.func) == "torch.load" and any(
        word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
        for word in call.keywords
    )


def names_mean_something(source: Source) -> Iterator[Breach]:
    for part in source.path.removesuffix(".py").split("/"):
        if part in ("base", "misc") or set(part.split("_")) & {
            "util", "utils", "helper", "helpers", "common", "manager", "managers"
        }:  # fmt: skip
            yield 1, f"{part} is no name: say what it is"


def files_open_with_a_sentence(source: Source) -> Iterator[Breach]:
    first = (ast.get_docstring(source.tree) or "").partition("\n\n")[0]
    if not first:
        yield 1, "a module opens with a docstring that says what it is"


# Whoever may touch the file system past the port, and what for. Of a living home's own files that is only the lock.
WRITERS = {
    "runtime/disk.py": "the port",
    "runtime/home_lock.py": "state/LOCK, which must be had before there is a disk to speak of",
    "actors/consolidator/merge.py": "the child that merges, into a hidden folder that its parent shows or sweeps",
    "actors/consolidator/merge_child.py": "its own rank in /proc",
    "tools/daemon.py": "takes a person's wishes away: .stop, .consolidate",
    "tools/commands/control.py": "makes a person's wishes: .stop, .pause, .consolidate",
    "tools/commands/submit.py": "a person's file into the inbox, as a person would",
    "tools/commands/retry.py": "a person's file back into the inbox",
    "tools/commands/init.py": "a home that is none yet",
    "tools/moving_in/new_home.py": "a home that is none yet",
    "tools/commands/merge.py": "outside any home",
    "tools/commands/trace.py": "a chart where a person wants it",
    "tools/commands/demo.py": "a home to be thrown away",
    "tools/cli.py": "os.devnull, when whoever reads has gone",
    "tools/tiny_model.py": "where it is told",
    "tools/markers.py": "the pages of this repository",
    "tools/bench/": "homes to be thrown away",
    "tools/compiling/": "a copy of the packages, where it is told",
    "tools/crash_matrix/": "homes to be thrown away",
    "tools/soak/": "homes to be thrown away",
    "tools/exhaustion/": "names of the port's methods; nothing real",
}
OS_WRITES = re.compile(
    r"os\.(replace|renames?|unlink|remove|removedirs|rmdir|mkdir|makedirs|symlink|link|truncate|ftruncate|write|pwrite"
    r"|mkfifo|chmod|utime)|shutil\.(rmtree|move|copy\w*|make_archive)|tempfile\.\w+"
)
PATH_WRITES = ("write_text", "write_bytes", "touch", "symlink_to", "hardlink_to")
DISK_WORDS = ("rename", "unlink", "mkdir", "rmdir")


def only_the_disk_port_writes(source: Source) -> Iterator[Breach]:
    if source.path.startswith(tuple(WRITERS)):
        return
    for call in calls(source):
        name = dotted(call.func)
        method = call.func.attr if isinstance(call.func, ast.Attribute) else name
        receiver = dotted(call.func.value).rpartition(".")[2] if isinstance(call.func, ast.Attribute) else ""
        writes = bool(OS_WRITES.fullmatch(name)) or method in PATH_WRITES
        # The port's own methods are called the same; it goes by the name of disk wherever it is handed in.
        writes = writes or (method in DISK_WORDS and isinstance(call.func, ast.Attribute) and "disk" not in receiver)
        # Path.replace has one argument; str.replace has two, and the other kinds of replace have keywords.
        writes = writes or (method == "replace" and len(call.args) == 1 and not call.keywords)
        writes = writes or (method == "open" and _opens_for_writing(call, name))
        if writes:
            yield call.lineno, f"{name or method}(…) writes past the disk port"


def _opens_for_writing(call: ast.Call, name: str) -> bool:
    if name == "os.open":
        return any(
            isinstance(node, ast.Attribute) and node.attr in ("O_WRONLY", "O_RDWR", "O_CREAT")
            for argument in call.args[1:]
            for node in ast.walk(argument)
        )
    # Path.open has the mode first; open, io.open, gzip.open and aiofiles.open have it second.
    has_path = name == "open" or name.partition(".")[0] in ("io", "gzip", "aiofiles", "bz2", "lzma")
    given = [*call.args[1 if has_path else 0 :][:1], *(word.value for word in call.keywords if word.arg == "mode")]
    return any(
        isinstance(mode, ast.Constant) and isinstance(mode.value, str) and bool(set(mode.value) & set("wax+"))
        for mode in given
    )


CODE = re.compile(r"\bNF-[A-Z]+-\d{3}\b")


def codes_said(source: Source) -> Iterator[tuple[int, str]]:
    """Each code in the code, but for docstrings, which only speak about them."""
    spoken = {
        id(node.body[0].value)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
            for code in CODE.findall(node.value):
                yield node.lineno, code


def every_code_said_is_explained(source: Source) -> Iterator[Breach]:
    for line, code in codes_said(source):
        if code not in codes.CODES:
            yield line, f"{code} is not in messages/codes.py"


RULES: tuple[Rule, ...] = (
    imports_run_one_way,
    actors_never_import_each_other,
    kernel_never_loads_torch,
    time_and_chance_have_doors,
    nobody_walks_over_a_set,
    no_pickle,
    names_mean_something,
    files_open_with_a_sentence,
    only_the_disk_port_writes,
    every_code_said_is_explained,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule) -> None:
    breaches = [f"{source.path}:{line}: {words}" for source in SOURCES for line, words in rule(source)]
    assert not breaches, "\n" + "\n".join(breaches)


def test_every_code_explained_is_said_somewhere() -> None:
    said = {code for source in SOURCES if source.path != "messages/codes.py" for _, code in codes_said(source)}
    assert sorted(set(codes.CODES) - said) == []


def test_every_explanation_is_whole_and_in_its_area() -> None:
    areas = {name: table for name, table in vars(codes).items() if name.isupper() and name != "CODES"}
    assert sum(len(table) for table in areas.values()) == len(codes.CODES), "one code stands in two areas"
    for area, table in areas.items():
        for code, explanation in table.items():
            assert re.fullmatch(rf"NF-{area}-\d{{3}}", code)
            assert all((explanation.title, explanation.meaning, explanation.safe, explanation.action)), code


def test_every_writer_past_the_port_still_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that no longer writes is no longer excused."""
    excused = tuple(WRITERS)
    monkeypatch.setitem(globals(), "WRITERS", {})
    writing = {source.path for source in SOURCES if list(only_the_disk_port_writes(source))}
    assert [writer for writer in excused if not any(path.startswith(writer) for path in writing)] == []


PLANTED = [
    (imports_run_one_way, "messages/x.py", "from runtime.disk import Disk"),
    (imports_run_one_way, "runtime/x.py", "def late():\n    import actors.trainer"),
    (imports_run_one_way, "actors/x.py", "from tools import cli"),
    (imports_run_one_way, "runtime/x.py", "from . import disk"),
    (actors_never_import_each_other, "actors/disk_guard.py", "from actors.trainer.engine import Engine"),
    (actors_never_import_each_other, "actors/trainer/actor.py", "from actors import disk_guard"),
    (kernel_never_loads_torch, "runtime/x.py", "def late():\n    import torch.nn"),
    (kernel_never_loads_torch, "messages/x.py", "from peft import LoraConfig"),
    (time_and_chance_have_doors, "actors/x.py", "now = time.monotonic()"),
    (time_and_chance_have_doors, "actors/x.py", "now = datetime.datetime.now()"),
    (time_and_chance_have_doors, "messages/x.py", "import random"),
    (time_and_chance_have_doors, "runtime/x.py", "from time import monotonic"),
    (time_and_chance_have_doors, "runtime/x.py", "async def f():\n    await asyncio.sleep(1)"),
    (time_and_chance_have_doors, "actors/x.py", "self.clock = time.monotonic"),
    (nobody_walks_over_a_set, "runtime/x.py", "for x in {1, 2}: pass"),
    (nobody_walks_over_a_set, "runtime/x.py", "[x for x in set(y)]"),
    (nobody_walks_over_a_set, "runtime/x.py", "', '.join({f(x) for x in y})"),
    (nobody_walks_over_a_set, "tools/x.py", "list(frozenset(y))"),
    (no_pickle, "actors/x.py", "import pickle"),
    (no_pickle, "tools/x.py", "state = torch.load(path)"),
    (no_pickle, "tools/x.py", "state = torch.load(path, weights_only=True)"),
    (no_pickle, "tools/moving_in/torch_files.py", "state = torch.load(path)"),
    (no_pickle, "tools/moving_in/torch_files.py", "state = torch.load(path, weights_only=wish)"),
    (no_pickle, "tools/moving_in/torch_files.py", "load = torch.load"),
    (no_pickle, "tools/moving_in/torch_files.py", "from pickle import load"),
    (names_mean_something, "runtime/disk_utils.py", ""),
    (names_mean_something, "actors/common/disk.py", ""),
    (files_open_with_a_sentence, "runtime/x.py", "x = 1"),
    (only_the_disk_port_writes, "actors/x.py", "open(path, 'w')"),
    (only_the_disk_port_writes, "actors/x.py", "open(path, mode='ab')"),
    (only_the_disk_port_writes, "actors/x.py", "path.open('x')"),
    (only_the_disk_port_writes, "actors/x.py", "aiofiles.open(path, 'w')"),
    (only_the_disk_port_writes, "runtime/x.py", "os.open(path, os.O_RDWR | os.O_CLOEXEC)"),
    (only_the_disk_port_writes, "runtime/x.py", "os.replace(a, b)"),
    (only_the_disk_port_writes, "actors/x.py", "(home / 'x').unlink()"),
    (only_the_disk_port_writes, "actors/x.py", "path.replace(other)"),
    (only_the_disk_port_writes, "actors/x.py", "path.write_text('x')"),
    (only_the_disk_port_writes, "actors/x.py", "shutil.rmtree(path)"),
    (only_the_disk_port_writes, "tools/commands/x.py", "(home / 'state/HEAD').write_bytes(b'')"),
    (only_the_disk_port_writes, "tools/checkups/x.py", "path.rename(other)"),
    (every_code_said_is_explained, "actors/x.py", "raise Trouble('NF-NONE-999')"),
]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_each_rule_sees_a_breach_of_it(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, ast.parse(text)))), text


SOUND = [
    (imports_run_one_way, "tools/x.py", "from actors.trainer import engine\nimport runtime.disk, messages"),
    (actors_never_import_each_other, "actors/trainer/actor.py", "from actors.trainer.engine import Engine"),
    (kernel_never_loads_torch, "actors/trainer/torch_engine.py", "import torch"),
    (time_and_chance_have_doors, "runtime/clock.py", "now = time.monotonic()"),
    (time_and_chance_have_doors, "actors/x.py", "import datetime\nx = datetime.time(3)\ny = self.clock.monotonic()"),
    (nobody_walks_over_a_set, "runtime/x.py", "for x in sorted({1, 2}): pass\nok = y in {1, 2}"),
    (no_pickle, "tools/moving_in/torch_files.py", "torch.load(x, weights_only=True)"),
    (only_the_disk_port_writes, "actors/x.py", "self.disk.unlink(p)\ndisk.rename(a, b)\nopen(p, 'rb')\np.open()"),
    (only_the_disk_port_writes, "actors/x.py", "'a'.replace('a', 'b')\nstructs.replace(state, step=1)"),
    (every_code_said_is_explained, "actors/x.py", '"""As in NF-NONE-999."""\nx = "NF-CONF-001"'),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), SOUND, ids=lambda value: getattr(value, "__name__", None))
def test_no_rule_sees_a_breach_where_there_is_none(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, ast.parse(text)))) == []
