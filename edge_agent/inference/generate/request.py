"""One generate request: checked, in tokens, and its answers in the making."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from classifiers.onnx.session import Array, Stop
from classifiers.onnx.setup import BadModel
from edge_agent.inference.generate.guidance import Grammars, Guide
from edge_agent.inference.generate.sampling import Sampler, Settings, likeliest, log_probabilities
from edge_agent.inference.port import BadPayload, Caller, Choice, Emit, Payload, Piece, TokenScore
from edge_agent.inference.text import StopStrings, Tokens

EMIT_EVERY_S = 0.008
"""A fast model's tokens go out together, at most this long after the first of them."""
MOST_CHOICES = 16
MOST_TOP = 20
MOST_BIAS = 1024
MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked payload."""

    messages: list[dict[str, str]]
    max_tokens: int
    stop: list[str]
    settings: Settings
    choices: int = 1
    scores: bool = False
    top_scores: int = 0
    response_format: object = None


def check(payload: Payload, default_temperature: float | None) -> Wanted:
    """The payload of a hub or of the site's own API. Raises BadPayload naming the field."""
    messages = payload.get("messages")
    if not isinstance(messages, (tuple, list)) or not messages:
        raise BadPayload("The request is not one for text generation: it has no messages.")
    stop = payload.get("stop") or ()
    if not isinstance(stop, (tuple, list)):
        raise BadPayload("stop: give a list of strings.")
    settings = Settings(
        temperature=_number(payload, "temperature", 1.0 if default_temperature is None else default_temperature, 0, 2),
        top_k=_whole(payload, "top_k", 0, 0, 1_000_000),
        top_p=_number(payload, "top_p", 1.0, 1e-6, 1),
        min_p=_number(payload, "min_p", 0.0, 0, 1),
        seed=_seed(payload),
        repetition_penalty=_number(payload, "repetition_penalty", 1.0, 0.01, 10),
        frequency_penalty=_number(payload, "frequency_penalty", 0.0, -2, 2),
        presence_penalty=_number(payload, "presence_penalty", 0.0, -2, 2),
        bias=_bias(payload.get("logit_bias")),
    )
    return Wanted(
        messages=[_message(message) for message in messages],
        max_tokens=_whole(payload, "max_tokens", 0, 1, 10_000_000),
        stop=[str(s) for s in stop],
        settings=settings,
        choices=_whole(payload, "n", 1, 1, MOST_CHOICES),
        scores=bool(payload.get("logprobs")),
        top_scores=_whole(payload, "top_logprobs", 0, 0, MOST_TOP),
        response_format=payload.get("response_format"),
    )


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
        self._stops = StopStrings(wanted.stop)
        self._emit = emit
        self._parts: list[str] = []
        self._scores: list[TokenScore] = []
        self._waiting = ""
        self._waiting_scores: list[TokenScore] = []
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
    def choice(self) -> Choice:
        return Choice("".join(self._parts), self.finish, tuple(self._scores))

    def _score(self, token: int, logits: Array) -> None:
        chances = log_probabilities(logits)
        top = [(self._vocabulary.text_of(int(i)), float(chances[i])) for i in likeliest(chances, self._wanted.top_scores)]
        score = TokenScore(self._vocabulary.text_of(token), float(chances[token]), tuple(top))
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
            self._emit(Piece(self._waiting, self.number, tuple(self._waiting_scores)))
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
        Answer(wanted, number, prompt, tokens, grammars.of_format(wanted.response_format), emit) for number in range(wanted.choices)
    ]


def not_numbers() -> BadModel:
    return BadModel(
        "The model gave no numbers (NaN) for this prompt: its weights are damaged, or it overflows.", code="model_failed"
    )


def _message(message: object) -> dict[str, str]:
    match message:
        case {"role": str(role), "content": str(content)}:
            return {"role": role, "content": content}
    raise BadPayload("A message has no role or no content.")


def _number(payload: Payload, name: str, default: float, least: float, most: float) -> float:
    value = payload.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise BadPayload(f"{name}: give a number from {least:g} to {most:g}.")
    return float(value)


def _whole(payload: Payload, name: str, default: int, least: int, most: int) -> int:
    value = payload.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadPayload(f"{name}: give a whole number from {least} to {most}.")
    return value


def _seed(payload: Payload) -> int | None:
    value = payload.get("seed")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise BadPayload("seed: give a whole number.")
    return value


def _bias(value: object) -> dict[int, float]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MOST_BIAS:
        raise BadPayload(f"logit_bias: give a map of at most {MOST_BIAS} token ids to numbers from -100 to 100.")
    found = {}
    for key, bias in value.items():
        is_token = str(key).isdecimal() and len(str(key)) <= MOST_DIGITS
        if not is_token or isinstance(bias, bool) or not isinstance(bias, (int, float)) or not -100 <= bias <= 100:
            raise BadPayload(f"logit_bias: give token ids and numbers from -100 to 100, not {str(key)[:20]!r}.")
        found[int(key)] = float(bias)
    return found
