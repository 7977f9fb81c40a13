"""A checkpoint's tensors as bytes: the same as safetensors makes of them, and nothing is left in memory."""

from __future__ import annotations

import gc

import pytest

pytestmark = pytest.mark.real


def test_tensors_are_written_as_safetensors_writes_them_and_leave_nothing_for_the_collector() -> None:
    import safetensors.torch
    import torch

    from actors.trainer.adapter import serialised

    tensors = {
        "b.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).T,  # not contiguous
        "a.weight": torch.randn(5, 7),
        "step": torch.tensor(3.0),
        "rng": torch.get_rng_state(),
    }
    whole = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    assert serialised(tensors, "file") == safetensors.torch.save(whole, metadata={"format": "pt"})
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(25):
            serialised(tensors, "file")
        assert len(gc.get_objects()) - before < 25
    finally:
        gc.enable()
