"""One request at the site and its answer in the making, wherever it is served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from classifiers.redaction import Restorer, Vault
from classifiers.verdict import Assessment
from sync.kit import errors
from sync.kit.ids import DecisionId
from sync.policy.authenticate import Principal
from sync.policy.decide import Decision
from sync.serving.ask import Ask
from sync.wire import codec
from sync.wire.levels import Level
from sync.wire.messages import Chunk, Done, Failed


class RunFailed(errors.RingfenceError):
    """The run ended with an error; its code says which."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.sentence, code=failed.code)
        self.retry_after_s = failed.retry_after_s


@dataclass(frozen=True, slots=True)
class Place:
    """Where the request is served, and by which decision."""

    level: Level
    decision: str
    zone: str
    region: str
    agent: str


async def _nothing() -> Chunk | Done | Failed:
    raise AssertionError("nothing is at work")


@dataclass(slots=True)
class Visit:
    """`read` gives the next message of whoever serves it."""

    principal: Principal
    ask: Ask
    assessment: Assessment
    decision: Decision
    id: DecisionId
    vault: Vault | None
    began: float
    read: Callable[[], Awaitable[Chunk | Done | Failed]] = _nothing
    place: Place | None = None
    forwarded: bool = False
    recorded: bool = False
    done: Done | None = None
    result: dict[str, object] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    _restorers: dict[int, Restorer] = field(default_factory=dict)

    async def pieces(self) -> AsyncIterator[tuple[str, int, tuple[object, ...]]]:
        """(text, choice, scores) of each piece, until the answer is whole. Raises RunFailed."""
        while self.done is None:
            message = await self.read()
            if isinstance(message, Failed):
                raise RunFailed(message)
            if isinstance(message, Chunk):
                text = message.text
                if self.vault is not None:
                    text = self._restorers.setdefault(message.choice, self.vault.restorer()).feed(text)
                scores = tuple(codec.unpack(message.scores)) if message.scores and self.vault is None else ()
                self._keep(message.choice, text)
                yield text, message.choice, scores
                continue
            self.done = message
            self.result = dict(codec.unpack(message.result))
            for choice, restorer in self._restorers.items():
                if rest := restorer.end():
                    self._keep(choice, rest)
                    yield rest, choice, ()

    async def finish(self) -> None:
        """Reads the answer to its end."""
        async for _ in self.pieces():
            pass

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The answers to the prompt, with `text`, `finish` and `scores`, once it is whole."""
        told = self.result.get("choices")
        return [dict(choice) for choice in told] if isinstance(told, tuple) else []

    @property
    def text(self) -> str:
        """All that was answered."""
        if self.texts:
            return "\n".join(self.texts[number] for number in sorted(self.texts))
        return "\n".join(self.restored(str(choice["text"])) for choice in self.choices)

    def restored(self, text: str) -> str:
        """A whole answer with what was taken out for the model put back."""
        return self.vault.restore(text) if self.vault is not None else text

    def fields(self, now: float) -> dict[str, object]:
        """What the audit log holds of it: ids and counts, nothing of the prompt."""
        decision, place, done = self.decision, self.place, self.done
        return {
            "decision": self.id,
            "level": decision.level.label,
            "found": self.assessment.counts(),
            "categories": self.assessment.categories,
            "allowed": decision.allowed,
            "rules": tuple(reason.rule for reason in decision.reasons),
            "zones": tuple(zone.value for zone in decision.zones),
            "regions": decision.regions,
            "agent": place.agent if place else "",
            "zone": place.zone if place else "",
            "region": place.region if place else "",
            "forwarded": self.forwarded,
            "redacted": self.vault.mode.value if self.vault else "",
            "cache": done is not None and done.cached,
            "prompt_tokens": done.prompt_tokens if done else 0,
            "completion_tokens": done.completion_tokens if done else 0,
            "ms": round((now - self.began) * 1000, 2),
        }

    def _keep(self, choice: int, text: str) -> None:
        self.texts[choice] = self.texts.get(choice, "") + text
