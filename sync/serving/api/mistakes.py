"""What is wrong with a body, in a sentence of ours: the field's path, and what to give there.

No word of pydantic's reaches a client: its error types are looked up in one table, and what is not in
it has a sentence that fits anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pydantic
from pydantic_core import PydanticCustomError

from sync.serving.api import fields
from sync.serving.api.errors import BadRequest

OWN = "ringfence"
"""The error type of our own checks, which bring their sentence along."""
TEXT, LIST, OBJECT = "<text>", "<list>", "<object>"
"""Tags of the branches of a union. They are in pydantic's paths, and not in ours."""
MAX_PATH = 200
"""Characters of a field's path: ours have under 60, but a key of a map is the client's own text."""
_MARKS = frozenset({TEXT, LIST, OBJECT, "[key]"})
_NOUNS = {
    "messages": "messages",
    "input": "texts",
    "stop": "texts",
    "documents": "documents",
    "logit_bias": "tokens",
    "content": "parts",
}
Context = Mapping[str, Any]


def own(sentence: str, *, field: str = "", code: str = BadRequest.code) -> PydanticCustomError:
    """Return an error for a validator to raise.

    `field`: where it is, below the place of the validator.
    """
    # The sentence goes in as a value: pydantic reads braces in a template as places to fill in.
    return PydanticCustomError(
        OWN,
        "{sentence}",
        {"sentence": sentence, "field": field, "code": code},
    )


def of(error: pydantic.ValidationError) -> BadRequest:
    """Return the first mistake as the error that a client gets."""
    first = error.errors(include_url=False, include_input=False)[0]
    context: Context = first.get("ctx", {})
    parts = [fields.safe(part) for part in first["loc"] if part not in _MARKS]
    if context.get("field"):
        parts.append(str(context["field"]))
    path = ".".join(parts)[:MAX_PATH]
    if first["type"] == OWN:
        sentence, code = str(context["sentence"]), str(context["code"])
    else:
        last = next((part for part in reversed(parts) if not part.isdigit()), "")
        sentence, code = _sentence(first["type"], context, _NOUNS.get(last, "entries")), None
    return BadRequest(f"{path or 'The body'}: {sentence}", param=path or None, code=code)


def _sentence(kind: str, context: Context, noun: str) -> str:
    make = SENTENCES.get(kind)
    return make(context, noun) if make is not None else OTHERWISE


def _say(sentence: str) -> Callable[[Context, str], str]:
    return lambda _context, _noun: sentence


def _bound(words: str, name: str) -> Callable[[Context, str], str]:
    def sentence(context: Context, _noun: str) -> str:
        limit = context[name]
        whole = isinstance(limit, int)
        return f"give a {'whole ' if whole else ''}number {words} {limit if whole else f'{limit:g}'}."

    return sentence


def _too_short(context: Context, noun: str) -> str:
    least = context["min_length"]
    return f"give at least {least if least > 1 else 'one'} of its {noun}."


def _text_too_short(context: Context, _noun: str) -> str:
    least = context["min_length"]
    return f"give a text of at least {least} characters." if least > 1 else "a text is empty."


OTHERWISE = "this value is not taken here."
_WHOLE = _say("give a whole number.")
_NUMBER = _say("give a number.")
_OBJECT = _say("give an object.")
SENTENCES: Mapping[str, Callable[[Context, str], str]] = {
    "missing": _say("this field is required."),
    "extra_forbidden": _say("this field is not known."),
    "invalid_key": _say("the names of fields are texts."),
    "string_type": _say("give a text."),
    "string_unicode": _say("give a text in UTF-8."),
    "string_too_short": _text_too_short,
    "string_too_long": lambda context, _: f"a text may have at most {context['max_length']} characters.",
    "string_pattern_mismatch": _say("this text does not have the form that is wanted here."),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _say("give true or false."),
    "bool_parsing": _say("give true or false."),
    "greater_than": _bound("over", "gt"),
    "greater_than_equal": _bound("of at least", "ge"),
    "less_than": _bound("below", "lt"),
    "less_than_equal": _bound("of at most", "le"),
    "literal_error": lambda context, _: f"give one of {context['expected']}.",
    "list_type": _say("give a list."),
    "tuple_type": _say("give a list."),
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "too_short": _too_short,
    "too_long": lambda context, noun: f"at most {context['max_length']} {noun} are taken.",
}
"""pydantic's error types, by what a client can do about them."""
