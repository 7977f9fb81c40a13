"""``python -m tools.compiling FOLDER``: a copy of the house whose hot paths are compiled, to be run or tested there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.compiling.build import CompileError, compiled_copy

PROJECT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Make the copy; exit 1 where it could not be compiled."""
    parser = argparse.ArgumentParser(prog="python -m tools.compiling", description=(__doc__ or "").strip())
    parser.add_argument("folder", type=Path, help="where to put it: new, empty, or an earlier copy, to be replaced")
    given = parser.parse_args(arguments)
    try:
        compiled_copy(PROJECT, given.folder)
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"compiled; run it as modules from {given.folder}, e.g. python -m tools.cli --version")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
