"""The recorded lives of the daemon, one line each: whoever looks for last night's crash finds its number here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tools.trace_views.batch_story import brief_name
from tools.trace_views.recorded import Run

BATCHES_SHOWN = 3


def run_list(runs: list[Run]) -> Iterator[str]:
    """A head line and one line a run, the newest last."""
    rows = [("run", "from", "until", "end", "records", "crashes", "batches"), *(_row(run) for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()


def _row(run: Run) -> tuple[str, ...]:
    crashes = sum(record.kind == "crashed" for record in run.records)
    return (
        str(run.number),
        _moment(run.began) + ("" if run.whole else " *"),
        _moment(run.ended),
        run.end,
        str(len(run.records)),
        str(crashes),
        _batches(run),
    )


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "?"


def _batches(run: Run) -> str:
    named = [f"{batch} {brief_name(name)}" for batch, name in sorted(run.batches.items())]
    more = f" and {len(named) - BATCHES_SHOWN} more" if len(named) > BATCHES_SHOWN else ""
    return ", ".join(named[-BATCHES_SHOWN:]) + more
