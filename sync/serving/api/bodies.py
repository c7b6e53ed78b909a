"""The bodies that clients send, checked: OpenAI's fields, as the rest of the house needs them.

Nothing here knows the server: a body that a site forwards is parsed by the same models.

Invariants, each with a test of its words:
- null is a field that was left out;
- what would change the answer and is not supported is refused by its name;
- what is ignored is named in `ignored`;
- what a body's payload holds, the wire can carry: no type is wider than that of sync.wire.tasks;
- a mistake is a sentence of ours, with the field's path.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self, TypeVar

import pydantic
import pydantic_core
from aiohttp import web
from pydantic import Discriminator, Field, Strict, Tag

from sync.serving.api import errors, fields, mistakes, schemas
from sync.serving.api.mistakes import LIST, OBJECT, TEXT
from sync.wire import tasks
from sync.wire.types import MAX_TOKENS, MAX_WORD

MAX_BODY = 4 * 1024 * 1024
BODY_TIMEOUT_S = 30.0
MAX_MESSAGES = tasks.MAX_MESSAGES
MAX_INPUTS = tasks.MAX_INPUTS - 1
"""Texts of one request, as OpenAI has it.

The wire carries one more: a query beside its documents.
"""
MAX_TEXT = MAX_BODY
"""Characters of one text: a body has no room for more, and a forwarded one is held to the same."""
MAX_STOP = 1_000
"""Characters of one stop: a paragraph. Each piece of an answer is compared with all of them."""
MAX_FIELDS = 256
"""Fields of one object: OpenAI's largest has 40.

Each that is not known is looked at to be named.
"""
B = TypeVar("B", bound=pydantic.BaseModel)


class Body(Protocol):
    """What every body can say, whichever endpoint it came to."""

    @property
    def model(self) -> str | None: ...

    @property
    def task(self) -> str: ...

    @property
    def stream(self) -> bool: ...

    @property
    def batch(self) -> bool:
        """Whether others go first at the model."""
        ...

    @property
    def wanted_tokens(self) -> int | None:
        """The most tokens of an answer that the client asks for."""
        ...

    @property
    def ignored(self) -> tuple[str, ...]:
        """The fields that came and are not looked at, sorted, each once."""
        ...

    def payload(self, cap: int) -> tasks.Request:
        """Return the request for an engine.

        `cap`: the tenant's most tokens an answer. Raises BadRequest.
        """
        ...


class _Part(pydantic.BaseModel):
    """A part of a body: null is left out, and unknown fields are kept only to be named."""

    model_config = pydantic.ConfigDict(
        extra="allow",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )
    UNSUPPORTED: ClassVar[Mapping[str, fields.Unsupported]] = fields.NOTHING

    @pydantic.model_validator(mode="before")
    @classmethod
    def _without_what_is_left_out(cls, data: object) -> object:
        """Drop what is null, and what says of an unsupported field that it is not used.

        Refuse the field otherwise.
        """
        if not isinstance(data, Mapping):
            return data
        if len(data) > MAX_FIELDS:
            raise mistakes.own(f"at most {MAX_FIELDS} fields are taken.")
        given = {name: value for name, value in data.items() if value is not None}
        if found := fields.refused(given, cls.UNSUPPORTED):
            raise mistakes.own(found[1], field=found[0], code="unsupported")
        return fields.looked_at(given, cls.UNSUPPORTED)

    def _unknown(self, path: str = "") -> Iterator[str]:
        """Name what is not looked at, here and below."""
        for name in self.model_extra or ():
            yield path + fields.safe(name)
        # Those that were given alone: a body has some twenty fields, and most requests use three.
        for name in self.model_fields_set - (self.model_extra or {}).keys():
            value = getattr(self, name)
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(part, _Part):
                    yield from part._unknown(f"{path}{name}.")


class _Body(_Part):
    """A whole body. Most generate nothing, and so have no stream and no tokens."""

    @property
    def ignored(self) -> tuple[str, ...]:
        """The fields that came and are not looked at, sorted, each once."""
        return fields.named(self._unknown())


class _Quiet(_Body):
    @property
    def stream(self) -> bool:
        return False

    @property
    def batch(self) -> bool:
        return False

    @property
    def wanted_tokens(self) -> int | None:
        return None


def _shape(value: object) -> str | None:
    """Return the branch of a union by the type that was given: a mistake is told for it alone."""
    if isinstance(value, str):
        return TEXT
    if isinstance(value, (list, tuple)):
        return LIST
    return OBJECT if isinstance(value, (Mapping, pydantic.BaseModel)) else None


def _text_or_list(value: object) -> object:
    if _shape(value) not in (TEXT, LIST):
        raise mistakes.own("give a text or a list.")
    return value


def _text_or_object(value: object) -> object:
    if _shape(value) not in (TEXT, OBJECT):
        raise mistakes.own("give a text, or an object with text.")
    return value


def _texts_alone(value: object) -> object:
    """Refuse token numbers, which some clients send by default in place of texts."""
    first = value[0] if isinstance(value, (list, tuple)) and value else None
    if isinstance(first, (int, list, tuple)) and not isinstance(first, bool):
        raise mistakes.own(
            "token numbers are not taken: send texts (in LangChain, set check_embedding_ctx_length=False).",
            code="unsupported",
        )
    return value


def _token_numbers(value: object) -> object:
    """Refuse keys that are not token numbers, before each of very many is looked at."""
    if not isinstance(value, Mapping):
        return value
    if len(value) > tasks.MAX_BIASES:
        raise mistakes.own(f"at most {tasks.MAX_BIASES} tokens are taken.")
    if not all(isinstance(key, str) and _TOKEN.fullmatch(key) for key in value):
        raise mistakes.own("the keys are token numbers: digits, at most 7.")
    return value


_TEXT_OR_LIST = pydantic.BeforeValidator(_text_or_list)
_TOKEN = re.compile(r"[0-9]{1,7}", re.ASCII)
_STOPS = Field(max_length=tasks.MAX_STOPS)
_INPUTS = Field(min_length=1, max_length=MAX_INPUTS)
_PARTS = Field(max_length=MAX_MESSAGES)
Name = Annotated[str, Strict(), Field(min_length=1, max_length=MAX_WORD)]
Word = Annotated[str, Strict(), Field(max_length=MAX_WORD)]
Text = Annotated[str, Strict(), Field(max_length=MAX_TEXT)]
Filled = Annotated[str, Strict(), Field(min_length=1, max_length=MAX_TEXT)]
Stop = Annotated[str, Strict(), Field(max_length=MAX_STOP)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Biases = Annotated[dict[str, Bias], pydantic.BeforeValidator(_token_numbers)]
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Stops = Annotated[
    Annotated[Stop, Tag(TEXT)] | Annotated[list[Stop], _STOPS, Tag(LIST)],
    Discriminator(_shape),
    _TEXT_OR_LIST,
]
Texts = Annotated[
    Annotated[Filled, Tag(TEXT)] | Annotated[list[Filled], _INPUTS, Tag(LIST)],
    Discriminator(_shape),
    _TEXT_OR_LIST,
    pydantic.BeforeValidator(_texts_alone),
]


class TextPart(_Part):
    """A part of a message. Only text is taken."""

    type: Literal["text"]
    text: Text

    @pydantic.model_validator(mode="before")
    @classmethod
    def _text_alone(cls, data: object) -> object:
        kind = data.get("type") if isinstance(data, Mapping) else None
        if isinstance(kind, str) and kind != "text":
            raise mistakes.own(
                f"This API takes text only: parts of the type {fields.safe(kind)} are not supported.",
                field="type",
                code="unsupported",
            )
        return data


Content = Annotated[
    Annotated[Text, Tag(TEXT)] | Annotated[list[TextPart], _PARTS, Tag(LIST)],
    Discriminator(_shape),
    _TEXT_OR_LIST,
]


class Message(_Part):
    """One message of a conversation."""

    UNSUPPORTED = fields.MESSAGE
    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    @pydantic.model_validator(mode="before")
    @classmethod
    def _as_sent_back(cls, data: object) -> object:
        """Refuse the roles of tools; take an assistant's message without content for an empty one."""
        if not isinstance(data, Mapping):
            return data
        if data.get("role") in ("tool", "function"):
            sentence = "this API knows no tools: send the conversation without their messages."
            raise mistakes.own(sentence, field="role", code="unsupported")
        if data.get("role") == "assistant" and data.get("content") is None:
            return {**data, "content": ""}
        return data

    @property
    def text(self) -> str:
        """The parts one after another, with nothing between them: as OpenAI has it."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class TextDocument(_Part):
    """A document given as an object."""

    text: Filled


Document = Annotated[
    Annotated[Filled, Tag(TEXT)] | Annotated[TextDocument, Tag(OBJECT)],
    Discriminator(_shape),
    pydantic.BeforeValidator(_text_or_object),
]


class StreamOptions(_Part):
    """What a stream says beside its text."""

    include_usage: bool = False


class JsonSchema(_Part):
    """A named JSON schema."""

    name: Word = "answer"
    strict: bool | None = None
    schema_: dict[str, Any] = Field(alias="schema")

    @pydantic.field_validator("schema_", mode="before")
    @classmethod
    def _bounded(cls, value: object) -> object:
        if isinstance(value, Mapping) and (problem := schemas.problem(value)):
            raise mistakes.own(problem)
        return value

    def payload(self) -> tasks.JsonSchema:
        """Return it as an engine gets it."""
        return tasks.JsonSchema(name=self.name, schema=self.schema_, strict=self.strict)


class ResponseFormat(_Part):
    """What form the answer has."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @pydantic.model_validator(mode="after")
    def _with_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise mistakes.own("json_schema goes with the type 'json_schema'.")
        return self

    def payload(self) -> tasks.ResponseFormat | None:
        """Return what an engine is held to, or None for plain text."""
        if self.type == "text":
            return None
        schema = None if self.json_schema is None else self.json_schema.payload()
        return tasks.ResponseFormat(tasks.Format(self.type), schema)


class _Generating(_Body):
    """What says how an answer is generated."""

    UNSUPPORTED = fields.CHAT
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: Stops | None = None
    n: int | None = Field(None, ge=1, le=tasks.MAX_CHOICES)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=10)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: Biases | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=tasks.MAX_TOP)
    service_tier: Word | None = None
    response_format: ResponseFormat | None = None

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise mistakes.own("needs logprobs to be true.", field="top_logprobs")
        return self

    @property
    def batch(self) -> bool:
        """Whether others go first at the model."""
        return self.service_tier == "flex"

    @property
    def wanted_tokens(self) -> int | None:
        """The most tokens of an answer that the client asks for.

        The newer name counts where both are given.
        """
        return self.max_completion_tokens or self.max_tokens

    def _unknown(self, path: str = "") -> Iterator[str]:
        if self.service_tier not in (None, "auto", "default", "flex"):
            yield "service_tier"
        yield from super()._unknown(path)

    def _most(self, cap: int) -> int:
        """Return the most tokens of an answer: what the client asks for, else the tenant's cap. Raises BadRequest above it."""
        wanted = self.wanted_tokens
        if wanted is not None and wanted > cap:
            name = "max_completion_tokens" if self.max_completion_tokens else "max_tokens"
            raise errors.BadRequest(
                f"{name} is {wanted}, and this tenant's requests may have at most {cap}.",
                param=name,
                code="max_tokens_exceeded",
            )
        return wanted or cap

    def _generate(self, messages: list[Message], max_tokens: int) -> tasks.Generate:
        form = None if self.response_format is None else self.response_format.payload()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tasks.Generate(
            messages=tuple(tasks.Message(tasks.Role(m.role), m.text) for m in messages),
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=stop,
            n=self.n,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=self.logit_bias,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            response_format=form,
        )


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]


class ChatBody(_Generating):
    """POST /v1/chat/completions."""

    model: Name
    messages: Messages
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def task(self) -> str:
        return tasks.Generate.TASK

    def payload(self, cap: int) -> tasks.Generate:
        """Return the request for an engine.

        `cap`: the tenant's most tokens an answer. Raises BadRequest.
        """
        return self._generate(self.messages, self._most(cap))


class EmbeddingsBody(_Quiet):
    """POST /v1/embeddings."""

    UNSUPPORTED = fields.EMBEDDINGS
    model: Name
    input: Texts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=tasks.MAX_DIMENSIONS)

    @property
    def task(self) -> str:
        return tasks.Embed.TASK

    def payload(self, _cap: int) -> tasks.Embed:
        """Return the request for an engine."""
        return tasks.Embed(_listed(self.input), self.dimensions)


class ClassifyBody(_Quiet):
    """POST /v1/classify. With a `model`, that model's labels come too."""

    input: Texts
    model: Name | None = None

    @property
    def task(self) -> str:
        return tasks.Classify.TASK

    def payload(self, _cap: int) -> tasks.Classify:
        """Return the request for an engine."""
        return tasks.Classify(_listed(self.input))


class RerankBody(_Quiet):
    """POST /v1/rerank: which documents answer the query best, as other rerank APIs have it."""

    model: Name
    query: Filled
    documents: Annotated[list[Document], Field(min_length=1, max_length=MAX_INPUTS)]
    top_n: int | None = Field(None, ge=1, le=1_000_000)
    return_documents: bool = False

    @property
    def task(self) -> str:
        return tasks.Rerank.TASK

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [given if isinstance(given, str) else given.text for given in self.documents]

    def payload(self, _cap: int) -> tasks.Rerank:
        """Return the request for an engine: the query, then the documents."""
        return tasks.Rerank((self.query, *self.texts))


class ExplainBody(_Generating):
    """A chat or an embeddings body (the model may be left out): what would happen to it?

    It has all fields that the real request has, so that the same strings are classified.
    """

    model: Name | None = None
    messages: Messages | None = None
    input: Texts | None = None
    dimensions: int | None = Field(None, ge=1, le=tasks.MAX_DIMENSIONS)

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.messages is None) == (self.input is None):
            raise mistakes.own("give either messages or input.")
        return self

    @property
    def stream(self) -> bool:
        return False

    @property
    def task(self) -> str:
        return tasks.Embed.TASK if self.messages is None else tasks.Generate.TASK

    def payload(self, cap: int) -> tasks.Generate | tasks.Embed:
        """Return the request that an engine would get. `cap`: the tenant's most tokens an answer. Raises BadRequest."""
        if self.messages is not None:
            return self._generate(self.messages, self._most(cap))
        return tasks.Embed(_listed(self.input or ""), self.dimensions)


def parse(kind: type[B], data: bytes | Mapping[str, object]) -> B:
    """Return the body in JSON bytes, or in the map that a forwarded request brought.

    In such a map, lists may be tuples. Raises BadRequest with one sentence for the first mistake.
    """
    value = _json(data) if isinstance(data, bytes) else data
    try:
        return kind.model_validate(value)
    except pydantic.ValidationError as error:
        raise mistakes.of(error) from error


def of_task(task: str, given: Mapping[str, object]) -> Body:
    """Return the body that a site sends on: its task, and the fields of the task's request as OpenAI names them.

    Raises BadRequest, or UnknownTask.
    """
    match task:
        case tasks.Generate.TASK:
            return parse(ChatBody, given)
        case tasks.Embed.TASK:
            return parse(EmbeddingsBody, given)
        case tasks.Classify.TASK:
            return parse(ClassifyBody, given)
        case tasks.Rerank.TASK:
            # On the wire the query is the first of the texts.
            texts = given.get("input")
            query, *documents = texts if isinstance(texts, (list, tuple)) and texts else (None,)
            return parse(RerankBody, {"model": given.get("model"), "query": query, "documents": documents})
    raise tasks.UnknownTask(f"A site does not send on requests of the task '{fields.safe(task)}'.")


async def read(request: web.Request, kind: type[B], *, most: int = MAX_BODY) -> B:
    """Return the body of a request, checked. Raises BadRequest, TooLarge or TooSlow."""
    return parse(kind, await raw_body(request, most))


async def raw_body(request: web.Request, most: int) -> bytes:
    """Return the body's bytes, at most `most` of them. Raises TooLarge or TooSlow."""
    if (request.content_length or 0) > most:
        raise errors.TooLarge(
            f"The body has {request.content_length} bytes; at most {most} are taken.",
        )
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise errors.TooSlow(f"The body did not come within {BODY_TIMEOUT_S:.0f} s.") from error
    if len(raw) > most:
        raise errors.TooLarge(f"The body has over {most} bytes.")
    return raw


_PLACE = re.compile(r"line \d+ column \d+")


def _json(data: bytes) -> object:
    try:
        # Keys alone are cached: the cache is the process's own, and a short value may be a
        # password.
        value: object = pydantic_core.from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        place = _PLACE.search(str(error))
        where = f": look at {place[0]}" if place else ""
        raise errors.BadRequest(f"The body is not JSON{where}.", code="invalid_json") from error
    return value


def _listed(texts: str | list[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)
