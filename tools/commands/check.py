"""``nightfold check``: what is right and wrong with a file, before it is dropped anywhere.

Checks by the code that checks dropped files, and with a model renders by the code that trains on them, so what is
shown is what would be learnt. Writes nothing. Without a model neither torch nor transformers is imported. An example is
shown whole, however long: where it would be split is a home's setting, and there is no home here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import msgspec

from actors.validator.inspection import CHUNK_BYTES, Inspection, inspect
from actors.validator.settings import ValidatorSettings
from messages.example_lines import read_examples
from messages.examples import LineProblem
from messages.trouble import LineError
from runtime.disk import Disk
from runtime.errors import EXIT_BAD_DATA, EXIT_DONE, OperatorError
from tools.commands.home import shown

GREEN, PLAIN = "\033[32m", "\033[0m"


class Shown(msgspec.Struct, frozen=True):
    """One example as the model sees it: ids, which of them are trained, and the text in runs of either kind."""

    line: int
    input_ids: list[int]
    trained: list[bool]
    runs: list[tuple[str, bool]]


class Findings(msgspec.Struct):
    """What is wrong with a file: what the lines say, and what the model's template says about them."""

    errors: list[LineError]
    error_count: int

    def add(self, error: LineError) -> None:
        """Count it, and list it if there is room."""
        self.error_count += 1
        if len(self.errors) < ValidatorSettings().max_errors_listed:
            self.errors.append(error)


def check(files: list[Path], model: Path | str | None, as_json: bool, out: TextIO) -> int:
    """Check ``files``, print what was found, return the exit code: 65 if any of them has an error.

    Raises:
        OperatorError: NF-DATA-004, 006 or 007; a file that is none, cannot be read, or a model without tokenizer.
    """
    for file in files:
        if not file.is_file():
            what = "is not a regular file" if file.exists() else "does not exist"
            raise OperatorError("NF-DATA-004", f"{shown(file)} {what}", hint="name a *.jsonl file")
    renderer = _renderer(Path(model)) if model is not None else None
    reports = []
    for file in files:
        try:
            reports.append(_check_file(file, renderer, as_json, out))
        except BrokenPipeError:
            raise  # it is our reader that has seen enough, not the file that cannot be read
        except OSError as error:
            why = error.strerror or str(error)
            hint = "see its permissions; it was not changed"
            raise OperatorError("NF-DATA-006", f"{shown(file)} cannot be read: {why}", hint=hint) from error
    if as_json:
        whole: dict[str, Any] = {"files": reports}
        if len(reports) == 1:
            whole["examples"] = reports[0].get("examples", [])
            whole["errors"] = reports[0]["errors"]
        json.dump(whole, out)
        out.write("\n")
    return EXIT_BAD_DATA if any(report["error_count"] for report in reports) else EXIT_DONE


def _check_file(file: Path, renderer: Any, as_json: bool, out: TextIO) -> dict[str, Any]:
    """Check one file and return its part of the JSON; without ``as_json``, print it for a person."""
    # Its folder stands in for a home: the port then reads the file by its bare name.
    disk = Disk(file.parent)
    found = inspect(disk, file.name, ValidatorSettings())
    findings = Findings(list(found.errors), found.error_count)
    if not found.examples and not found.error_count:
        findings.add(LineError(1, "$", "at least one example", "only blank lines" if found.lines else "an empty file"))
    examples: list[dict[str, Any]] = []
    if not as_json:
        out.write(_summary(file, found, findings))
    for one in _shown(disk, file.name, renderer, findings) if renderer is not None else ():
        if as_json:
            examples.append({"line": one.line, "input_ids": one.input_ids, "trained": one.trained})
        else:
            out.write(_marked(file, one, _colours(out)))
    if not as_json:
        _write_findings(file, found, findings, out)
    report: dict[str, Any] = {"file": str(file)}
    if renderer is not None:
        report["examples"] = examples
    report["example_count"] = found.examples
    report["errors"] = [msgspec.structs.asdict(error) for error in findings.errors]
    report["error_count"] = findings.error_count
    report["digest"] = found.digest
    return report


def _summary(file: Path, found: Inspection, findings: Findings) -> str:
    parts = [_count(found.examples, "example"), _count(found.lines, "line")]
    if findings.error_count:
        parts.append(_count(findings.error_count, "error"))
    return f"{shown(file)}: {', '.join(parts)}, {found.size_bytes} bytes\n"


def _write_findings(file: Path, found: Inspection, findings: Findings, out: TextIO) -> None:
    for error in findings.errors:
        where = f"{shown(file)}:{error.line}: {error.path}"
        out.write(f"{where}: expected {error.expected}, found {error.found}\n")
    if findings.error_count > len(findings.errors):
        out.write(f"{shown(file)}: and {_count(findings.error_count - len(findings.errors), 'more error')}\n")
    out.writelines(f"{shown(file)}: {warning}\n" for warning in found.warnings)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _renderer(model: Path) -> Any:
    """What the Trainer renders with, for the tokenizer in the folder ``model``."""
    if not model.is_dir():
        raise OperatorError("NF-DATA-007", f"{shown(model)} is not a folder", hint="name the folder of a model")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    from actors.trainer.rendering import Renderer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model), local_files_only=True, trust_remote_code=False)
        return Renderer(tokenizer)
    except (OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        hint = "name the folder of a model with its tokenizer.json"
        raise OperatorError("NF-DATA-007", f"{shown(model)}: {shown(first)}", hint=hint) from error


def _shown(disk: Disk, name: str, renderer: Any, findings: Findings) -> Iterator[Shown]:
    """Each good line as the model sees it. One that teaches this model nothing is a finding of its own."""
    for line, example in read_examples(disk.chunks(name, CHUNK_BYTES)):
        if isinstance(example, LineProblem):
            continue  # it is among the findings already
        rendered = renderer.render(example)
        if not isinstance(rendered, list):
            findings.add(LineError(line, "$", "something this model can learn from", shown(rendered.why)))
            continue
        for window in rendered:
            ids, trained = window.input_ids, window.trained
            runs = [
                (renderer.tokenizer.decode([ids[at] for at in run], skip_special_tokens=False), learnt)
                for learnt, group in groupby(range(len(ids)), key=trained.__getitem__)
                if (run := list(group))
            ]
            yield Shown(line, ids, trained, runs)


def _colours(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR")


def _marked(file: Path, one: Shown, colours: bool) -> str:
    begin, end = (GREEN, PLAIN) if colours else ("[[", "]]")
    text = "".join(f"{begin}{_safe(part)}{end}" if learnt else _safe(part) for part, learnt in one.runs)
    tokens = f"{_count(len(one.input_ids), 'token')}, {sum(one.trained)} trained"
    return f"--- {shown(file)}:{one.line}: {tokens}\n{text}\n"


def _safe(text: str) -> str:
    """Text as it stands, but for what could steer a terminal or hide in it."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
