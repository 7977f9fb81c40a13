"""AdamW's moments: from torch's numbers to the names of the parameters, all or refuse.

torch numbers the parameters in the order in which the optimizer got them, group after group. A trainer hands over the
adapter's trainable parameters in the order in which the model enumerates them, which is the order of ``Adapter``. Every
shape is held against it. Where torch noted the names themselves (``param_names``), they decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

KINDS = ("exp_avg", "exp_avg_sq")
WRAPPERS = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before each name."""


class DoNotFitError(Exception):
    """The moments are not those of this adapter; the text says why."""


class Moments(msgspec.Struct, frozen=True):
    """By parameter: ``step``, ``exp_avg``, ``exp_avg_sq`` in float32; and the figures the optimizer went by."""

    of: Mapping[str, Mapping[str, Any]]
    figures: Mapping[str, Any]

    @property
    def step(self) -> int:
        """How many steps they have seen, by the parameter that has seen the most."""
        return max(int(each["step"]) for each in self.of.values())


def moments_by_name(saved: object, shapes: Mapping[str, torch.Size]) -> Moments:
    """The moments of every parameter in ``shapes``, which stand in the order of the model.

    Raises:
        DoNotFitError: one is missing, left over, of another shape or kind, or not finite. None is taken then.
    """
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict):
        raise DoNotFitError("it is not the state_dict of an optimizer")
    groups = _groups(saved.get("param_groups"))
    numbers = [number for group in groups for number in group["params"]]
    names = _names(groups, list(shapes))
    if len(numbers) != len(names):
        raise DoNotFitError(f"it has {len(numbers)} parameters, and the adapter has {len(names)}")
    if left := sorted(map(str, saved["state"].keys() - set(numbers))):
        raise DoNotFitError(f"it has moments of parameters in no group: {left[0]}")
    found = {
        name: _one(name, number, saved["state"].get(number), shapes[name])
        for name, number in zip(names, numbers, strict=True)
    }
    return Moments(found, {name: value for name, value in groups[0].items() if name not in ("params", "param_names")})


def _groups(groups: object) -> list[dict[str, Any]]:
    """Those that hold parameters: trainers often make a second, empty one for what is not to decay."""
    if not isinstance(groups, list) or not all(
        isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
    ):
        raise DoNotFitError("it has no param_groups")
    filled = [group for group in groups if group["params"]]
    if not filled:
        raise DoNotFitError("it has no parameters")
    for group in filled:
        for name in ("amsgrad", "maximize"):
            if group.get(name):
                raise DoNotFitError(f"it is an AdamW with {name}, whose moments mean something else")
    return filled


def _names(groups: list[dict[str, Any]], in_order: list[str]) -> list[str]:
    if all("param_names" in group for group in groups):
        named = [_plain(str(name)) for group in groups for name in group["param_names"]]
        if sorted(named) != sorted(in_order):
            odd = sorted(set(named) ^ set(in_order))
            raise DoNotFitError(f"it names other parameters than the adapter's: {odd[0] if odd else 'one twice'}")
        return named
    if len(groups) > 1:
        # Shapes alone cannot tell which of two groups a matrix is of, and guessing would mix moments up unseen.
        raise DoNotFitError(f"its parameters stand in {len(groups)} groups without names: their order is not known")
    return in_order


def _plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name.replace(".default.", ".")


def _one(name: str, number: object, state: object, shape: torch.Size) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise DoNotFitError(f"it has no moments of parameter {number} ({name})")
    kinds = sorted(map(str, state))
    if kinds != sorted(("step", *KINDS)):
        raise DoNotFitError(f"parameter {number} ({name}) has {', '.join(kinds)}, not AdamW's moments")
    step = state["step"]
    if not isinstance(step, int | float | torch.Tensor) or (isinstance(step, torch.Tensor) and step.numel() != 1):
        raise DoNotFitError(f"parameter {number} ({name}) has no step count")
    steps = float(step)
    if not 0 <= steps < math.inf:
        raise DoNotFitError(f"parameter {number} ({name}) is at step {steps}")
    found: dict[str, Any] = {"step": torch.tensor(steps)}
    for kind in KINDS:
        tensor = state[kind]
        if not isinstance(tensor, torch.Tensor) or tensor.shape != shape:
            said = tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise DoNotFitError(f"{kind} of parameter {number} has the shape {said}, and {name} has {tuple(shape)}")
        plain = tensor.float()
        possible = tensor.is_floating_point() and plain.isfinite().all() and (kind == "exp_avg" or (plain >= 0).all())
        if not possible:
            raise DoNotFitError(f"{kind} of parameter {number} ({name}) holds numbers that cannot be")
        found[kind] = plain
    return found
