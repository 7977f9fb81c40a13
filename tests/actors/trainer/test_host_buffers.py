"""A snapshot is one copy into buffers that are files already: their bytes, standing still, and being used again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest

from actors.trainer.engine import EngineError
from actors.trainer.host_buffers import KEPT_MAX, HostBuffers
from runtime.disk import Buffer

torch = pytest.importorskip("torch")


def files() -> dict[str, dict[str, Any]]:
    """An adapter with its moments, and a generator: the types and shapes that a generation has."""
    weights = {f"layers.{layer}.{side}": torch.randn(3, 5 + layer) for layer in range(4) for side in ("A", "B")}
    moments = {f"{kind}/{name}": torch.randn_like(each) for name, each in weights.items() for kind in ("m", "v")}
    steps = {f"step/{name}": torch.tensor(7.0) for name in weights}
    return {"weights": weights, "moments": {**moments, **steps}, "rng": {"cpu": torch.get_rng_state()}}


def written(content: Mapping[str, Buffer]) -> dict[str, bytes]:
    return {name: bytes(each) for name, each in content.items()}


def by_the_library(tensors: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    from safetensors.torch import save

    return {name: save(each, metadata={"format": "pt"}) for name, each in tensors.items()}


def test_its_bytes_are_those_that_safetensors_would_write() -> None:
    now = files()
    buffers = HostBuffers(lambda: now)
    assert written(buffers.take()) == by_the_library(now)


def test_it_holds_half_precision_and_an_empty_tensor_too() -> None:
    now = {"weights": {"a": torch.randn(3).to(torch.bfloat16), "b": torch.zeros(0, 4), "c": torch.randn(2, 2)}}
    assert written(HostBuffers(lambda: now).take()) == by_the_library(now)


def test_it_stands_still_while_the_tensors_change() -> None:
    now = files()
    buffers = HostBuffers(lambda: now)
    first = buffers.take()
    before = written(first)
    now["weights"]["layers.0.A"].add_(1.0)
    second = buffers.take()
    assert written(first) == before
    assert written(second) == by_the_library(now) != before


def test_a_buffer_is_filled_again_only_once_it_was_given_back() -> None:
    now = files()
    buffers = HostBuffers(lambda: now)
    first, second = buffers.take(), buffers.take()
    assert first["weights"] is not second["weights"]
    buffers.give_back(first)
    buffers.give_back(first)  # twice is harmless: the buffer is not lent twice
    third, fourth = buffers.take(), buffers.take()
    assert third["weights"] is first["weights"]
    assert fourth["weights"] is not second["weights"]
    assert fourth["weights"] is not third["weights"]


def test_so_many_are_kept_and_no_more() -> None:
    buffers = HostBuffers(files)
    lent = [buffers.take() for _ in range(KEPT_MAX + 3)]
    for each in lent:
        buffers.give_back(each)
    assert len(buffers._free) == KEPT_MAX
    assert not buffers._lent


def test_what_another_lent_is_not_taken() -> None:
    one, other = HostBuffers(files), HostBuffers(files)
    other.give_back(one.take())
    assert not other._free


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("file", "name"), [("weights", "layers.3.B"), ("moments", "v/layers.0.A"), ("moments", "step/layers.1.A")]
)
def test_t6_a_number_that_is_not_finite_is_named_and_not_handed_on(file: str, name: str, number: float) -> None:
    now = files()
    buffers = HostBuffers(lambda: now)
    buffers.give_back(buffers.take())  # found in a buffer that is used again as well as in a new one
    now[file][name].view(-1)[-1] = number
    with pytest.raises(EngineError, match=f"{file}: {name} holds numbers that are not finite") as raised:
        buffers.take()
    assert raised.value.code == "NF-TRAIN-005"
    now[file][name].view(-1)[-1] = 0.0
    assert written(buffers.take()) == by_the_library(now)


def test_what_is_handed_out_cannot_be_written_to() -> None:
    content = HostBuffers(files).take()["weights"]
    with pytest.raises(TypeError):
        content[0] = 1  # type: ignore[index]
