"""What protects from what stands in dropped files (rows f1 to f3, f10), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

INSPECTION = "actors/validator/inspection.py"
VALIDATOR = "actors/validator/actor.py"
EXAMPLES = "messages/examples.py"
LINES = "messages/example_lines.py"
FORMATS = "messages/example_formats.py"
TORCH = "actors/trainer/torch_engine.py"
CHECK = "tools/commands/check.py"

REMOVALS = (
    gone(
        "f1",
        "bytes that JSON may not hold are named",
        (EXAMPLES, "    _check_bytes(line)\n", ""),
        tests="f1_what f1_f2",
    ),
    gone(
        "f1",
        "a byte order mark at the beginning is let be",
        (
            LINES,
            "started = True\n            yield head.removeprefix(BYTE_ORDER_MARK)",
            "started = True\n            yield head",
        ),
        tests="f1_a_mark f1_f2",
    ),
    gone(
        "f1",
        "so many findings are listed and the rest counted",
        (INSPECTION, "if len(self._errors) < self._settings.max_errors_listed:", "if True:"),
        tests="f1_the_first f1_only",
    ),
    gone(
        "f1",
        "a line has at most so many bytes",
        (LINES, "if len(line) > max_line_bytes:", "if False:"),
        tests="wherever_it_lies",
    ),
    gone("f1", "a line that is too long is not held", (LINES, "if held > max_line_bytes:", "if False:"), tests="f1_f2"),
    gone(
        "f2",
        "a text must be text",
        (
            FORMATS,
            'if not isinstance(value, str) or not value:\n        raise LineProblem(f"{path}.{key}", "a non',
            'if not value:\n        raise LineProblem(f"{path}.{key}", "a non',
        ),
        tests="f2_each_finding f1_f2",
    ),
    gone(
        "f2",
        "what must be there is asked for",
        (
            FORMATS,
            '    if key not in holder:\n        raise LineProblem(f"{path}.{key}", expected, "nothing")\n',
            "    holder.setdefault(key)\n",
        ),
        tests="f2_wrong",
    ),
    gone(
        "f3",
        "a file that teaches nothing is not begun",
        (TORCH, "        if not len(tokens):\n", "        if False:\n"),
        tests="f3_lines",
    ),
    gone(
        "f3",
        "blank lines are no lines",
        (LINES, "elif line and not line.isspace():", "elif True:"),
        tests="f3_a_file_without_examples_is_told",
    ),
    gone(
        "f3",
        "a conversation must have an answer that is trained",
        (FORMATS, "if all(turn.weight == 0 for turn in answers):", "if False:"),
        tests="f3_no_line f1_f2",
    ),
    gone(
        "f3",
        "a file without examples is rejected",
        (VALIDATOR, "        if not found.examples:\n", "        if False:\n"),
        tests="f3_a_file_without_an",
    ),
    gone(
        "f3",
        "a file without examples is an error of the check",
        (CHECK, "if not found.examples and not found.error_count:", "if False:"),
        tests="f3_a_file_without_examples_is_an",
    ),
    gone(
        "f10",
        "a file with bad lines is rejected",
        (VALIDATOR, "if found.error_count and (", "if False and ("),
        tests="f10_a_file_with",
    ),
    gone(
        "f10",
        "good lines are trained if the config says so",
        (VALIDATOR, '(self.settings.bad_lines == "reject_file" or not found.examples)', "True"),
        tests="f10_by f10_or",
    ),
    gone(
        "f10",
        "a file without a good line is rejected in any case",
        (
            VALIDATOR,
            '(self.settings.bad_lines == "reject_file" or not found.examples)',
            '(self.settings.bad_lines == "reject_file")',
        ),
        tests="f10_a_file_without",
    ),
)
