"""Finds what the assistant says in a conversation rendered by a chat template that does not mark it.

Most templates in use carry no ``{% generation %}`` marks, and libraries that rely on them train on nothing, or on
everything, and both look healthy. So each assistant turn is found by difference: the conversation is rendered as it
is, and once more with that turn's words replaced by a mark that occurs nowhere in it. What the two renderings do
not share is the turn, however the template trims, decorates or drops its words. The span then grows to the left up
to the generation prompt, since what stands between (an empty ``<think>`` block, a channel) is the model's to
write, and to the right over the token that ends the turn.

Guarantees: the text is exactly what the template gives; spans are in order, never overlap, and never hold another
turn's words; a template that cannot be read this way is a ``TemplateProblem``, never a guess. Knows nothing of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

Span = tuple[int, int]
Messages = Sequence[Mapping[str, Any]]
ChatRender = Callable[[Messages, bool], str]
"""Renders messages; the flag asks for a generation prompt at the end."""

# Private-use characters: no template tests for them, no trimming removes them, and text hardly ever holds them.
MARK_CHARACTERS = [chr(code) for code in range(0xE000, 0xE010)]

FALLBACK_TEMPLATE = (
    "{%- set end = eos_token or '<|im_end|>' -%}"
    "{{- bos_token or '' -}}"
    "{%- if tools %}{{- '<|im_start|>tools\n' + tools | tojson + '<|im_end|>\n' -}}{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\n' + (message.content or '') -}}"
    "{%- if message.tool_calls %}{{- '<tool_call>' + message.tool_calls | tojson + '</tool_call>' -}}{%- endif -%}"
    "{{- (end if message.role == 'assistant' else '<|im_end|>') + '\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
"""For tokenizers without a chat template: ChatML, where the assistant's turn ends with the tokenizer's own EOS, for
in such a vocabulary ``<|im_end|>`` is ordinary text and nothing would stop a generation at it."""

# A template that prints today's date would render a batch otherwise after midnight, and a resumed run would no longer
# be the run that was interrupted. Llama's own default date stands in for it, in the notations that templates ask for.
PINNED_DATE = (
    "{%- macro strftime_now(format) -%}"
    "{%- if format == '%d %b %Y' -%}26 Jul 2024{%- elif format == '%B %d, %Y' -%}July 26, 2024"
    "{%- elif format == '%d %B %Y' -%}26 July 2024{%- elif format == '%Y' -%}2024"
    "{%- else -%}2024-07-26{%- endif -%}{%- endmacro -%}"
)


class TemplateProblem(Exception):
    """This conversation cannot be rendered, or not read back, with this template; the words are for a person."""


def pin_date(template: str) -> str:
    return PINNED_DATE + template if "strftime_now" in template else template


def render_or_explain(render: ChatRender, messages: Messages, add_generation_prompt: bool = False) -> str:
    """Render, turning whatever a template may raise on data it was not written for into a ``TemplateProblem``."""
    try:
        return render(messages, add_generation_prompt)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        why = str(error) or type(error).__name__
        raise TemplateProblem(f"the model's chat template refuses it: {why}") from error


class ChatSpans:
    """Finds the assistant's spans in conversations rendered by one template.

    Args:
        render: messages -> text.
        special_tokens: texts of the tokens that only a template writes.
        end_tokens: those of them known to end a turn, EOS among them.
    """

    def __init__(self, special_tokens: Sequence[str], end_tokens: Sequence[str], probe: ChatRender) -> None:
        self.generation_prompt = _generation_prompt(probe)
        learned = _end_of_turn(probe, special_tokens)
        self.end_tokens = tuple(dict.fromkeys([*end_tokens, *learned]))

    def find(self, messages: Messages, render: ChatRender) -> tuple[str, dict[int, Span]]:
        """The rendered text and, by turn number, the span of each assistant turn."""
        text = render_or_explain(render, messages)
        mark = next((mark for mark in MARK_CHARACTERS if mark not in text), None)
        if mark is None:
            raise TemplateProblem("it holds every private-use character that could mark a turn")
        conversation = _Conversation(messages, text, mark, render)
        spans: dict[int, Span] = {}
        end_before = 0
        for number, message in enumerate(messages):
            if message["role"] == "assistant":
                start, end = self._span(conversation, number, end_before)
                spans[number] = (start, end)
                end_before = end
            elif message["role"] in ("system", "user", "developer"):
                conversation.must_show(number)
        return text, spans

    def _span(self, conversation: _Conversation, number: int, end_before: int) -> Span:
        text = conversation.text
        start, end = conversation.changed(number)
        if start < end_before:
            raise TemplateProblem(f"turn {number + 1} cannot be told from the turn before it")
        said = text[start:end]
        message = conversation.messages[number]
        if not message.get("tool_calls") and said not in message["content"]:
            foreign = [self.generation_prompt, *self.end_tokens]
            if any(word and word in said and word not in message["content"] for word in foreign):
                raise TemplateProblem(f"what turn {number + 1} says cannot be found in the rendered text")
        return self._with_opening(conversation, number, start, end_before), self._with_ending(
            conversation, number, start, end
        )

    def _with_opening(self, conversation: _Conversation, number: int, start: int, end_before: int) -> int:
        text, prompt = conversation.text, self.generation_prompt
        if prompt:
            found = text.rfind(prompt, end_before, start)
            opening = found + len(prompt) if found >= 0 else start
        else:
            # Nothing prompts it, so the model writes the blank before its words too; a header of its turn is no words.
            opening = conversation.before(number)
            if text[max(0, opening) : start].strip():
                return start
        if not end_before <= opening <= start or any(end in text[opening:start] for end in self.end_tokens):
            return start
        return opening

    def _with_ending(self, conversation: _Conversation, number: int, start: int, end: int) -> int:
        text = conversation.text
        if text[start:end].endswith(self.end_tokens):
            return end
        rest = end + len(text[end:]) - len(text[end:].lstrip())
        for token in self.end_tokens:
            if text.startswith(token, rest):
                return rest + len(token)
        # Something closes the turn before its end token does (a tool call's bracket), or nothing ends it at all.
        limit = conversation.next_turn(number)
        places = [(place, token) for token in self.end_tokens if (place := text.find(token, end, limit)) >= 0]
        if not places:
            return end
        place, token = min(places)
        if self.generation_prompt and self.generation_prompt in text[end:place]:
            return end
        return place + len(token)


class _Conversation:
    """One conversation, its rendering, and the mark that is not in it."""

    def __init__(self, messages: Messages, text: str, mark: str, render: ChatRender) -> None:
        self.messages = messages
        self.text = text
        self.mark = mark
        self.render = render

    def must_show(self, number: int) -> None:
        content = self.messages[number]["content"].strip()
        if content and content not in self.text:
            self.changed(number)

    def before(self, number: int) -> int:
        """Where the model begins to write turn ``number`` if nothing prompts it; -1 where later turns change that."""
        try:
            prefix = render_or_explain(self.render, self.messages[:number], add_generation_prompt=True)
        except TemplateProblem:
            return -1
        return len(prefix) if self.text.startswith(prefix) else -1

    def next_turn(self, number: int) -> int:
        """Where the words of the turn after ``number`` begin; the end of this one's at the latest cannot be beyond."""
        following = number + 1
        return len(self.text) if following == len(self.messages) else self.changed(following)[0]

    def changed(self, number: int) -> Span:
        """The part of the text that changes with the words of turn ``number``."""
        message = self.messages[number]
        marked = [*self.messages[:number], _marked(message, self.mark), *self.messages[number + 1 :]]
        other = render_or_explain(self.render, marked)
        first, last = other.find(self.mark), other.rfind(self.mark)
        if first < 0:
            raise TemplateProblem(f"the model's chat template leaves out turn {number + 1}, role {message['role']}")
        text = self.text
        # The mark is not in the text, so the shared beginning ends at the mark or before it, and so with the end.
        start = first if text.startswith(other[:first]) else _shared(text, other[:first])
        tail = other[last + 1 :]
        if not text.endswith(tail):
            tail = tail[len(tail) - _shared(text[::-1], tail[::-1]) :]
        shared = min(len(tail), len(text) - start)
        return start, len(text) - shared


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _marked(message: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """The message with its words replaced, and its shape kept, so that the template takes the same branches."""
    marked = dict(message)
    calls = message.get("tool_calls")
    if calls:
        marked["tool_calls"] = [_marked_call(call, mark) for call in calls]
    if message["content"] or not calls:
        marked["content"] = mark
    return marked


def _marked_call(call: Any, mark: str) -> Any:
    if not isinstance(call, Mapping):
        return mark
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _marked_call(call["function"], mark)}
    arguments = call.get("arguments")
    return {**call, "name": mark, "arguments": mark if isinstance(arguments, str) else {mark: mark}}


def plain_calls(calls: Sequence[Any]) -> list[Any]:
    """Tool calls as templates want them: arguments as an object, where the data has them as JSON text."""
    return [_opened(call) for call in calls]


def _opened(call: Any) -> Any:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    if not isinstance(arguments, dict):
        return call
    opened = {**function, "arguments": arguments}
    return {**call, "function": opened} if "function" in call else opened


def _generation_prompt(probe: ChatRender) -> str:
    """What the template writes where the assistant is to speak; ``""`` if it has none."""
    question = [{"role": "user", "content": "question"}]
    try:
        without, prompted = probe(question, False), probe(question, True)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError):
        return ""
    return prompted[len(without) :] if prompted.startswith(without) else ""


def _end_of_turn(probe: ChatRender, special_tokens: Sequence[str]) -> list[str]:
    """The special token that directly follows an assistant turn in the middle of a conversation, if there is one."""
    mark = MARK_CHARACTERS[0]
    turns = [("user", "question"), ("assistant", mark), ("user", "question")]
    try:
        text = probe([{"role": role, "content": content} for role, content in turns], False)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError):
        return []
    rest = text[text.find(mark) + 1 :].lstrip() if mark in text else ""
    return [max(found, key=len)] if (found := [token for token in special_tokens if rest.startswith(token)]) else []
