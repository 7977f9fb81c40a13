"""Reads the ``.pt`` and ``.bin`` files of an older trainer: the one place where a pickle is opened.

Guarantees that nothing in such a file is run: ``torch.load(weights_only=True)`` rebuilds tensors and plain values and
refuses everything else, and nothing here ever tries again without it. Old moments exist in no other form.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch


class UnreadableError(Exception):
    """The file is damaged, or it asks for more than tensors and plain values; the text says which."""


def read_torch_file(path: Path) -> object:
    """What is in the file, with every tensor in the memory of the host.

    Raises:
        UnreadableError: it was not read, and nothing of it was run.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UnreadableError(_refusal(str(error))) from error
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        # Which of these a damaged file ends in hangs on where it was cut.
        raise UnreadableError(f"it is damaged: {_first_line(error)}") from error


def _refusal(text: str) -> str:
    """The reason out of torch's long advice, which goes on to recommend opening the file without protection."""
    reason = next((line.strip() for line in text.splitlines() if "Unsupported" in line or "GLOBAL" in line), "")
    return f"it holds more than tensors and plain values, so it was not opened{': ' + reason[:200] if reason else ''}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
