"""The daemon's foreground: one plain line for each event, and a progress bar where there is a terminal."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any, TextIO

from messages import TrainingProgress
from tools.commands.home import shown


class Terminal:
    """Lines with the local time; the bar, if there is one, stays below them."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._bars = out.isatty()
        self._bar: Any = None
        self._batch = ""

    def line(self, text: str) -> None:
        """Print one event."""
        stamped = f"{datetime.now():%H:%M:%S}  {text}"  # noqa: DTZ005 - for a person at this machine
        if self._bar is not None:
            self._bar.write(stamped, file=self._out)
        else:
            self._out.write(f"{stamped}\n")
            self._out.flush()

    def progress(self, batch: TrainingProgress | None) -> None:
        """Move the bar on, or take it away."""
        if not self._bars:
            return
        if self._bar is not None and (batch is None or batch.batch != self._batch):
            self._bar.close()
            self._bar = None
        if batch is None:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._batch = batch.batch
            self._bar = tqdm(total=batch.steps, desc=shown(batch.name), unit="step", file=self._out, leave=False)
        self._bar.n = batch.step
        loss = "?" if batch.loss is None else f"{batch.loss:.3f}"
        self._bar.set_postfix_str(f"loss {loss}, {batch.tokens_per_second:.0f} tokens/s", refresh=True)
