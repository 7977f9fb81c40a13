"""The command line: every command teaches, starts quickly, and fails in one line with the right code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from messages.codes import CODES
from tests.tools.conftest import write_status
from tools.cli import main

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "init",
    "import",
    "run",
    "submit",
    "check",
    "retry",
    "status",
    "pause",
    "resume",
    "stop",
    "consolidate",
    "history",
    "rollback",
    "generate",
    "merge",
    "ps",
    "trace",
    "doctor",
    "explain",
    "demo",
]


def usage_error(*argv: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def loaded_after(*argv: str) -> set[str]:
    """Which top-level modules the process has imported when the command has ended."""
    code = (
        "import sys\nfrom tools.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True)
    assert "LOADED" in done.stdout, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_help_lists_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    listed = re.findall(r"^    (\w+) {2,}\w|^    (\w+)$", out, re.MULTILINE)
    assert [first or second for first, second in listed] == COMMANDS
    assert "exit codes" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    example = out.partition("example:\n")[2].strip()
    assert example.startswith(f"nightfold {command}")


def test_version_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert re.match(r"nightfold \S", capsys.readouterr().out)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["no-such-command"],
        ["status"],
        ["status", "home", "--jso"],
        ["submit", "home"],
        ["init", "home", "--tiny", "--model", "m"],
        ["stop", "home", "--wait", "-1"],
        ["stop", "home", "--wait", "soon"],
        ["generate", "home", "prompt", "--max-new-tokens", "0"],
        ["trace", "home", "sideways"],
        ["merge", "--base", "b", "--out", "o"],
    ],
)
def test_what_cannot_be_understood_exits_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    usage_error(*argv)
    assert "usage: nightfold" in capsys.readouterr().err


def test_an_operators_mistake_is_one_line_and_a_hint_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(tmp_path)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first == f"nightfold: NF-CONF-002: {tmp_path} is not a home: it has no nightfold.toml"
    assert second.startswith("  ")
    assert "nightfold init" in second


def test_ctrl_c_is_130_and_has_no_traceback(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tools.commands.status.time.sleep", interrupted)
    assert main(["status", str(home), "--watch"]) == 130
    assert capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_home: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tools.commands.status.read_status", bug)
    with pytest.raises(ZeroDivisionError):
        main(["status", str(home)])


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.cli", "explain"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_the_module_and_the_exit_code_of_the_process(home: Path) -> None:
    write_status(home, state="stopped", pid=None)
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "status", str(home)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("● stopped\n")
    done = subprocess.run(
        [sys.executable, "-m", "tools.cli", "status", "/nowhere"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (78, "")


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["status", "HOME"],
        ["submit", "HOME", "FILE"],
        ["pause", "HOME"],
        ["resume", "HOME"],
        ["stop", "HOME"],
        ["consolidate", "HOME"],
        ["explain"],
        ["explain", "NF-CONF-001"],
        ["retry", "HOME", "chats.jsonl"],
        ["check", "FILE"],
        ["history", "HOME"],
        ["ps", "HOME"],
    ],
    ids=" ".join,
)
def test_what_only_looks_or_leaves_a_note_never_loads_torch(argv: list[str], home: Path, tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text('{"text": "a"}\n')
    loaded = loaded_after(*[{"HOME": str(home), "FILE": str(file)}.get(word, word) for word in argv])
    assert not loaded & {"torch", "transformers", "peft", "accelerate", "tokenizers"}


def test_help_is_standard_library_alone() -> None:
    assert not loaded_after("--help") & {"msgspec", "anyio", "asyncio", "runtime", "messages"}


def test_status_loads_neither_the_kernel_nor_msgspec(home: Path) -> None:
    """It is asked from scripts and prompts, and must answer in some 60 ms: asyncio and msgspec alone cost as much."""
    assert not loaded_after("status", str(home)) & {"msgspec", "anyio", "asyncio"}


def test_explain_tells_all_that_a_person_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "conf-001"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"NF-CONF-001  {CODES['NF-CONF-001'].title}\n")
    assert all(label in out for label in ("What happened:", "Your data:", "What to do:"))


def test_explain_alone_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(CODES)


def test_explain_of_an_unknown_code_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "NF-CNF-001"]) == 2
    assert "NF-CONF-001" in capsys.readouterr().err
