"""One generate request: checked, in tokens, and its answers in the making."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from classifiers.onnx.session import Array, Stop
from classifiers.onnx.setup import BadModel
from edge_agent.inference import port
from edge_agent.inference.generate.guidance import Grammars, Guide
from edge_agent.inference.generate.sampling import Sampler, Settings, likeliest, log_probabilities
from edge_agent.inference.port import BadPayload, Caller, Emit, Piece
from edge_agent.inference.text import StopStrings, Tokens
from sync.wire import tasks

EMIT_EVERY_S = 0.008
"""A fast model's tokens go out together, at most this long after the first of them."""
LEAST_TOP_P = 1e-6
"""Of no chance at all no token could be picked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request, and how its tokens are picked where it leaves that to the model."""

    request: tasks.Generate
    settings: Settings

    @property
    def choices(self) -> int:
        return self.request.n or 1

    @property
    def scores(self) -> bool:
        return bool(self.request.logprobs)


def check(request: tasks.Request, default_temperature: float | None) -> Wanted:
    """Return the request with the model's defaults filled in. Raises BadPayload naming what it cannot be.

    Numbers are in range and texts are texts by the request's own type.
    """
    if not isinstance(request, tasks.Generate):
        raise BadPayload("The request is not one for text generation: it has no messages.")
    if request.top_p is not None and request.top_p < LEAST_TOP_P:
        raise BadPayload(f"top_p: give a number from {LEAST_TOP_P:g} to 1.")
    settings = Settings(
        temperature=_or(request.temperature, _or(default_temperature, 1.0)),
        top_k=request.top_k or 0,
        top_p=_or(request.top_p, 1.0),
        min_p=_or(request.min_p, 0.0),
        seed=request.seed,
        repetition_penalty=_or(request.repetition_penalty, 1.0),
        frequency_penalty=_or(request.frequency_penalty, 0.0),
        presence_penalty=_or(request.presence_penalty, 0.0),
        bias={int(token): bias for token, bias in (request.logit_bias or {}).items()},
    )
    return Wanted(request, settings)


class Answer:
    """One answer in the making: its tokens so far, and the text that they make."""

    def __init__(
        self, wanted: Wanted, number: int, prompt: list[int], tokens: Tokens, guide: Guide | None, emit: Emit | None
    ) -> None:
        self.number = number
        self.tokens: list[int] = []
        self.finish = ""
        self._wanted = wanted
        self._guide = guide
        self._vocabulary = tokens
        self._sampler = Sampler(wanted.settings, prompt, number)
        self._decode = tokens.stream()
        self._stops = StopStrings(wanted.request.stop)
        self._emit = emit
        self._parts: list[str] = []
        self._scores: list[tasks.TokenScore] = []
        self._waiting = ""
        self._waiting_scores: list[tasks.TokenScore] = []
        self._gone_tokens = 0
        self._went_at = 0.0
        self.is_plain_greedy = wanted.settings.is_plain_greedy and guide is None and not wanted.scores

    def pick(self, logits: Array) -> int:
        """The next token. Raises BadModel where the model's numbers are none, BadPayload where the schema allows no token."""
        adjusted = self._sampler.adjust(logits)
        if not np.isfinite(adjusted.max()):
            raise not_numbers()
        if self._guide is not None:
            self._guide.mask(adjusted)
        token = self._sampler.pick(adjusted)
        if self._wanted.scores:
            self._score(token, logits)
        return token

    def take(self, token: int, ends: frozenset[int], room: int) -> None:
        """Adds a token; sets `finish` where it is the last. `room`: tokens that may still follow it."""
        self.tokens.append(token)
        self._sampler.took(token)
        if token in ends:
            self._drop_score()
            self.finish = "stop"
        else:
            whole = self._guide.take(token) if self._guide is not None else False
            self._put(self._stops.add(self._decode(token)))
            if self._stops.hit or whole:
                self.finish = "stop"
            elif room <= 0:
                self.finish = "length"
        if self.finish:
            self._put(self._stops.rest())
            self._flush()

    @property
    def choice(self) -> tasks.Answer:
        return tasks.Answer("".join(self._parts), self.finish, tuple(self._scores))

    def _score(self, token: int, logits: Array) -> None:
        chances = log_probabilities(logits)
        most = self._wanted.request.top_logprobs or 0
        top = [(self._vocabulary.text_of(int(i)), float(chances[i])) for i in likeliest(chances, most)]
        score = port.score(self._vocabulary.text_of(token), float(chances[token]), top)
        self._scores.append(score)
        self._waiting_scores.append(score)

    def _drop_score(self) -> None:
        """The token that ends an answer is no part of it."""
        if self._wanted.scores:
            self._scores.pop()
            if self._waiting_scores:
                self._waiting_scores.pop()

    def _put(self, piece: str) -> None:
        if piece:
            self._parts.append(piece)
        if self._emit is None or not (piece or self._waiting_scores):
            return
        self._waiting += piece
        now = time.monotonic()
        if now - self._went_at >= EMIT_EVERY_S:
            self._went_at = now
            self._flush()

    def _flush(self) -> None:
        if self._emit is not None and (self._waiting or self._waiting_scores):
            # Tokens that made no text yet are counted with the piece that they become a part of.
            made, self._gone_tokens = len(self.tokens) - self._gone_tokens, len(self.tokens)
            self._emit(Piece(self._waiting, self.number, tuple(self._waiting_scores), made))
            self._waiting, self._waiting_scores = "", []


@dataclass(slots=True, eq=False)
class Sequence:
    """One row's work: a prompt, then an answer. `length` tokens of it are in the cache."""

    answer: Answer
    prompt: list[int]
    most_new: int
    caller: Caller
    done: Callable[[BaseException | None], None]
    """Called once, in the batcher's thread: with None where the answer is whole."""
    stop: Stop = field(default_factory=Stop)
    length: int = 0
    reused: int = 0
    put_at: float = 0.0
    began_at: float = 0.0
    token_at: float = 0.0

    @property
    def most_tokens(self) -> int:
        """The most that its row will hold."""
        return len(self.prompt) + self.most_new

    @property
    def computed(self) -> list[int]:
        """The tokens whose key-value cache its row holds."""
        return (self.prompt + self.answer.tokens)[: self.length]


def answers(wanted: Wanted, prompt: list[int], tokens: Tokens, grammars: Grammars, emit: Emit | None) -> list[Answer]:
    """One for each choice that is wanted. Raises BadPayload. Blocks while a grammar is made."""
    return [
        Answer(wanted, number, prompt, tokens, grammars.of_format(wanted.request.response_format), emit)
        for number in range(wanted.choices)
    ]


def not_numbers() -> BadModel:
    return BadModel(
        "The model gave no numbers (NaN) for this prompt: its weights are damaged, or it overflows.", code="model_failed"
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
