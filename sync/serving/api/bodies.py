"""The bodies that clients send, checked. OpenAI's fields; those that would change the answer and are not supported are refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from aiohttp import web

from sync.kit import ids
from sync.kit.ids import RequestId
from sync.serving.api import errors, headers
from sync.serving.ask import Ask

MAX_BODY = 4 * 1024 * 1024
BODY_TIMEOUT_S = 30.0
MAX_MESSAGES = 4096
MAX_INPUTS = 2048
B = TypeVar("B", bound=pydantic.BaseModel)


class _Body(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class TextPart(_Body):
    """A part of a message. Only text is taken."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class TextDocument(_Body):
    """A document given as an object."""

    text: str


class StreamOptions(_Body):
    include_usage: bool = False


class JsonSchema(_Body):
    """A named JSON schema."""

    name: str = pydantic.Field("answer", max_length=200)
    strict: bool | None = None
    schema_: dict[str, Any] = pydantic.Field(alias="schema")


class ResponseFormat(_Body):
    """What form the answer has."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @pydantic.model_validator(mode="after")
    def _with_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type 'json_schema'")
        return self


Bias = Annotated[float, pydantic.Field(ge=-100, le=100)]
_OPTIONS = (
    "n", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs",
)  # fmt: skip


class ChatBody(_Body):
    """POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[Message], pydantic.Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = pydantic.Field(None, ge=1)
    max_completion_tokens: int | None = pydantic.Field(None, ge=1)
    temperature: float | None = pydantic.Field(None, ge=0, le=2)
    top_p: float | None = pydantic.Field(None, gt=0, le=1)
    seed: int | None = pydantic.Field(None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], pydantic.Field(max_length=16)] | None = None
    n: int | None = pydantic.Field(None, ge=1, le=16)
    top_k: int | None = pydantic.Field(None, ge=0, le=1_000_000)
    min_p: float | None = pydantic.Field(None, ge=0, le=1)
    repetition_penalty: float | None = pydantic.Field(None, ge=0.01, le=10)
    frequency_penalty: float | None = pydantic.Field(None, ge=-2, le=2)
    presence_penalty: float | None = pydantic.Field(None, ge=-2, le=2)
    logit_bias: Annotated[dict[str, Bias], pydantic.Field(max_length=1024)] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = pydantic.Field(None, ge=0, le=20)
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    tools: None = None
    functions: None = None
    response_format: ResponseFormat | None = None

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> ChatBody:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs to be true")
        return self

    def ask(self, request: web.Request, cap: int) -> Ask:
        """The request for the pipeline. `cap`: the tenant's most tokens an answer."""
        wanted = self.max_completion_tokens or self.max_tokens
        if wanted is not None and wanted > cap:
            raise errors.BadRequest(
                f"max_tokens is {wanted}, and this tenant's requests may have at most {cap}.",
                param="max_tokens", code="max_tokens_exceeded",
            )  # fmt: skip
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        payload: dict[str, object] = {
            "messages": [{"role": m.role, "content": m.text} for m in self.messages],
            "max_tokens": wanted or cap,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "stop": stop,
        }
        # What is not asked for is left out, so that the same request has the same bytes, and the same answer in a cache.
        payload |= {name: value for name in _OPTIONS if (value := getattr(self, name)) is not None}
        if self.response_format is not None and self.response_format.type != "text":
            payload["response_format"] = self.response_format.model_dump(by_alias=True, exclude_none=True)
        texts = tuple(m.text for m in self.messages)
        ask = _ask(request, "generate", self.model, texts, payload, stream=self.stream, max_tokens=wanted)
        return replace(ask, batch=self.service_tier == "flex")


class EmbeddingsBody(_Body):
    """POST /v1/embeddings."""

    model: str
    input: str | Annotated[list[str], pydantic.Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = pydantic.Field(None, ge=1, le=65_536)

    def ask(self, request: web.Request, _cap: int) -> Ask:
        texts = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        if any(not text for text in texts):
            raise errors.BadRequest("input: a text is empty.", param="input")
        return _ask(request, "embed", self.model, texts, {"input": texts, "dimensions": self.dimensions})


class ClassifyBody(_Body):
    """POST /v1/classify. With a `model`, that model's labels come too."""

    input: str | Annotated[list[str], pydantic.Field(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = None

    def ask(self, request: web.Request, _cap: int) -> Ask:
        texts = (self.input,) if isinstance(self.input, str) else tuple(self.input)
        return _ask(request, "classify", self.model, texts, {"input": texts})


class RerankBody(_Body):
    """POST /v1/rerank: which documents answer the query best, as other rerank APIs have it."""

    model: str
    query: str = pydantic.Field(min_length=1)
    documents: Annotated[list[str | TextDocument], pydantic.Field(min_length=1, max_length=MAX_INPUTS)]
    top_n: int | None = pydantic.Field(None, ge=1)
    return_documents: bool = False

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document if isinstance(document, str) else document.text for document in self.documents]

    def ask(self, request: web.Request, _cap: int) -> Ask:
        if any(not text for text in self.texts):
            raise errors.BadRequest("documents: a text is empty.", param="documents")
        texts = (self.query, *self.texts)
        return _ask(request, "rerank", self.model, texts, {"input": texts})


class DecisionBody(_Body):
    """POST /v1/decisions: a chat or an embeddings body, the model left out or not."""

    model: str | None = None
    messages: Annotated[list[Message], pydantic.Field(min_length=1, max_length=MAX_MESSAGES)] | None = None
    input: str | Annotated[list[str], pydantic.Field(min_length=1, max_length=MAX_INPUTS)] | None = None

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> DecisionBody:
        if (self.messages is None) == (self.input is None):
            raise ValueError("give either messages or input")
        return self

    def ask(self, request: web.Request, _cap: int) -> Ask:
        if self.messages is not None:
            return _ask(request, "generate", self.model, tuple(m.text for m in self.messages), {})
        texts = (self.input,) if isinstance(self.input, str) else tuple(self.input or ())
        return _ask(request, "embed", self.model, texts, {})


async def read(request: web.Request, kind: type[B], *, most: int = MAX_BODY) -> B:
    """The checked body. Raises BadRequest with one sentence for the first mistake, TooLarge, or TooSlow."""
    raw = await raw_body(request, most)
    try:
        return kind.model_validate_json(raw)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "json_invalid":
            raise errors.BadRequest(
                f"The body is not JSON: {message.removeprefix('Invalid JSON: ')}.", code="invalid_json"
            ) from error
        raise errors.BadRequest(f"{where or 'The body'}: {message}.", param=where or None) from error


async def raw_body(request: web.Request, most: int) -> bytes:
    """The body's bytes, at most so many. Raises TooLarge or TooSlow."""
    if (request.content_length or 0) > most:
        raise errors.TooLarge(f"The body has {request.content_length} bytes; at most {most} are taken.")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            raw = await request.read()
    except TimeoutError as error:
        raise errors.TooSlow(f"The body did not come within {BODY_TIMEOUT_S:.0f} s.") from error
    if len(raw) > most:
        raise errors.TooLarge(f"The body has over {most} bytes.")
    return raw


def _ask(
    request: web.Request, task: str, model: str | None, texts: tuple[str, ...], payload: dict[str, object],
    *, stream: bool = False, max_tokens: int | None = None,
) -> Ask:  # fmt: skip
    return Ask(
        request=RequestId(request[headers.REQUEST_ID]),
        task=task,
        model=model,
        texts=texts,
        payload=payload,
        stream=stream,
        max_tokens=max_tokens,
        declared=headers.declared_level(request),
        trace=headers.trace(request),
        subject=headers.subject(request),
        no_store="no-store" in request.headers.get("cache-control", "").lower(),
    )


def new_request_id() -> str:
    return ids.request_id()
