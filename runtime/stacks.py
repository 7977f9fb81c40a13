"""Where something stands still, or broke, as text. Our own files are named from where our packages lie.

Such text goes into events, status and trace, and so onto the disk: with whole paths, the same seed would fill a
simulated disk a little more in one checkout than in another.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

_HERE = f'File "{Path(__file__).parents[1]}/'


def where_it_waits(awaited: Any) -> str:
    """The awaits of a suspended coroutine, outermost first, one line for each.

    Not ``Task.print_stack``: of a suspended task that shows the outermost coroutine alone.
    """
    lines: list[str] = []
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            # The kind and not the thing: its repr holds an address, and the same seed would not give the same text.
            lines.append(f"  awaits {type(awaited).__qualname__}")
            break
        lines.append(_line(frame))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "\n".join(lines)


def where_it_works(thread: int | None) -> str:
    """The frames of a running thread, outermost first; ``""`` if it is gone."""
    frame = None if thread is None else sys._current_frames().get(thread)
    return "" if frame is None else _from_here("".join(traceback.format_stack(frame)).rstrip())


def where_it_broke(error: BaseException) -> str:
    """The traceback, with causes and notes."""
    return _from_here("".join(traceback.format_exception(error)).strip())


def _line(frame: FrameType) -> str:
    code = frame.f_code
    return _from_here(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_qualname}')


def _from_here(text: str) -> str:
    return text.replace(_HERE, 'File "')
