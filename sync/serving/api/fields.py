"""What clients send beside the fields that are taken: refused by name, or ignored and named.

A field that would change the answer is refused, unless its value says what happens anyhow (no tools,
text alone). All other fields are harmless, or not known: they are ignored, and the answer names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

MAX_NAME = 64
"""Characters of a field's name in an answer: the longest of OpenAI's has 24."""
MAX_NAMED = 100
"""Ignored fields that are named: a header has room for a few dozen."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")
"""What may not stand in a header as it is; a field's name is any text."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Why a field is not taken.

    `words`: values that change nothing; `empty`: so does an empty or false one.
    """

    sentence: str
    words: tuple[object, ...] = ()
    empty: bool = True

    def takes(self, value: object) -> bool:
        """Return whether the value says what happens anyhow."""
        return (self.empty and not value) or value in self.words


_TOOLS = "this API calls no tools: leave it out. response_format holds an answer to a form of yours."
_GRAMMAR = "this API holds answers to a form by response_format alone."
_THINKING = "how a model thinks cannot be set here: leave it out."
_SAMPLING = "this way of choosing tokens is not supported: leave it out."
_TEMPLATE = "the model's own chat template is used as it is: leave it out."
_TEXT = "this API answers in text alone: leave it out."

CHAT: Mapping[str, Unsupported] = {
    "tools": Unsupported(_TOOLS),
    "functions": Unsupported(_TOOLS),
    "tool_choice": Unsupported(_TOOLS, ("none", "auto")),
    "function_call": Unsupported(_TOOLS, ("none", "auto")),
    "modalities": Unsupported(_TEXT, (["text"], ("text",))),
    "audio": Unsupported(_TEXT, empty=False),
    "web_search_options": Unsupported("this API searches nothing: leave it out.", empty=False),
    "reasoning_effort": Unsupported(_THINKING, empty=False),
    "reasoning": Unsupported(_THINKING, empty=False),
    "thinking": Unsupported(_THINKING, empty=False),
    "enable_thinking": Unsupported(_THINKING, empty=False),
    "verbosity": Unsupported("the length of an answer is set by max_tokens alone.", empty=False),
    "structured_outputs": Unsupported(_GRAMMAR),
    "grammar": Unsupported(_GRAMMAR),
    "chat_template": Unsupported(_TEMPLATE),
    "chat_template_kwargs": Unsupported(_TEMPLATE),
    "add_generation_prompt": Unsupported(_TEMPLATE, (True,), empty=False),
    "continue_final_message": Unsupported(_TEMPLATE),
    "documents": Unsupported(_TEMPLATE),
    "prompt": Unsupported("prompts by name are not supported: send messages.", empty=False),
    "ignore_eos": Unsupported(_SAMPLING),
    "min_tokens": Unsupported(_SAMPLING),
    "stop_token_ids": Unsupported("stop takes texts alone."),
    "include_stop_str_in_output": Unsupported("an answer ends before the text of stop."),
    "bad_words": Unsupported("tokens can be kept out by logit_bias alone."),
    "allowed_token_ids": Unsupported("tokens can be kept in by logit_bias alone."),
    "best_of": Unsupported(_SAMPLING, (1,)),
    "use_beam_search": Unsupported(_SAMPLING),
    "length_penalty": Unsupported(_SAMPLING, (1,)),
    "typical_p": Unsupported(_SAMPLING, (1,)),
    "logits_processors": Unsupported(_SAMPLING),
    "truncate_prompt_tokens": Unsupported("a prompt is never cut: shorten it."),
    "echo": Unsupported("an answer does not repeat its prompt."),
    "suffix": Unsupported("a text cannot be filled in here: send messages."),
}
GUIDED = "guided_"
"""How vLLM's fields begin that hold an answer to a form."""
GUIDED_FIELD = Unsupported(_GRAMMAR)
MESSAGE: Mapping[str, Unsupported] = {
    "tool_calls": Unsupported(
        "this API knows no tools: send the conversation without calls of tools.",
    ),
    "function_call": Unsupported(
        "this API knows no tools: send the conversation without calls of tools.",
    ),
    "refusal": Unsupported("a refusal cannot be sent back: send it as content."),
    "audio": Unsupported("this API takes text only."),
}
EMBEDDINGS: Mapping[str, Unsupported] = {
    "input_type": Unsupported("the model embeds every text in the same way: leave it out."),
    "prompt_name": Unsupported("the model embeds every text in the same way: leave it out."),
    "truncate_prompt_tokens": Unsupported(
        "a text is cut where the model's own limit is, and marked so.",
    ),
}
NOTHING: Mapping[str, Unsupported] = {}


def refused(data: Mapping[str, object], table: Mapping[str, Unsupported]) -> tuple[str, str] | None:
    """Return the first field that is not supported and the sentence why, or None."""
    for name in _listed(data, table):
        why = table.get(name, GUIDED_FIELD)
        if not why.takes(data[name]):
            return safe(name), why.sentence
    return None


def looked_at(data: Mapping[str, object], table: Mapping[str, Unsupported]) -> dict[str, object]:
    """Return the fields without those of the table, whose values say what happens anyhow."""
    listed = set(_listed(data, table))
    return {name: value for name, value in data.items() if name not in listed}


def _listed(data: Mapping[str, object], table: Mapping[str, Unsupported]) -> list[str]:
    guided = table is CHAT
    return [name for name in data if name in table or (guided and str(name).startswith(GUIDED))]


def safe(name: object) -> str:
    """Return a field's name as it can stand in a header and in a sentence, cut to MAX_NAME."""
    return _UNSAFE.sub("?", str(name)[:MAX_NAME])


def named(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first MAX_NAMED names, sorted, each once."""
    found: dict[str, None] = {}
    for name in islice(names, MAX_NAMED * 100):
        found[name] = None
        if len(found) == MAX_NAMED:
            break
    return tuple(sorted(found))
