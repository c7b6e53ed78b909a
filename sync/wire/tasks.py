"""One struct a task for what is asked of an engine, and one for what it answers: the same inside and on the wire.

A request is decoded once, at the edge; a result once, by whoever reads the reply. Both are bounded by their types: a
number out of range or a field that is not known is a bad frame. The names are OpenAI's where OpenAI has one.

Every field that holds free text is read by the classifier and can be redacted: `strings` walks a request by itself.
The few texts that are not free (`UNREAD`) are closed lists, or digits.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeAlias

from msgspec import Meta

from sync.kit import errors
from sync.wire import codec
from sync.wire.types import MAX_TOKENS, Bytes, Closed, Code, Count, Str, Tokens, Word, always

MAX_MESSAGES = 4096
MAX_INPUTS = 2049
"""Texts of one request: OpenAI's 2,048, and a query beside that many documents."""
MAX_STOPS = 16
MAX_BIASES = 1024
MAX_CHOICES = 16
MAX_TOP = 20
MAX_TENSORS = 64
MAX_DIMENSIONS = 65_536

Text = Annotated[str, Meta(min_length=1)]
TokenId = Annotated[str, Meta(pattern=r"\A[0-9]{1,7}\Z", max_length=7)]
"""A token's number, as digits: a JSON key is a text, and nothing but a number may hide in this one. No vocabulary has ten
million tokens, and what identifies somebody has more digits than seven."""
Bias = Annotated[float, Meta(ge=-100, le=100)]
Chance = Annotated[float, Meta(ge=0, le=1)]
LogProbability = Annotated[float, Meta(ge=-1e9, le=1)]
"""A natural logarithm. A little over 0 by rounding is taken; minus infinity is not, since JSON has none."""
Index = Annotated[int, Meta(ge=0, lt=MAX_INPUTS)]
Byte = Annotated[int, Meta(ge=0, le=255)]


class UnknownTask(errors.Refused):
    """There is no task of this name."""

    code = "unknown_task"


class Role(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"


class Message(Closed, frozen=True):
    """One message of a conversation."""

    role: Role
    content: Str


class JsonSchema(Closed, frozen=True, kw_only=True):
    """A named JSON schema."""

    name: Word
    schema: dict[str, Any]
    strict: bool | None = None


class Format(StrEnum):
    """What form an answer is held to."""

    JSON = "json_object"
    SCHEMA = "json_schema"


class ResponseFormat(Closed, frozen=True):
    """What form the answer has."""

    type: Format
    json_schema: JsonSchema | None = None


class Generate(Closed, frozen=True, kw_only=True):
    """A conversation to go on with. What is None is the model's own default; `max_tokens` is of each answer."""

    TASK: ClassVar[str] = "generate"
    UNREAD: ClassVar[frozenset[str]] = frozenset({"logit_bias"})
    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = always(None)
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = always(None)
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = always(None)
    stop: Annotated[tuple[Str, ...], Meta(max_length=MAX_STOPS)] = always(())
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=10)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=MAX_BIASES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP)] | None = None
    response_format: ResponseFormat | None = None


class Embed(Closed, frozen=True):
    """Texts to make vectors of, cut to so many dimensions where that is asked for."""

    TASK: ClassVar[str] = "embed"
    UNREAD: ClassVar[frozenset[str]] = frozenset()
    input: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_INPUTS)]
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = always(None)


class Classify(Closed, frozen=True):
    """Texts to label."""

    TASK: ClassVar[str] = "classify"
    UNREAD: ClassVar[frozenset[str]] = frozenset()
    input: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=MAX_INPUTS)]


class Rerank(Closed, frozen=True):
    """A query, then the documents to weigh against it."""

    TASK: ClassVar[str] = "rerank"
    UNREAD: ClassVar[frozenset[str]] = frozenset()
    input: Annotated[tuple[Text, ...], Meta(min_length=2, max_length=MAX_INPUTS)]


class Tensor(Closed, frozen=True):
    """A tensor: its elements flat, in row-major order."""

    name: Word
    datatype: Word
    shape: Annotated[tuple[Count, ...], Meta(max_length=16)]
    data: tuple[bool | int | float | str, ...]


class Tensors(Closed, frozen=True):
    """A model of any kind by its tensors; `outputs` names those that are wanted, none meaning all."""

    TASK: ClassVar[str] = "tensors"
    UNREAD: ClassVar[frozenset[str]] = frozenset()
    inputs: Annotated[tuple[Tensor, ...], Meta(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[tuple[Word, ...], Meta(max_length=MAX_TENSORS)] = always(())


class LikelyToken(Closed, frozen=True):
    """A token, its log probability, and the bytes that a client joins where a character is cut between tokens."""

    token: Str
    logprob: LogProbability
    bytes: tuple[Byte, ...]


class TokenScore(Closed, frozen=True):
    """A token of the answer, and the likeliest ones in its place."""

    token: Str
    logprob: LogProbability
    bytes: tuple[Byte, ...]
    top_logprobs: Annotated[tuple[LikelyToken, ...], Meta(max_length=MAX_TOP)]


class Answer(Closed, frozen=True):
    """One answer to a prompt: its text, why it ended, and the scores of its tokens where they were asked for."""

    text: Str
    finish: Code
    scores: tuple[TokenScore, ...] = always(())


class Generated(Closed, frozen=True):
    """The answers to a prompt. `reused_tokens`: of the prompt's, those that were computed for an earlier request."""

    choices: Annotated[tuple[Answer, ...], Meta(min_length=1, max_length=128)]
    reused_tokens: Tokens = 0


class Embedded(Closed, frozen=True):
    """Vectors in float32, little-endian, one after another. `truncated`: which texts were longer than the model takes."""

    vectors: Bytes
    width: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)]
    truncated: tuple[Index, ...] = always(())


class Span(Closed, frozen=True):
    """A labelled part of a text: characters from `start` up to `end`."""

    label: Word
    start: Count
    end: Count
    score: Chance


class Labels(Closed, frozen=True):
    """What a text is labelled as, with each label's chance; or, from a model that labels tokens, its spans."""

    label: Word = ""
    score: Chance | None = None
    scores: dict[Word, Chance] | None = None
    spans: tuple[Span, ...] | None = None


class Classified(Closed, frozen=True):
    """The labels of each text."""

    labels: tuple[Labels, ...]
    truncated: tuple[Index, ...] = always(())


class Ranked(Closed, frozen=True):
    """Each document's relevance to the query."""

    scores: tuple[Annotated[float, Meta(ge=-1e9, le=1e9)], ...]
    truncated: tuple[Index, ...] = always(())


class Inferred(Closed, frozen=True):
    """The tensors that came out."""

    outputs: tuple[Tensor, ...]


Request: TypeAlias = Generate | Embed | Classify | Rerank | Tensors
Result: TypeAlias = Generated | Embedded | Classified | Ranked | Inferred
REQUESTS: dict[str, type[Request]] = {kind.TASK: kind for kind in (Generate, Embed, Classify, Rerank, Tensors)}
RESULTS: dict[str, type[Result]] = {
    "generate": Generated,
    "embed": Embedded,
    "classify": Classified,
    "rerank": Ranked,
    "tensors": Inferred,
}


def pack(value: Request | Result | TokenScore) -> bytes:
    """Return the msgpack bytes of a request or a result."""
    return codec.pack_value(value)


def read_request(task: str, data: bytes) -> Request:
    """Return the request of this task. Raises UnknownTask, or BadFrame where it is not one."""
    kind = REQUESTS.get(task)
    if kind is None:
        raise UnknownTask(f"There is no task '{task[:64]}'.")
    return codec.read_value(kind, data)


def read_result(task: str, data: bytes) -> Result:
    """Return the result of this task. Raises UnknownTask, or BadFrame where it is not one."""
    kind = RESULTS.get(task)
    if kind is None:
        raise UnknownTask(f"There is no task '{task[:64]}'.")
    return codec.read_value(kind, data)


def read_answer(request: Request, data: bytes) -> Result:
    """Return the result of this request. Raises BadFrame where it is not one, or answers another number of texts."""
    result = read_result(request.TASK, data)
    if not _fits(request, result):
        raise codec.BadFrame("The answer is of another number of texts than were sent.")
    return result


def _fits(request: Request, result: Result) -> bool:
    match request, result:
        case Embed(), Embedded():
            return len(result.vectors) == 4 * result.width * len(request.input)
        case Classify(), Classified():
            return len(result.labels) == len(request.input)
        case Rerank(), Ranked():
            return len(result.scores) == len(request.input) - 1
        case Generate(), Generated():
            return len(result.choices) == (request.n or 1)
    return True


def pack_scores(scores: tuple[TokenScore, ...]) -> bytes:
    """Return what a chunk carries of its tokens' scores: nothing where there are none."""
    return codec.pack_any(scores) if scores else b""


def read_scores(data: bytes) -> tuple[TokenScore, ...]:
    """Return the scores that a chunk carries. Raises BadFrame."""
    return codec.read_any(tuple[TokenScore, ...], data, "The scores of a chunk") if data else ()
