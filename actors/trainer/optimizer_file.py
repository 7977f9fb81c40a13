"""The optimizer and the random generators: their state as files, by parameter name, all or refuse.

Guarantees that an optimizer's file is complete from its first step on (fresh moments are zeros, not absent), so that
nothing can be silently fresh, and that the same state gives the same bytes.
"""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError

from actors.trainer.adapter import all_or_refuse
from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings

OPTIMIZER = "optimizer.safetensors"
RNG = "rng.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


def fresh_adamw(parameters: dict[str, torch.nn.Parameter], settings: TrainerSettings) -> torch.optim.AdamW:
    """AdamW with all its state in place: step 0 and zero moments, which is what it would begin with itself."""
    optimizer = torch.optim.AdamW(
        [parameters[name] for name in sorted(parameters)],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        weight_decay=settings.weight_decay,
    )
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.tensor(0.0),
            **{moment: torch.zeros_like(parameter, memory_format=torch.preserve_format) for moment in MOMENTS},
        }
    return optimizer


def read_optimizer(content: bytes, optimizer: torch.optim.AdamW, parameters: dict[str, torch.nn.Parameter]) -> None:
    """Put the state in ``content`` into a fresh optimizer."""
    own = optimizer_tensors(optimizer, parameters)
    read = all_or_refuse(content, {name: each.shape for name, each in own.items()}, OPTIMIZER)
    for name, tensor in own.items():
        tensor.copy_(read[name])


def optimizer_tensors(
    optimizer: torch.optim.AdamW, parameters: dict[str, torch.nn.Parameter]
) -> dict[str, torch.Tensor]:
    """What ``optimizer.safetensors`` holds. The optimizer changes these in their place for as long as it lives."""
    return {
        f"{kind}/{name}": optimizer.state[parameter][kind]
        for name, parameter in parameters.items()
        for kind in ("step", *MOMENTS)
    }


class Generators:
    """The states of torch's random generators that training owns.

    They are put in place for a step and taken away after it, so that nothing else in the process, and no measuring in
    between, draws from them.
    """

    def __init__(self, device: str, seed: int) -> None:
        self._cuda = device if device.startswith("cuda") else None
        torch.manual_seed(seed)
        self.take_away()

    def put_in_place(self) -> None:
        torch.set_rng_state(self._states["cpu"])
        if self._cuda:
            torch.cuda.set_rng_state(self._states["cuda"], self._cuda)

    def take_away(self) -> None:
        self._states = {"cpu": torch.get_rng_state()}
        if self._cuda:
            self._states["cuda"] = torch.cuda.get_rng_state(self._cuda)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What ``rng.safetensors`` holds: the states as they are now."""
        return dict(self._states)

    def read(self, content: bytes) -> None:
        """Go on from the states in ``content``.

        A home that moved to another kind of device keeps what both have; a generator that was not there before goes
        on from its seed, for noise is not something learnt.
        """
        try:
            read = safetensors.torch.load(content)
        except SafetensorError as error:
            raise EngineError("NF-MODEL-008", f"{RNG} is damaged: {error}") from error
        if "cpu" not in read or any(
            name in read and read[name].shape != state.shape for name, state in self._states.items()
        ):
            raise EngineError("NF-MODEL-008", f"{RNG} does not hold the generators' states")
        self._states.update({name: read[name] for name in self._states if name in read})
