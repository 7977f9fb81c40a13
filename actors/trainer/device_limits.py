"""What a device has to give and how it says no: cores, memory, and the errors that are not the program's.

Knows nothing of models or training.
"""

from __future__ import annotations

import gc
import os

import torch

from actors.trainer.engine import EngineError

MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
DEVICE_WORDS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "device-side", "MPS backend")


def out_of_memory(error: RuntimeError) -> bool:
    """Is this want of memory? The CPU's allocator has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MEMORY_WORDS)


def device_trouble(error: RuntimeError) -> EngineError | None:
    """The error to raise if the device or its driver failed; worth another try from the last commit."""
    if out_of_memory(error) or not any(words in str(error) for words in DEVICE_WORDS):
        return None
    first = str(error).partition("\n")[0]
    return EngineError("NF-TRAIN-011", f"the device failed: {first}", transient=True)


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
