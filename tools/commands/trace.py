"""``nightfold trace``: which messages passed between the actors, told in five ways.

Reads only what the daemon recorded under ``status/trace/``, so it answers while the daemon runs and long after.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from runtime.errors import EXIT_DONE, EXIT_FAILED, OperatorError
from tools.commands.home import require_home


def trace(home: Path, view: str, argument: str | None, out: Path | None) -> int:
    """Print one view, or write it to ``out``; for ``perfetto`` the argument may name the file too.

    Raises:
        OperatorError: NF-CONF-011, the trace does not hold what was named.
    """
    require_home(home)
    if view == "tail":
        return _tail(home, out)
    if view == "replay":
        return _replay(home, argument, out)
    from tools.trace_views.recorded import read_runs

    recorded = read_runs(home)
    if view == "perfetto":
        from tools.trace_views.perfetto import perfetto

        return _write(perfetto(recorded[-1]), out or (Path(argument) if argument else None))
    from tools.trace_views.batch_story import find_story, show
    from tools.trace_views.sequence import sequence

    if view == "show" and not argument:
        raise OperatorError(
            "NF-CONF-011", "show needs a batch", hint=f"nightfold trace {home} show 17, or a file's name"
        )
    story = find_story(recorded, argument or "")
    return _lines(show(story) if view == "show" else sequence(story), out)


def _tail(home: Path, out: Path | None) -> int:
    from tools.trace_views.tail import tail

    if out is None:
        tail(home, sys.stdout)
    else:
        with out.open("w", encoding="utf-8") as file:
            tail(home, file)
    return EXIT_DONE


def _replay(home: Path, actor: str | None, out: Path | None) -> int:
    from tools.replay import replay_command

    if not actor:
        raise OperatorError(
            "NF-CONF-011", "replay needs an actor", hint=f"nightfold trace {home} replay checkpointer; see nightfold ps"
        )
    agrees, lines = replay_command(home, actor)
    _lines(lines, out)
    return EXIT_DONE if agrees else EXIT_FAILED


def _lines(lines: Iterable[str], out: Path | None) -> int:
    return _write("".join(f"{line}\n" for line in lines).encode(), out)


def _write(data: bytes, out: Path | None) -> int:
    if out is None:
        sys.stdout.write(data.decode())
    else:
        out.write_bytes(data)
        print(f"wrote {out} ({len(data)} bytes)", file=sys.stderr)
    return EXIT_DONE
