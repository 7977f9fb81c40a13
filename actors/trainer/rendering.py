"""Turns an example into token ids and says which of them are trained.

Guarantees:
    * Trained is what the assistant says and the token that ends its turn; the completion and EOS; all of a plain text
      and EOS. Nothing is masked by token id, so EOS is learnt even where padding is EOS.
    * The ids are what the model's own template and tokenizer give; at most one BOS opens them.
    * Nothing is cut silently: an over-long example becomes windows, in each of which something is trained, and what
      is left out is counted. An example without a trained token is an ``Unrenderable``, a value, and never trained.

Knows the tokenizer and the chat template, and nothing of weights; importing it does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from actors.trainer.chat_spans import (
    FALLBACK_TEMPLATE,
    ChatRender,
    ChatSpans,
    Messages,
    Span,
    TemplateProblem,
    pin_date,
    plain_calls,
)
from messages.examples import Completion, Conversation, Example, Text, Turn

# Tokens that end a turn in templates that use several: after a tool call, after the last turn.
KNOWN_END_TOKENS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|eot|>",
    "<|eom|>",
)


class Rendered(msgspec.Struct, frozen=True):
    """One window of tokens. ``trained[i]``: the model is to learn to write token i (from those before it)."""

    input_ids: list[int]
    trained: list[bool]

    @property
    def trained_count(self) -> int:
        """Tokens that enter the loss. The first token of a window has nothing before it to be predicted from."""
        return sum(self.trained[1:])


class Unrenderable(msgspec.Struct, frozen=True):
    """Why nothing can be learnt from this example, in words for a person."""

    why: str


def split(whole: Rendered, length_max: int) -> tuple[list[Rendered], int]:
    """Windows of at most ``length_max`` tokens, and how many tokens are in none.

    Windows share one token: the last of one opens the next, untrained there, so that each trained token has something
    before it and is trained exactly once. A window in which nothing is trained teaches nothing and is left out.
    """
    count = len(whole.input_ids)
    if count <= length_max:
        return [whole], 0
    windows, cut = [], 0
    for start in range(0, count - 1, length_max - 1):
        stop = min(start + length_max, count)
        trained = whole.trained[start:stop]
        trained[0] = trained[0] and start == 0
        window = Rendered(whole.input_ids[start:stop], trained)
        if window.trained_count:
            windows.append(window)
        else:
            cut += stop - start - (1 if start else 0)
    return windows, cut


class Renderer:
    """Renders examples for one tokenizer.

    Args:
        tokenizer: a fast ``transformers`` tokenizer; only a fast one tells where in the text each token stands.
        length_max: tokens of one window; ``None`` for no bound.
    """

    def __init__(self, tokenizer: Any, length_max: int | None = None) -> None:
        if not tokenizer.is_fast:
            raise ValueError("the tokenizer has no tokenizer.json and cannot tell where its tokens stand in the text")
        self.tokenizer = tokenizer
        self.length_max = length_max
        self.bos: int | None = tokenizer.bos_token_id
        self.eos: int | None = tokenizer.eos_token_id
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special} | set(
            tokenizer.all_special_tokens
        )
        special.discard(tokenizer.bos_token)
        # BOS may be EOS too (GPT-2's family): then it does end turns.
        ends = [token for token in KNOWN_END_TOKENS if token in special]
        if tokenizer.eos_token:
            ends.insert(0, tokenizer.eos_token)
        self._spans = ChatSpans(sorted(special | set(ends)), ends, self._chat_render(None))

    def render(self, example: Example) -> list[Rendered] | Unrenderable:
        """The windows of one example."""
        whole = self.whole(example)
        if isinstance(whole, Unrenderable) or self.length_max is None:
            return whole if isinstance(whole, Unrenderable) else [whole]
        return split(whole, self.length_max)[0]

    def whole(self, example: Example) -> Rendered | Unrenderable:
        """One example as it is, however long."""
        if isinstance(example, Conversation):
            try:
                rendered = self._conversation(example)
            except TemplateProblem as problem:
                return Unrenderable(str(problem))
        elif isinstance(example, Completion):
            rendered = self._completion(example)
        else:
            rendered = self._text(example)
        if not rendered.trained_count:
            return Unrenderable("nothing in it would be trained: no assistant turn with words and a weight above 0")
        return rendered

    def prompt_ids(self, messages: Messages, tools: Any = None) -> list[int]:
        """The ids after which the model is to answer."""
        text = self._chat_render(tools)(messages, True)
        ids, _ = self._tokens(text, [])
        return ids

    def _conversation(self, example: Conversation) -> Rendered:
        messages = [_message(turn) for turn in example.turns]
        text, spans = self._spans.find(messages, self._chat_render(example.tools))
        weights = [turn.weight for turn in example.turns]
        taught = [span for number, span in spans.items() if weights[number] is None or weights[number]]
        return Rendered(*self._tokens(text, taught))

    def _completion(self, example: Completion) -> Rendered:
        text = example.prompt + example.completion
        ids, trained = self._tokens(text, [(len(example.prompt), len(text))], add_special_tokens=True)
        return self._closed(ids, trained)

    def _text(self, example: Text) -> Rendered:
        ids, trained = self._tokens(example.text, [(0, len(example.text))], add_special_tokens=True)
        return self._closed(ids, trained)

    def _closed(self, ids: list[int], trained: list[bool]) -> Rendered:
        """With EOS at the end, trained, whether or not the tokenizer wrote it."""
        if self.eos is not None and ids:
            if ids[-1] == self.eos and not trained[-1]:
                trained[-1] = True
            else:
                ids.append(self.eos)
                trained.append(True)
        return Rendered(ids, trained)

    def _tokens(
        self, text: str, taught: Sequence[Span], *, add_special_tokens: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Ids, and for each whether it writes any character of a taught span.

        A token that straddles the beginning of a span (``" word"`` where only the blank is the template's) writes the
        span's first character, so it is trained.
        """
        coded = self.tokenizer(text, add_special_tokens=add_special_tokens, return_offsets_mapping=True)
        ids: list[int] = list(coded["input_ids"])
        trained = [False] * len(ids)
        spans = iter(taught)
        span = next(spans, None)
        for index, (start, end) in enumerate(coded["offset_mapping"]):
            while span is not None and start >= span[1]:
                span = next(spans, None)
            if span is None:
                break
            trained[index] = end > max(start, span[0])
        if self.bos is not None and ids[:2] == [self.bos, self.bos]:
            del ids[0], trained[0]
        return ids, trained

    def _chat_render(self, tools: Any) -> ChatRender:
        template = FALLBACK_TEMPLATE
        if self.tokenizer.chat_template:
            template = self.tokenizer.get_chat_template(None, tools)
        template = pin_date(template)
        known = {"eos_token": self.tokenizer.eos_token, "bos_token": self.tokenizer.bos_token}

        def render(messages: Messages, add_generation_prompt: bool) -> str:
            text = self.tokenizer.apply_chat_template(
                list(messages),
                tools=tools or None,
                chat_template=template,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
                **{name: token for name, token in known.items() if token},
            )
            assert isinstance(text, str)
            return text

        return render


def _message(turn: Turn) -> Mapping[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.tool_calls:
        message["tool_calls"] = plain_calls(turn.tool_calls)
    if turn.name is not None:
        message["name"] = turn.name
    if turn.tool_call_id is not None:
        message["tool_call_id"] = turn.tool_call_id
    return message
