"""What is trained is what the assistant says and the token that ends its turn, on templates as models ship them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from actors.trainer.rendering import Rendered, Renderer, Unrenderable, split
from messages.examples import Completion, Conversation, Text, Turn, decode_line

LLAMA3 = """{{- bos_token }}{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
{%- if message.tool_calls %}{{- '<|python_tag|>' + message.tool_calls[0].function | tojson + '<|eom_id|>' }}
{%- else %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""

# As Qwen3 has it: the thoughts of earlier turns are dropped, the last turn always has a think block.
QWEN3 = """{%- if tools %}{{- '<|im_start|>system\n# Tools ' + tools | tojson + '<|im_end|>\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}{%- set thought = '' %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}
{%- endif %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.last %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}
{{- content }}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

MISTRAL = """{{- bos_token }}{%- if messages[0].role == 'system' %}{%- set system = messages[0].content + '\n\n' %}
{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
{%- if message.role == 'user' %}
{{- '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}
{%- else %}{{- ' ' + message.content | trim + eos_token }}{%- endif %}
{%- endfor %}"""

GEMMA = """{{- bos_token }}{%- if messages[0].role == 'system' %}
{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}{%- set role = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + role + '\n' + message.content | trim + '<end_of_turn>\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"""

# No end token but at the very end, and a generation prompt that history does not have.
ALPACA = """{%- for message in messages %}
{{- ('### Instruction:\n' if message.role == 'user' else '### Response:\n') + message.content + '\n\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '### Response:\n<think>' }}{%- endif %}"""

# It never prompts, and its headers are no special tokens.
PLAIN = "{%- for message in messages %}{{- message.role + ': ' + message.content + eos_token }}{%- endfor %}"

TEMPLATES = {
    "llama3": LLAMA3,
    "qwen3": QWEN3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "alpaca": ALPACA,
    "plain": PLAIN,
    "none": None,
}
SPECIAL = [
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<|eom_id|>", "<|python_tag|>", "<start_of_turn>", "<end_of_turn>"),
]
EOS = {"llama3": "<|eot_id|>", "qwen3": "<|im_end|>", "gemma": "<end_of_turn>"}


@cache
def tokenizer(style: str, **changed: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    text = ["Four it is, of course. Two and two? Instruction Response assistant user system"] * 3
    core.train_from_iterator(
        text, trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    eos = EOS.get(style, "</s>")
    made = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token=eos, pad_token=eos, **changed)
    made.chat_template = TEMPLATES[style]
    return made


def turns(*said: tuple[str, str], **fields: Any) -> Conversation:
    return Conversation(turns=tuple(Turn(role=role, content=content) for role, content in said), **fields)


def taught(style: str, example: Any) -> list[str]:
    """The texts of the runs of trained tokens."""
    coder = tokenizer(style)
    rendered = Renderer(coder).whole(example)
    assert isinstance(rendered, Rendered), rendered
    runs: list[list[int]] = []
    before = False
    for token, trained in zip(rendered.input_ids, rendered.trained, strict=True):
        if trained:
            if not before:
                runs.append([])
            runs[-1].append(token)
        before = trained
    return [coder.decode(run) for run in runs]


TWO_TURNS = turns(("user", "Two and two?"), ("assistant", "Four."), ("user", "Sure?"), ("assistant", "Of course."))


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("llama3", ["Four.<|eot_id|>", "Of course.<|eot_id|>"]),
        ("qwen3", ["Four.<|im_end|>", "<think>\n\n</think>\n\nOf course.<|im_end|>"]),
        ("mistral", [" Four.</s>", " Of course.</s>"]),
        ("gemma", ["Four.<end_of_turn>", "Of course.<end_of_turn>"]),
        ("alpaca", ["Four.", "Of course."]),
        ("plain", ["Four.</s>", "Of course.</s>"]),
        ("none", ["Four.</s>", "Of course.</s>"]),
    ],
)
def test_every_assistant_turn_is_trained_with_its_end(style: str, expected: list[str]) -> None:
    assert taught(style, TWO_TURNS) == expected


@pytest.mark.parametrize("style", TEMPLATES)
def test_the_ids_are_the_templates_own(style: str) -> None:
    coder = tokenizer(style)
    rendered = Renderer(coder).whole(TWO_TURNS)
    assert isinstance(rendered, Rendered)
    if coder.chat_template:
        messages = [{"role": turn.role, "content": turn.content} for turn in TWO_TURNS.turns]
        assert rendered.input_ids == coder.apply_chat_template(messages)["input_ids"]
    assert rendered.input_ids.count(coder.bos_token_id) <= 1


@pytest.mark.parametrize("style", ["llama3", "qwen3", "mistral", "alpaca", "none"])
def test_a_system_prompt_is_not_trained(style: str) -> None:
    example = turns(("system", "Be brief."), ("user", "Two and two?"), ("assistant", "Four."))
    assert not any("brief" in run for run in taught(style, example))
    assert len(taught(style, example)) == 1


def test_what_the_template_refuses_is_a_value() -> None:
    refused = Renderer(tokenizer("gemma")).render(turns(("system", "Brief."), ("user", "?"), ("assistant", "Four.")))
    assert isinstance(refused, Unrenderable)
    assert "System role not supported" in refused.why
    refused = Renderer(tokenizer("mistral")).render(turns(("user", "a"), ("user", "b"), ("assistant", "c")))
    assert isinstance(refused, Unrenderable)


def test_a_turn_the_template_leaves_out_is_a_value() -> None:
    coder = tokenizer("qwen3", model_max_length=77)
    coder.chat_template = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    refused = Renderer(coder).render(turns(("system", "Brief."), ("user", "?"), ("assistant", "Four.")))
    assert isinstance(refused, Unrenderable)
    assert "leaves out turn 1" in refused.why


@pytest.mark.parametrize("style", ["llama3", "mistral", "gemma"])
def test_words_the_template_trims_are_found(style: str) -> None:
    example = turns(("user", "Two and two?"), ("assistant", "\n  Four. \n"))
    assert [run.strip() for run in taught(style, example)] == [f"Four.{tokenizer(style).eos_token}"]


def test_thoughts_are_trained_where_the_template_shows_them() -> None:
    thinking = "<think>\nTwo and two.\n</think>\n\nFour."
    example = turns(("user", "?"), ("assistant", thinking), ("user", "?"), ("assistant", thinking))
    assert taught("qwen3", example) == ["Four.<|im_end|>", f"{thinking}<|im_end|>"]


@pytest.mark.parametrize("style", TEMPLATES)
def test_the_same_words_in_another_turn_are_not_taken_for_the_assistants(style: str) -> None:
    example = turns(("user", "Four."), ("assistant", "Four."), ("user", "Four."), ("assistant", "Four."))
    assert len(taught(style, example)) == 2


@pytest.mark.parametrize("style", ["llama3", "qwen3", "gemma"])
def test_template_tokens_inside_the_words_do_not_move_the_mask(style: str) -> None:
    trick = "<|im_end|>\n<|im_start|>assistant\n<|eot_id|><end_of_turn>x"
    example = turns(("user", trick), ("assistant", "Four."), ("user", "Sure?"), ("assistant", trick))
    first, last = taught(style, example)
    assert first == f"Four.{tokenizer(style).eos_token}"
    assert last.endswith(f"{trick}{tokenizer(style).eos_token}")


def test_a_turn_of_weight_0_is_not_trained() -> None:
    first, last = Turn("assistant", "Four.", weight=0), Turn("assistant", "Of course.", weight=1)
    example = Conversation((Turn("user", "?"), first, Turn("user", "Sure?"), last))
    assert taught("llama3", example) == ["Of course.<|eot_id|>"]


def test_an_example_without_a_trained_token_is_a_value() -> None:
    example = Conversation((Turn("user", "?"), Turn("assistant", "Four.", weight=0)))
    assert isinstance(Renderer(tokenizer("llama3")).render(example), Unrenderable)


CALL = {"id": "call00001", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 2}'}}
WITH_TOOLS = decode_line(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": "Two and two?"},
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "4", "tool_call_id": "call00001"},
                {"role": "assistant", "content": "Four."},
            ],
            "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
        }
    ).encode()
)


def test_tool_calls_are_trained_and_tool_answers_are_not() -> None:
    call = '\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 2}}\n</tool_call><|im_end|>'
    assert taught("qwen3", WITH_TOOLS) == [call, "<think>\n\n</think>\n\nFour.<|im_end|>"]
    said, answer = taught("llama3", WITH_TOOLS)
    assert said.startswith("<|python_tag|>")
    assert said.endswith("<|eom_id|>")
    assert answer == "Four.<|eot_id|>"
    assert [run.count("Four.") for run in taught("none", WITH_TOOLS)] == [0, 1]


def test_a_completion_is_trained_with_eos_and_its_prompt_is_not() -> None:
    assert taught("mistral", Completion("Two and two?", " Four.")) == [" Four.</s>"]


def test_a_token_that_straddles_prompt_and_completion_is_trained() -> None:
    # " course" is one token: the prompt's blank and the completion's first letters cannot be told apart.
    assert taught("mistral", Completion("Of ", "course.")) == [" course.</s>"]


def test_a_text_is_trained_whole() -> None:
    rendered = Renderer(tokenizer("mistral")).whole(Text("Four it is."))
    assert isinstance(rendered, Rendered)
    assert all(rendered.trained)
    assert rendered.input_ids[-1] == tokenizer("mistral").eos_token_id


def test_eos_is_learnt_where_padding_is_eos() -> None:
    coder = tokenizer("mistral")
    assert coder.pad_token_id == coder.eos_token_id
    rendered = Renderer(coder).whole(TWO_TURNS)
    assert isinstance(rendered, Rendered)
    assert rendered.input_ids[-1] == coder.eos_token_id
    assert rendered.trained[-1]


def test_todays_date_does_not_come_into_a_rendering() -> None:
    coder = tokenizer("gemma", model_max_length=78)
    coder.chat_template = "{{ strftime_now('%d %b %Y') }}" + GEMMA
    rendered = Renderer(coder).whole(TWO_TURNS)
    assert isinstance(rendered, Rendered)
    assert coder.decode(rendered.input_ids).startswith("26 Jul 2024")


@pytest.mark.parametrize("length_max", [8, 9, 13, 40])
def test_windows_train_each_token_exactly_once(length_max: int) -> None:
    whole = Renderer(tokenizer("llama3")).whole(TWO_TURNS)
    assert isinstance(whole, Rendered)
    windows, cut = split(whole, length_max)
    assert all(len(window.input_ids) <= length_max and window.trained_count for window in windows)
    assert sum(window.trained_count for window in windows) == whole.trained_count
    assert not any(window.trained[0] for window in windows)
    overlap = sum(window.input_ids != whole.input_ids[: len(window.input_ids)] for window in windows)
    covered = sum(len(window.input_ids) for window in windows) - overlap
    assert covered + cut in (len(whole.input_ids), len(whole.input_ids) + 1)


def test_a_short_example_is_one_window() -> None:
    windows = Renderer(tokenizer("llama3"), length_max=1000).render(TWO_TURNS)
    assert isinstance(windows, list)
    assert len(windows) == 1
