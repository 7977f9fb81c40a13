"""The adapter: LoRA matrices on a frozen base, and the two files that hold them as PEFT would.

Guarantees that a fresh adapter is a pure function of (seed, adapter id, model), that the files load with plain
``PeftModel.from_pretrained`` and depend on nothing but the weights, and that loading is all or refuse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import safetensors.numpy
import safetensors.torch
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError

from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def seed_of(*parts: object) -> int:
    """A seed for torch, derived from what the parts say."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Adapter:
    """The adapter in training, on its base.

    Args:
        base: the frozen model.
        settings: what a fresh adapter looks like.
        base_name: what the config file calls the base.
        config: the config file of the adapter to load. Its shape holds, whatever the settings say by now: a changed
            rank is for the next adapter. ``None`` for a fresh one.
        seed: of the fresh matrices.
    """

    def __init__(self, base: Any, settings: TrainerSettings, base_name: str, config: bytes | None, seed: int) -> None:
        self.config = _lora(settings, base_name) if config is None else _lora_as_read(settings, base_name, config)
        # PEFT puts what the model calls itself into the config: a path of this machine, were it left alone.
        base.name_or_path = base_name
        vocabulary = _vocabulary_modules(base)
        torch.manual_seed(seed)
        try:
            self.model = get_peft_model(base, self.config)
        except ValueError as error:
            raise EngineError("NF-MODEL-007", f"the adapter does not fit the model: {error}") from error
        if config is None:
            _refuse_vocabulary(self.model, vocabulary)
        state = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        self.parameters: dict[str, torch.nn.Parameter] = {
            name.replace(".default.", "."): parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        if sorted(state) != sorted(self.parameters):
            raise EngineError("NF-MODEL-007", "PEFT would save other tensors than the ones that are trained")

    def read(self, weights: bytes) -> None:
        """Take the matrices from the content of a weights file."""
        tensors = all_or_refuse(weights, {name: each.shape for name, each in self.parameters.items()}, WEIGHTS)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[name])

    def files(self) -> dict[str, bytes]:
        """Both files' content."""
        return {
            WEIGHTS: serialised({name: each.detach() for name, each in self.parameters.items()}, WEIGHTS),
            CONFIG: self._config_file(),
        }

    def _config_file(self) -> bytes:
        plain = self.config.to_dict()
        plain["inference_mode"] = True
        # PEFT keeps some fields as sets, whose order changes from process to process.
        return (json.dumps(plain, indent=2, sort_keys=True, default=_sorted_set) + "\n").encode()


def _vocabulary_modules(base: Any) -> list[str]:
    """Where the embeddings and the head are in the model."""
    both = (base.get_input_embeddings(), base.get_output_embeddings())
    return [name for name, module in base.named_modules() if any(module is one for one in both)]


def _refuse_vocabulary(model: Any, vocabulary: list[str]) -> None:
    """Refuse to begin an adapter on embeddings or head, while nothing is learnt yet that could not be folded in.

    Many models keep one tensor for both. Adding to the one would change the other, so no night would merge such an
    adapter: it is refused before a day is spent on it.
    """
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    for module in vocabulary:
        if any(name.startswith(f"base_model.model.{module}.") for name in trained):
            raise EngineError(
                "NF-MODEL-007",
                f"[trainer] targets names {module}: an adapter on embeddings or head cannot be folded in, for many "
                "models keep one tensor for both",
            )


def all_or_refuse(content: bytes, expected: Mapping[str, torch.Size], file: str) -> dict[str, torch.Tensor]:
    """The tensors in a safetensors file, if they are exactly those expected.

    Raises:
        EngineError: NF-MODEL-008, one is missing, unknown, of another shape, or not finite.
    """
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        raise EngineError("NF-MODEL-008", f"{file} is damaged: {error}") from error
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            what = "is missing in" if name in expected else "is not known to this model, but in"
            raise EngineError("NF-MODEL-008", f"the tensor {name} {what} {file}")
        if tensors[name].shape != expected[name]:
            found, wanted = tuple(tensors[name].shape), tuple(expected[name])
            raise EngineError("NF-MODEL-008", f"{file}: {name} has the shape {found}, expected {wanted}")
        if tensors[name].is_floating_point() and not tensors[name].isfinite().all():
            raise EngineError("NF-MODEL-008", f"{file}: {name} holds numbers that are not finite")
    return tensors


def serialised(tensors: Mapping[str, torch.Tensor], file: str) -> bytes:
    """A safetensors file: the same bytes for the same tensors.

    Raises:
        EngineError: NF-TRAIN-005, a number is not finite.
    """
    on_host = {name: tensors[name].to("cpu", copy=True).contiguous() for name in sorted(tensors)}
    for name, tensor in on_host.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise EngineError("NF-TRAIN-005", f"{file}: {name} holds numbers that are not finite; it is not saved")
    # Over numpy's views: ``safetensors.torch.save`` leaves a cycle of objects behind for each tensor, which lie there
    # until the collector has a reason to look at everything.
    content: bytes = safetensors.numpy.save(
        {name: tensor.numpy() for name, tensor in on_host.items()}, metadata={"format": "pt"}
    )
    return content


def _lora(settings: TrainerSettings, base_name: str, **as_read: Any) -> LoraConfig:
    shape: dict[str, Any] = {
        "r": settings.rank,
        "lora_alpha": settings.lora_alpha,
        "use_rslora": settings.rslora,
        "target_modules": settings.targets,
    }
    return LoraConfig(
        **{**shape, **as_read},
        lora_dropout=settings.dropout,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
    )


def _lora_as_read(settings: TrainerSettings, base_name: str, config: bytes) -> LoraConfig:
    try:
        read = json.loads(config)
        shape = {name: read[name] for name in ("r", "lora_alpha", "use_rslora", "target_modules")}
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError("NF-MODEL-008", f"{CONFIG} cannot be read: {error}") from error
    return _lora(settings, base_name, **shape)


def _sorted_set(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} in the adapter's config")
