"""A conversation as the prompt that a model was trained on, by the model's own template. The door to Jinja2, in its sandbox."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jinja2
import jinja2.sandbox

from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.port import BadPayload

MAX_TEMPLATE = 256 * 1024
MAX_PROMPT = 4 * 1024 * 1024
_PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant:"


class ChatTemplate:
    """One model's template."""

    def __init__(self, source: str) -> None:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals = {"raise_exception": _refuse}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise BadFolder("The model's chat template is not one that the sandbox takes.") from error

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """The prompt. Raises BadPayload where the template refuses the conversation."""
        try:
            prompt = self._template.render(messages=messages, add_generation_prompt=True, bos_token="", eos_token="")
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise BadPayload("The model's chat template does not take these messages.") from error
        if len(prompt) > MAX_PROMPT:
            raise BadPayload("The prompt is too long.")
        return prompt


def load(folder: Path) -> ChatTemplate:
    """The template in a model folder: chat_template.jinja, or tokenizer_config.json's own, or a plain one."""
    own = folder / "chat_template.jinja"
    if own.is_file() and own.stat().st_size <= MAX_TEMPLATE:
        return ChatTemplate(own.read_text())
    config = folder / "tokenizer_config.json"
    if config.is_file():
        try:
            source = json.loads(config.read_text()).get("chat_template")
        except (ValueError, AttributeError) as error:
            raise BadFolder(f"{config} is not readable.") from error
        if isinstance(source, str) and len(source) <= MAX_TEMPLATE:
            return ChatTemplate(source)
    return ChatTemplate(_PLAIN)


def _refuse(sentence: object) -> None:
    raise jinja2.TemplateError(str(sentence)[:200])
