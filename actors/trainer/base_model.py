"""The base model: where it lies, what it is, and how it is loaded.

Guarantees: weights come from safetensors alone, no code of the model's own is run, and a folder that is missing,
damaged or incomplete is an ``EngineError`` in words, never a model with random weights in some place. Importing this
does not import torch; the functions that load do.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

from blake3 import blake3

from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings
from runtime.disk import DiskPort

BLOCK_BYTES = 64 * 1024
BLOCKS = 64
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
# Other files of a model folder say nothing about what it computes.
READ_WHOLE = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def base_folder(disk: DiskPort, name: str) -> Path:
    """Where the base called ``name`` in the config lies: in the home, at an absolute place, or in the hub's cache.

    A hub id is looked for in the cache first, so that a home which has its model needs no network.

    Raises:
        EngineError: NF-MODEL-001 nothing is there; NF-MODEL-002 the hub does not give it.
    """
    inside = Path(os.path.normpath(disk.real_path(name)))
    if inside.is_dir():
        return checked_folder(inside, name)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise EngineError("NF-MODEL-001", f"the base model {name} is not there")
    return _from_hub(name)


def checked_folder(folder: Path, name: str) -> Path:
    """``folder``, if it holds a model's config and safetensors.

    Raises:
        EngineError: NF-MODEL-001 it is no model folder; NF-MODEL-003 its config is damaged; NF-MODEL-004 its weights
            are not in safetensors.
    """
    if not (folder / "config.json").is_file():
        raise EngineError("NF-MODEL-001", f"{name} is not a model folder: it has no config.json")
    _config(folder, name)
    if not any(folder.glob("*.safetensors")):
        raise EngineError("NF-MODEL-004", f"{name} holds no *.safetensors")
    return folder


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except ValueError as error:
        raise EngineError("NF-MODEL-003", f"the config.json of {name} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise EngineError("NF-MODEL-003", f"the config.json of {name} is damaged: it holds no object")
    return config


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    quiet()
    try:
        return checked_folder(Path(snapshot_download(name, allow_patterns=HUB_FILES, local_files_only=True)), name)
    except (LocalEntryNotFoundError, EngineError):
        pass  # not in the cache, or only a part of it
    except HFValidationError as error:
        raise EngineError("NF-MODEL-001", f"{name} is neither a folder nor a hub id: {error}") from error
    try:
        return checked_folder(Path(snapshot_download(name, allow_patterns=HUB_FILES)), name)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise EngineError("NF-MODEL-002", f"the hub does not give {name}: {first}", transient=True) from error


def fingerprint(folder: Path) -> str:
    """``blake3:<hex>`` of what the model in ``folder`` is.

    It covers the config and the tokenizer's files whole, and of each weight file its name, size, safetensors header
    (every tensor's name, shape and type) and 64 evenly spread blocks of 64 KiB. So 16 GB take well under a second, and
    another model, another revision or a truncated file is seen; a few flipped bytes between the blocks are not, which
    is what the manifests are for.
    """
    digest = blake3()
    for name in READ_WHOLE:
        if (folder / name).is_file():
            content = (folder / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            header = min(int.from_bytes(file.read(8), "little"), size)
            digest.update(file.read(header))
            for block in range(BLOCKS):
                file.seek(block * max(0, size - BLOCK_BYTES) // (BLOCKS - 1))
                digest.update(file.read(BLOCK_BYTES))
    return f"blake3:{digest.hexdigest()}"


def context_length(folder: Path, tokenizer: Any) -> int | None:
    """Tokens the model was made for; ``None`` if neither the model nor its tokenizer says."""
    config = _config(folder, folder.name)
    config = {**config, **config.get("text_config", {})}
    said = (config.get("max_position_embeddings"), config.get("n_positions"), tokenizer.model_max_length)
    # A tokenizer that does not know says 10**30.
    lengths = [int(length) for length in said if isinstance(length, int) and 0 < length < 10**9]
    return min(lengths, default=None)


NONSENSE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError)
"""What transformers raises where a config holds something that no model has."""


def load_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer in ``folder``.

    Raises:
        EngineError: NF-MODEL-005, there is none, or none that tells where in the text its tokens stand; NF-MODEL-003,
            the model's config, which says what kind of tokenizer it is, makes no sense.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoTokenizer

    quiet()
    try:
        AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ImportError, *NONSENSE, StrictDataclassError) as error:
        raise EngineError("NF-MODEL-003", f"the config.json of {name} makes no sense: {error}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except MemoryError:
        raise
    except Exception as error:
        raise EngineError("NF-MODEL-005", f"the tokenizer of {name} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise EngineError("NF-MODEL-005", f"{name} has no fast tokenizer (tokenizer.json)")
    return tokenizer


def load_model(folder: Path, name: str, device: str, dtype: Any) -> Any:
    """The causal language model in ``folder``, on ``device``, frozen and without dropout of its own.

    Raises:
        EngineError: NF-MODEL-003, the folder is damaged, incomplete or of a kind that is not known.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    quiet()
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            device_map={"": device},
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ImportError, *NONSENSE, StrictDataclassError) as error:
        first = str(error).strip().partition("\n")[0]
        raise EngineError("NF-MODEL-003", f"the model {name} cannot be loaded: {first}") from error
    lacking = sorted(loading["missing_keys"]) + sorted(str(key) for key in loading.get("mismatched_keys", ()))
    if lacking:
        raise EngineError("NF-MODEL-003", f"the model {name} is incomplete: {lacking[0]} and {len(lacking) - 1} more")
    model.requires_grad_(False)
    model.config.use_cache = False
    return model


def choose_device(settings: TrainerSettings) -> str:
    """``cuda``, ``cuda:1``, ``mps`` or ``cpu``.

    Raises:
        EngineError: NF-MODEL-006, the device asked for is not there.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if settings.device == "auto":
        return next(kind for kind, is_there in there.items() if is_there)
    kind, _, number = settings.device.partition(":")
    if not there.get(kind) or (number and not (kind == "cuda" and number.isdigit())):
        raise EngineError("NF-MODEL-006", f"device {settings.device} is not there; there are: {_names(there)}")
    if number and int(number) >= torch.cuda.device_count():
        raise EngineError("NF-MODEL-006", f"device {settings.device}: there are {torch.cuda.device_count()}")
    return settings.device


def choose_dtype(settings: TrainerSettings, device: str) -> Any:
    """The type the base computes in. A GPU that only emulates bfloat16 is faster, and safer, in float32."""
    import torch

    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    native = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def quiet() -> None:
    """No progress bars and no advice on the terminal: the daemon tells its own story."""
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as told

    # Each speaks to the other in words that have changed since; nothing a person could do about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate)\b")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"peft\b")
    disable_progress_bars()
    told.disable_progress_bar()
    told.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _names(there: dict[str, bool]) -> str:
    return ", ".join(kind for kind, is_there in there.items() if is_there)
