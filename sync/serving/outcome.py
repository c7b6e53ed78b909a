"""How a request ran: filled while its answer comes, whatever its task."""

from __future__ import annotations

from dataclasses import dataclass, field

from sync.kit import errors
from sync.kit.ids import AgentId, DecisionId, Region
from sync.serving import usage
from sync.serving.ask import Ask
from sync.serving.classifier import NotRedactable, Restorer, Vault
from sync.serving.executor import Place
from sync.wire import tasks, types
from sync.wire.levels import Level, Zone
from sync.wire.messages import Chunk, Done, Placed


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one answer, as the client gets it."""

    text: str
    choice: int = 0
    scores: tuple[tasks.TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Redacted:
    """A request without what was found in it, and the vault that puts it back into the answer.

    json: whether the answer was asked for as JSON, and has to stay JSON.
    """

    payload: tasks.Request
    vault: Vault
    json: bool


@dataclass(slots=True)
class Outcome:
    """What became of a request so far. `place`: who has it, or had it last."""

    place: Place | None = None
    level: Level | None = None
    """The level by which the hub decided a forwarded request; None where it was decided here."""
    decision: DecisionId | None = None
    """The hub's decision about a forwarded request."""
    result: tasks.Result | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    """Whether nobody has counted the tokens, so that they are estimated from the texts."""
    had: bool = False
    """Whether a place has, or may have, worked on the request: then it is charged, however it ends."""
    counted: bool = False
    """Whether the tokens are known: the answer was read to its end."""
    finish: str = ""
    cached: bool = False
    compute_ms: float = 0.0
    known: dict[str, object] = field(default_factory=dict)
    """The record's fields that were known before it ran: its outcome says the same."""
    tries: int = 0
    opened: bool = False
    """Whether the journal has, or may have, the record of the decision: then the outcome closes it."""
    tried: list[tuple[AgentId, str, str]] = field(default_factory=list)
    """Every agent that got the request: its id, its zone, and the code with which it failed, or empty."""
    redaction: Redacted | NotRedactable | None = None
    """What was made for the first place that redacts, and serves each further one; or why it cannot be made."""
    at_work: Redacted | None = None
    """What the place that has the request got of it; None where it got it as it came."""
    out_bytes: int = 0
    """Bytes of text that came from the engine so far."""
    _texts: dict[int, list[str]] = field(default_factory=dict)
    _scores: dict[int, list[tasks.TokenScore]] = field(default_factory=dict)
    _restorers: dict[int, Restorer] = field(default_factory=dict)
    _wholes: dict[int, tuple[str, str]] = field(default_factory=dict)

    def placed(self, placed: Placed) -> None:
        """Take the hub's word on where a forwarded request runs, and by which decision."""
        try:
            zone = Zone(placed.zone) if placed.zone else None
        except ValueError as error:
            raise errors.Corrupt("The hub names a zone that there is not.") from error
        self.place = Place(agent=AgentId(placed.agent), zone=zone, region=Region(placed.region), forwarded=True)
        self.level, self.decision = placed.level, placed.decision

    def take(self, chunk: Chunk, ask: Ask) -> Delta:
        """Take a piece; return it with what was redacted put back. Raises Corrupt where it is of no answer that was asked for."""
        if chunk.choice >= ask.choices:
            raise errors.Corrupt("A piece came of an answer that was not asked for.")
        text, redacted = chunk.text, self.at_work
        self.out_bytes += len(text.encode("utf-8", "replace"))
        if redacted is not None:
            text = self._restorer(chunk.choice, redacted).feed(text)
        # The scores are of tokens that the client does not get where something was put back in between.
        scores = tasks.read_scores(chunk.scores) if redacted is None else ()
        self._texts.setdefault(chunk.choice, []).append(text)
        if scores:
            self._scores.setdefault(chunk.choice, []).extend(scores)
        return Delta(text, chunk.choice, scores)

    def finish_with(self, done: Done, ask: Ask) -> list[Delta]:
        """Take the end of the answer; return what was held back of it. Raises BadFrame where the result is not its task's."""
        if self.result is None:
            self.result = tasks.read_answer(ask.payload, done.result)
        self.finish, self.cached, self.compute_ms = done.finish, done.cached, done.compute_ms
        rest = [Delta(restorer.end(), choice) for choice, restorer in self._restorers.items()]
        for delta in rest:
            self._texts.setdefault(delta.choice, []).append(delta.text)
        self._count(done, ask)
        return [delta for delta in rest if delta.text]

    def leave(self, ask: Ask) -> None:
        """Count what a request has used that ends before its answer does: nothing where no place has worked on it."""
        if self.had and not self.counted:
            self.prompt_tokens, self.completion_tokens = usage.estimate(ask.text_bytes), usage.estimate(self.out_bytes)
            self.estimated = True

    @property
    def redacted(self) -> str:
        """How what the place got was redacted, or an empty text."""
        return "" if self.at_work is None else self.at_work.vault.mode

    @property
    def used(self) -> int:
        """The tokens that are charged."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def answers(self) -> list[tasks.Answer]:
        """The answers to a prompt, once the result is there: with the text that came in pieces, and nothing redacted."""
        if not isinstance(self.result, tasks.Generated):
            return []
        return [self._answer(number, choice) for number, choice in enumerate(self.result.choices)]

    @property
    def text(self) -> str:
        """All that was answered so far."""
        if self._texts:
            return "\n".join("".join(self._texts[number]) for number in sorted(self._texts))
        return "\n".join(answer.text for answer in self.answers)

    @property
    def reused_tokens(self) -> int:
        """Tokens of the prompt that were computed for an earlier request."""
        return self.result.reused_tokens if isinstance(self.result, tasks.Generated) else 0

    def result_for_reader(self, *, streamed: bool) -> tasks.Result:
        """Return the result for whoever hands the answer on: of a stream without its text, which has gone out in pieces."""
        assert self.result is not None  # noqa: S101 - asked for of an answered request only
        if not isinstance(self.result, tasks.Generated):
            return self.result
        choices = tuple(tasks.Answer("", answer.finish) if streamed else answer for answer in self.answers)
        return types.replace(self.result, choices=choices)

    def _answer(self, number: int, choice: tasks.Answer) -> tasks.Answer:
        pieces = self._texts.get(number)
        if pieces is not None:
            return tasks.Answer("".join(pieces), choice.finish, tuple(self._scores.get(number, ())))
        if self.at_work is not None:
            return tasks.Answer(self._restored(number, choice.text, self.at_work), choice.finish)
        return choice

    def _restorer(self, choice: int, redacted: Redacted) -> Restorer:
        if choice not in self._restorers:
            self._restorers[choice] = redacted.vault.restorer(json=redacted.json)
        return self._restorers[choice]

    def _restored(self, number: int, text: str, redacted: Redacted) -> str:
        """Return a whole answer with what was redacted put back: once, however often it is asked for."""
        known = self._wholes.get(number)
        if known is None or known[0] is not text:
            known = self._wholes[number] = (text, redacted.vault.restore(text, json=redacted.json))
        return known[1]

    def _count(self, done: Done, ask: Ask) -> None:
        self.counted = True
        told_out = sum(len(a.text.encode("utf-8", "replace")) for a in self.answers) if not self._texts else self.out_bytes
        self.prompt_tokens = usage.bounded_prompt(done.prompt_tokens, ask.text_bytes)
        self.completion_tokens = usage.bounded_answer(done.completion_tokens, ask.most_tokens)
        self.estimated = done.estimated
        if ask.task == tasks.Generate.TASK and not done.prompt_tokens and not done.completion_tokens and told_out:
            self.prompt_tokens, self.completion_tokens = usage.estimate(ask.text_bytes), usage.estimate(told_out)
            self.estimated = True
