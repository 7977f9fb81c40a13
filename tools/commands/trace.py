"""``nightfold trace``: which messages passed between the actors, told in several ways.

``tail`` hears it from the living daemon over its control socket. The other views read what was recorded under
``status/trace/``, while the daemon runs or long after; ``record`` tells whether that is done, and switches it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from runtime.errors import EXIT_DONE, EXIT_FAILED, OperatorError
from tools.commands.home import require_home


def trace(
    home: Path,
    view: str,
    argument: str | None,
    out: Path | None,
    *,
    follow: bool = False,
    run: int | Literal["all"] | None = None,
    incarnation: int | Literal["all"] | None = None,
) -> int:
    """Print one view, or write it to ``out``; for ``perfetto`` the argument may name the file too.

    Args:
        follow: ``tail`` goes on as it would on a terminal.
        run: the number of a life of the daemon, as ``list`` shows it. Without one, ``perfetto`` shows the newest, and
            the others look into all of them.
        incarnation: for ``replay``, which of the actor's lives in that run.

    Raises:
        OperatorError: NF-CONF-011, the trace does not hold what was named.
    """
    require_home(home)
    if view == "tail":
        return _tail(home, out, follow)
    if view == "record":
        from tools.commands.record import record

        return record(home, argument)
    if view == "replay":
        return _replay(home, argument, out, run, incarnation)
    from tools.trace_views.recorded import pick_run, read_runs

    recorded = read_runs(home)
    if view == "list":
        from tools.trace_views.run_list import run_list

        return _lines(run_list(recorded), out)
    if view == "perfetto":
        from tools.trace_views.perfetto import perfetto

        shown = recorded if run == "all" else [pick_run(recorded, run)]
        return _write(perfetto(shown), out or (Path(argument) if argument else None))
    if isinstance(run, int):
        recorded = [pick_run(recorded, run)]
    from tools.trace_views.batch_story import find_story, show
    from tools.trace_views.sequence import sequence

    if view == "show" and not argument:
        raise OperatorError(
            "NF-CONF-011", "show needs a batch", hint=f"nightfold trace {home} show 17, or a file's name"
        )
    story = find_story(recorded, argument or "")
    return _lines(show(story) if view == "show" else sequence(story), out)


def _tail(home: Path, out: Path | None, follow: bool) -> int:
    from tools.trace_views.tail import tail

    if out is None:
        return tail(home, sys.stdout, follow=follow)
    with out.open("w", encoding="utf-8") as file:
        return tail(home, file, follow=follow)


def _replay(
    home: Path,
    actor: str | None,
    out: Path | None,
    run: int | Literal["all"] | None,
    incarnation: int | Literal["all"] | None,
) -> int:
    from tools.replay import replay_command

    if not actor:
        raise OperatorError(
            "NF-CONF-011", "replay needs an actor", hint=f"nightfold trace {home} replay checkpointer; see nightfold ps"
        )
    agrees, lines = replay_command(home, actor, run=run, incarnation=incarnation)
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
