"""Where something stands still, as text: a coroutine that awaits, or a thread that works."""

from __future__ import annotations

import sys
import traceback
from types import FrameType
from typing import Any


def where_it_waits(awaited: Any) -> str:
    """The awaits of a suspended coroutine, outermost first, one line for each.

    Not ``Task.print_stack``: of a suspended task that shows the outermost coroutine alone.
    """
    lines: list[str] = []
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            lines.append(f"  awaits {awaited!r}")
            break
        lines.append(_line(frame))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join(lines)


def where_it_works(thread: int | None) -> str:
    """The frames of a running thread, outermost first; ``""`` if it is gone."""
    frame = None if thread is None else sys._current_frames().get(thread)
    return "" if frame is None else "".join(traceback.format_stack(frame)).rstrip()


def _line(frame: FrameType) -> str:
    code = frame.f_code
    return f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}'
