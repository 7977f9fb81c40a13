"""A generated part of a page: it stands between two markers, is printed, written there, or checked against the page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.errors import EXIT_DONE, EXIT_FAILED


def placed(text: str, part: str, begin: str, end: str) -> str:
    """``text`` with ``part`` between the markers.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"it must hold {begin} and, below it, {end}, once each")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"


def print_write_or_check(
    argv: Sequence[str] | None, *, tool: str, does: str, source: str, part: str, place: Callable[[str, str], str]
) -> int:
    """The command line of ``python -m TOOL``: print ``part``, or ``--write FILE``, or ``--check FILE``.

    Args:
        tool, does, source: the module's name, what it does, and who says what the page must say, for the help.
        place: puts the part into a page's text.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {tool}", description=does)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--write", type=Path, metavar="FILE", help="put it between the markers of FILE")
    which.add_argument("--check", type=Path, metavar="FILE", help=f"exit 1 if FILE does not say what {source}")
    given = parser.parse_args(argv)
    path: Path | None = given.write or given.check
    if path is None:
        print(part)
        return EXIT_DONE
    try:
        text = path.read_text(encoding="utf-8")
        wanted = place(text, part)
    except (OSError, ValueError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return EXIT_FAILED
    if given.write:
        if wanted != text:
            path.write_text(wanted, encoding="utf-8")
        return EXIT_DONE
    if wanted != text:
        print(f"{path} is stale: python -m {tool} --write {path}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE
