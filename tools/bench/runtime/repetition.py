"""One repetition of one contestant, in a process of its own: ``python -m tools.bench.runtime.repetition CASE WAY …``.

Says what it measured as one line of JSON, and nothing else.
"""

from __future__ import annotations

import sys

import msgspec

from runtime.hot import is_compiled
from tools.bench.runtime.cases import CASES
from tools.bench.runtime.shape import repeat


def main(case_name: str, way_name: str, seconds: float, first: int) -> None:
    """Measure and print."""
    case = CASES[case_name]
    way = case.ways[way_name]
    if way.compiled and not is_compiled():
        raise SystemExit(f"{way_name}: the hot paths here are not compiled")
    first = first or (min(case.first, way.most) if way.most else case.first)
    case.prepared()
    sample = repeat(way, first=first, seconds=seconds, fixed=case.fixed)
    sys.stdout.write(msgspec.json.encode(sample).decode() + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
