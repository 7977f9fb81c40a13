"""Small random models and adapters, made on the spot, for the tests of the merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_llama(folder: Path, dtype: torch.dtype = torch.float32, *, tied: bool = False, shard: str = "5GB") -> Path:
    """About 200,000 random parameters, saved as transformers saves them."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def make_gpt2(folder: Path) -> Path:
    """A model whose weights stand the other way round (Conv1D)."""
    torch.manual_seed(7)
    config = GPT2Config(vocab_size=320, n_positions=64, n_embd=64, n_layer=2, n_head=4)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """The model at ``folder`` with plain transformers, in its own dtype."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto")


def make_adapter(base: Path, folder: Path, seed: int = 1, size: float = 0.02, **settings: Any) -> Path:
    """A LoRA adapter with random factors, neither of them zero."""
    settings = {"r": 8, "lora_alpha": 16, "target_modules": LINEARS, "task_type": "CAUSAL_LM"} | settings
    model = get_peft_model(load(base), LoraConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    model.save_pretrained(folder)
    return folder
