"""A conversation as the prompt that a model was trained on, by the model's own template. The door to Jinja2, in its sandbox."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox

from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.port import BadPayload

MAX_TEMPLATE = 256 * 1024
MAX_CONFIG = 4 * 1024 * 1024
MAX_PROMPT = 4 * 1024 * 1024
_PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant:"


class ChatTemplate:
    """One model's template. `needs_begin`: the tokenizer, not the template, puts the model's own begin token."""

    def __init__(self, source: str, *, begin: str = "", end: str = "", needs_begin: bool = False) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals = {
            "raise_exception": _refuse,
            "strftime_now": _today,
            "range": range,
            "namespace": jinja2.utils.Namespace,
        }
        environment.filters["tojson"] = _to_json
        self._special = {"bos_token": begin, "eos_token": end}
        self.needs_begin = needs_begin
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise BadFolder("The model's chat template is not one that the sandbox takes.") from error

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The prompt. Raises BadPayload where the template refuses the conversation."""
        try:
            prompt = self._template.render(messages=list(messages), add_generation_prompt=True, **self._special)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError) as error:
            raise BadPayload("The model's chat template does not take these messages.") from error
        if len(prompt) > MAX_PROMPT:
            raise BadPayload("The prompt is too long.")
        return prompt


def load(folder: Path) -> ChatTemplate:
    """The template in a model folder: chat_template.jinja, or tokenizer_config.json's own, or a plain one."""
    told = _tokenizer_config(folder / "tokenizer_config.json")
    begin, end = _token(told.get("bos_token")), _token(told.get("eos_token"))
    own = folder / "chat_template.jinja"
    if own.is_file() and own.stat().st_size <= MAX_TEMPLATE:
        return ChatTemplate(own.read_text(), begin=begin, end=end)
    match told.get("chat_template"):
        case str(source) if len(source) <= MAX_TEMPLATE:
            return ChatTemplate(source, begin=begin, end=end)
        case list(several):
            named = {entry.get("name"): entry.get("template") for entry in several if isinstance(entry, dict)}
            default = named.get("default")
            if isinstance(default, str) and len(default) <= MAX_TEMPLATE:
                return ChatTemplate(default, begin=begin, end=end)
    return ChatTemplate(_PLAIN, needs_begin=True)


def _tokenizer_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_CONFIG:
            raise BadFolder(f"{path} is over {MAX_CONFIG} bytes.")
        told = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise BadFolder(f"{path} is not readable.") from error
    if not isinstance(told, dict):
        raise BadFolder(f"{path} is not readable.")
    return told


def _token(value: object) -> str:
    """A special token's text: given as such, or as a map with its content."""
    match value:
        case str(text) | {"content": str(text)}:
            return text
    return ""


def _refuse(sentence: object) -> None:
    raise jinja2.TemplateError(str(sentence)[:200])


def _today(pattern: str) -> str:
    return datetime.datetime.now(datetime.UTC).strftime(str(pattern)[:100])


def _to_json(value: object, indent: int | None = None) -> str:
    """As templates expect it: without HTML's escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
