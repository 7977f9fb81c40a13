"""check: says what is wrong with a file and where, and with a model exactly what would be learnt."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import blake3
import pytest

from runtime.errors import EXIT_BAD_DATA, EXIT_DONE, OperatorError
from tools.commands.check import check

GOOD = '{"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"cd"}]}\n{"text":"ef"}\n'
BAD = '{"text":"ef"}\n\n{"text":5}\n'
WRONG = {"line": 3, "path": "$.text", "expected": "a non-empty string", "found": "5"}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.jsonl"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.jsonl"
    file.write_text(BAD)
    return file


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of one token a byte, which ends turns with ``</s>``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    coder = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    coder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    coder.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=coder, eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}:{{ m.content }}</s>{% endfor %}"
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder)
    return folder


def told(*files: Path, model: Path | None = None) -> tuple[int, str]:
    out = io.StringIO()
    return check(list(files), model, False, out), out.getvalue()


def as_json(*files: Path, model: Path | None = None) -> tuple[int, dict[str, Any]]:
    out = io.StringIO()
    code = check(list(files), model, True, out)
    return code, json.loads(out.getvalue())


def test_a_good_file_is_one_line(good: Path) -> None:
    assert told(good) == (EXIT_DONE, f"{good}: 2 examples, 2 lines, {len(GOOD)} bytes\n")


@pytest.mark.real
def test_f2_each_finding_names_file_line_and_path(good: Path, bad: Path) -> None:
    code, text = told(good, bad)
    assert code == EXIT_BAD_DATA
    assert text.splitlines()[1:] == [
        f"{bad}: 1 example, 3 lines, 1 error, {len(BAD)} bytes",
        f"{bad}:3: $.text: expected a non-empty string, found 5",
    ]


def test_json_for_several_files(good: Path, bad: Path) -> None:
    code, found = as_json(good, bad)
    assert code == EXIT_BAD_DATA
    assert found == {
        "files": [
            {
                "file": str(good),
                "example_count": 2,
                "errors": [],
                "error_count": 0,
                "digest": f"blake3:{blake3.blake3(GOOD.encode()).hexdigest()}",
            },
            {
                "file": str(bad),
                "example_count": 1,
                "errors": [WRONG],
                "error_count": 1,
                "digest": f"blake3:{blake3.blake3(BAD.encode()).hexdigest()}",
            },
        ]
    }


def test_json_for_one_file_has_examples_and_errors_at_the_top(bad: Path) -> None:
    code, found = as_json(bad)
    assert (code, found["errors"], found["examples"]) == (EXIT_BAD_DATA, [WRONG], [])


@pytest.mark.real
def test_f1_only_twenty_findings_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("bad\n" * 1000)
    lines = told(file)[1].splitlines()
    assert len(lines) == 22
    assert lines[-1] == f"{file}: and 980 more errors"
    found = as_json(file)[1]
    assert (len(found["errors"]), found["files"][0]["error_count"]) == (20, 1000)


@pytest.mark.parametrize(("content", "what"), [("", "an empty file"), ("\n \n", "only blank lines")])
@pytest.mark.real
def test_f3_a_file_without_examples_is_an_error(tmp_path: Path, content: str, what: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    code, text = told(file)
    assert code == EXIT_BAD_DATA
    assert text.endswith(f"{file}:1: $: expected at least one example, found {what}\n")


def test_repetitions_are_a_warning_and_no_error(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text":"a"}\n' * 3)
    code, text = told(file)
    assert code == EXIT_DONE
    assert "2 examples repeat an earlier line" in text


@pytest.mark.real
def test_f7_what_is_not_a_file_is_the_operators_mistake(tmp_path: Path, good: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    out = io.StringIO()
    for wrong in (tmp_path, tmp_path / "none.jsonl", tmp_path / "pipe.jsonl"):
        with pytest.raises(OperatorError, match="NF-DATA-004"):
            check([good, wrong], None, False, out)
    assert out.getvalue() == ""


@pytest.mark.real
def test_f7_odd_names_are_shown_safely(tmp_path: Path) -> None:
    file = tmp_path / "-\n\x1b[31m\U0001f319.jsonl"
    file.write_text(BAD)
    text = told(file)[1]
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
    assert as_json(file)[1]["files"][0]["file"] == str(file)


def test_a_model_shows_which_tokens_are_trained(good: Path, model: Path) -> None:
    code, text = told(good, model=model)
    assert code == EXIT_DONE
    assert text.splitlines()[1:] == [
        f"--- {good}:1: 21 tokens, 3 trained",
        "user:ab</s>assistant:[[cd</s>]]",
        f"--- {good}:2: 3 tokens, 3 trained",
        "[[ef</s>]]",
    ]


def test_a_model_in_json_gives_ids_and_what_is_trained(bad: Path, model: Path) -> None:
    code, found = as_json(bad, model=model)
    assert code == EXIT_BAD_DATA
    assert found["errors"] == [WRONG]
    assert found["examples"] == found["files"][0]["examples"]
    (only,) = found["examples"]
    assert only["line"] == 1
    assert len(only["input_ids"]) == 3
    assert only["trained"] == [True, True, True]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "marked"), [("", "\033[32mcd</s>\033[0m"), ("1", "[[cd</s>]]")])
def test_a_terminal_gets_colour_unless_it_wants_none(
    good: Path, model: Path, monkeypatch: pytest.MonkeyPatch, no_color: str, marked: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    screen = Screen()
    check([good], model, False, screen)
    assert f"assistant:{marked}" in screen.getvalue()


def test_what_an_example_says_cannot_steer_the_terminal(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "a\x1b[2J\nb\u202e"}))
    text = told(file, model=model)[1]
    assert "[[a\\x1b[2J\nb\\u202e</s>]]" in text


def test_an_example_that_teaches_this_model_nothing_is_an_error(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.trainer.rendering import Renderer, Unrenderable

    monkeypatch.setattr(Renderer, "render", lambda *_: Unrenderable("nothing in it would be trained"))
    file = tmp_path / "a.jsonl"
    file.write_text('\n{"text":"a"}\n')
    code, found = as_json(file, model=model)
    assert code == EXIT_BAD_DATA
    assert found["errors"][0]["line"] == 2
    assert found["errors"][0]["found"] == "nothing in it would be trained"


def test_a_folder_without_a_tokenizer_is_the_operators_mistake(good: Path, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(OperatorError, match="NF-DATA-007"):
            check([good], wrong, False, io.StringIO())


def test_without_a_model_torch_is_not_imported(good: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tools.commands.check import check; "
        "assert check([Path(sys.argv[1])], None, False, sys.stdout) == 0; "
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(good)], check=True, timeout=60)
