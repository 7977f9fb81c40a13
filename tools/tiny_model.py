"""A small language model built on the spot: a Llama of about two million parameters with its own tokenizer.

Guarantees that no network is needed and that two builds with the same Python and libraries are the same, byte for
byte. It knows nothing (its weights are random), but it learns: an adapter on it fits a few examples within some
forty steps. Its tokenizer is trained on text that comes with Python.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from pathlib import Path

VOCABULARY = 4096
CONTEXT = 1024
TEXT_BYTES = 600_000
END, START, PAD = "<|im_end|>", "<|im_start|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>tools\n' + tools | tojson + '<|im_end|>\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{%- for call in message.tool_calls or [] %}"
    "{{- '\n<tool_call>\n' + (call.function or call) | tojson + '\n</tool_call>' }}"
    "{%- endfor %}"
    "{{- '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def build_tiny_model(folder: Path) -> None:
    """Write the model into ``folder``, as ``save_pretrained`` would."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from actors.trainer.base_model import quiet

    quiet()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained_tokenizer(), eos_token=END, pad_token=PAD, model_max_length=CONTEXT
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        # At the usual 0.02 a model this narrow hardly passes anything on from layer to layer.
        initializer_range=0.08,
        dtype="float32",
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20_260_101)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _trained_tokenizer() -> object:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text(), trainer)
    return tokenizer


def _text() -> Iterator[str]:
    """English with a little code in it: the licence, the language reference, then docstrings in order of file names."""
    library = Path(sysconfig.get_path("stdlib"))
    left = TEXT_BYTES
    for path in [library / "LICENSE.txt", library / "pydoc_data" / "topics.py", *sorted(library.glob("*.py"))]:
        for text in _texts_in(path):
            yield text[:left]
            left -= len(text)
            if left <= 0:
                return


def _texts_in(path: Path) -> list[str]:
    if not path.is_file():
        return []
    source = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix != ".py":
        return [source]
    strings = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [text for text in strings if len(text) > 80]
