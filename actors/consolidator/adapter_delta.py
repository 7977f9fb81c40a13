"""A LoRA adapter as what it adds to the base: for each weight, a scaling and two factors on disk.

Guarantees: every tensor of the adapter is matched with exactly one weight of the base and every figure of its config
that changes the arithmetic is either handled or refused; nothing is skipped in silence. Factors are read one weight
at a time, so an adapter of any size costs little memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from actors.consolidator.merge_problem import MergeProblem
from actors.consolidator.weights_file import TensorPlace, read_weights_file

UNSUPPORTED = "NF-MERGE-020"
NOT_ONE_TO_ONE = "NF-MERGE-021"
ADAPTER_DAMAGED = "NF-MERGE-022"

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
PREFIX = "base_model.model."

# Set by peft or by people, and without any effect on what a finished adapter adds to the weights.
HARMLESS = {
    "arrow_config_path", "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "lora_dropout",
    "lora_ga_config", "megatron_config", "megatron_core", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "target_modules", "task_type",
}  # fmt: skip
HANDLED = {
    "alpha_pattern", "bias", "fan_in_fan_out", "init_lora_weights", "lora_alpha", "peft_type", "r", "rank_pattern",
    "use_rslora",
}  # fmt: skip
# These initialisations leave the base unchanged; pissa, olora, corda, loftq and their like subtract from it, so such
# an adapter does not stand on the pristine base at all.
INITS_THAT_SPARE_THE_BASE = (True, False, None, "gaussian", "eva", "orthogonal")
EMBEDDINGS_AND_HEADS = {
    "embed_tokens", "lm_head", "wte", "wpe", "embed_in", "embed_out", "word_embeddings", "tok_embeddings", "embedding",
    "embeddings", "output_layer", "score",
}  # fmt: skip


class LowRank(msgspec.Struct, frozen=True):
    """``scaling * B @ A`` for one weight, transposed where ``transposed`` (Conv1D keeps its weight the other way)."""

    file: Path
    factor_a: TensorPlace
    factor_b: TensorPlace
    scaling: float
    transposed: bool


class LoraConfig(msgspec.Struct):
    """The part of ``adapter_config.json`` that decides the arithmetic."""

    peft_type: str
    r: int
    lora_alpha: float
    use_rslora: bool = False
    fan_in_fan_out: bool = False
    bias: str = "none"
    init_lora_weights: bool | str | None = True
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None

    def rank(self, module: str) -> int:
        """The rank of one module, by the first pattern that matches it, as peft looks it up."""
        return int(_by_pattern(self.rank_pattern or {}, module, self.r))

    def scaling(self, module: str) -> float:
        """What ``B @ A`` is multiplied with."""
        alpha = _by_pattern(self.alpha_pattern or {}, module, self.lora_alpha)
        rank = self.rank(module)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def read_config(adapter: Path) -> LoraConfig:
    """Read and judge ``adapter_config.json``.

    Raises:
        MergeProblem: it is missing, unreadable, or asks for arithmetic that is not plain LoRA.
    """
    path = adapter / ADAPTER_CONFIG
    if not path.is_file():
        raise MergeProblem(ADAPTER_DAMAGED, f"{adapter} has no {ADAPTER_CONFIG}, so it is no adapter folder")
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
        if fields.get("peft_type") != "LORA":
            raise MergeProblem(
                UNSUPPORTED, f"{path}: peft_type is {fields.get('peft_type')!r}; only LORA can be merged"
            )
        config = msgspec.convert(fields, LoraConfig)
    except ValueError as error:  # msgspec's own errors, and what it raises over bytes that are not UTF-8
        raise MergeProblem(ADAPTER_DAMAGED, f"{path}: {error}") from None
    for name, value in fields.items():
        if value and name not in HARMLESS | HANDLED:
            raise MergeProblem(UNSUPPORTED, f"{path}: {name} is set; only plain LoRA can be merged exactly")
    if config.bias != "none":
        raise MergeProblem(UNSUPPORTED, f"{path}: bias is {config.bias!r}; trained biases cannot be merged")
    if config.init_lora_weights not in INITS_THAT_SPARE_THE_BASE:
        raise MergeProblem(
            UNSUPPORTED,
            f"{path}: init_lora_weights is {config.init_lora_weights!r}, which also changed the base it was trained on",
        )
    return config


def read_delta(adapter: Path, base: BaseNames) -> dict[str, LowRank]:
    """What the adapter adds, by the name of the base's tensor.

    Raises:
        MergeProblem: not plain LoRA, damaged, or not one to one with the base.
    """
    config = read_config(adapter)
    path = adapter / ADAPTER_WEIGHTS
    if not path.is_file():
        raise MergeProblem(ADAPTER_DAMAGED, f"{adapter} has no {ADAPTER_WEIGHTS} (pickled adapters are never opened)")
    factors: dict[str, dict[str, TensorPlace]] = {}
    for place in read_weights_file(path, ADAPTER_DAMAGED).tensors:
        module, factor = _module_and_factor(place.name, path)
        factors.setdefault(module, {})[factor] = place
    if not factors:
        raise MergeProblem(ADAPTER_DAMAGED, f"{path} holds no tensors")
    delta: dict[str, LowRank] = {}
    for module, pair in factors.items():
        if set(pair) != {"lora_A", "lora_B"}:
            raise MergeProblem(ADAPTER_DAMAGED, f"{path}: {module} has {', '.join(pair)} alone, not both factors")
        weight = base.weight_of(module)
        if weight.name in delta:
            raise MergeProblem(NOT_ONE_TO_ONE, f"{path}: two of its modules match {weight.name} of the base")
        low_rank = LowRank(path, pair["lora_A"], pair["lora_B"], config.scaling(module), config.fan_in_fan_out)
        _check_shapes(low_rank, weight, config.rank(module))
        delta[weight.name] = low_rank
    return delta


class BaseNames:
    """Finds the base's tensor that a module of the adapter means."""

    def __init__(self, tensors: Iterable[TensorPlace]) -> None:
        self._by_name = {place.name: place for place in tensors}
        self._by_ending: dict[str, list[str]] | None = None

    def weight_of(self, module: str) -> TensorPlace:
        """The weight of ``module``: by its exact name, else by the one name that ends alike.

        A checkpoint may lack or add a prefix (``model.``, ``transformer.``) beside the module path that peft saw.
        """
        wanted = f"{module}.weight"
        if wanted in self._by_name:
            return self._by_name[wanted]
        if self._by_ending is None:
            self._by_ending = {}
            for name in self._by_name:
                for ending in _endings(name):
                    self._by_ending.setdefault(ending, []).append(name)
        longer = self._by_ending.get(wanted, [])
        shorter = [ending for ending in _endings(wanted) if ending in self._by_name and ending != "weight"]
        found = sorted({*longer, *shorter})
        if len(found) != 1:
            many = f"; {', '.join(found[:3])} all could be it" if found else ""
            raise MergeProblem(NOT_ONE_TO_ONE, f"the adapter's {module} matches no single weight of the base{many}")
        return self._by_name[found[0]]


def _module_and_factor(name: str, path: Path) -> tuple[str, str]:
    match = re.fullmatch(re.escape(PREFIX) + r"(.+)\.(lora_[AB])\.weight", name)
    if match is None:
        kind = "an embedding" if "lora_embedding" in name else "DoRA" if "magnitude" in name else "not plain LoRA"
        raise MergeProblem(
            UNSUPPORTED, f"{path}: {name} is {kind}; only lora_A and lora_B of linear layers can be merged"
        )
    module = match[1]
    if module.rpartition(".")[2] in EMBEDDINGS_AND_HEADS:
        raise MergeProblem(
            UNSUPPORTED,
            f"{path}: {module} is an embedding or head, which many models tie to one another; merging would part them",
        )
    return module, match[2]


def _check_shapes(low_rank: LowRank, weight: TensorPlace, rank: int) -> None:
    a, b = low_rank.factor_a, low_rank.factor_b
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise MergeProblem(
            ADAPTER_DAMAGED,
            f"{low_rank.file}: {a.name} {list(a.shape)} and {b.name} {list(b.shape)} are not of rank {rank}, as its "
            "config has it",
        )
    expected = (b.shape[0], a.shape[1])
    if low_rank.transposed:
        expected = (expected[1], expected[0])
    if weight.shape != expected:
        raise MergeProblem(
            NOT_ONE_TO_ONE,
            f"{low_rank.file}: its factors make {list(expected)} for {weight.name}, which is {list(weight.shape)} "
            "in the base: another base model?",
        )


def _by_pattern(patterns: dict[str, int] | dict[str, float], module: str, default: float) -> float:
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _endings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[cut:]) for cut in range(1, len(parts))]
