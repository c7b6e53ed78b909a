"""What the stages hand on: the request as it came, what was found out about it, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from classifiers.redaction import Vault
from classifiers.verdict import Assessment
from orchestrator.routing.plan import Choice
from sync.bundle.authenticate import Principal
from sync.bundle.decide import Decision
from sync.bundle.snapshot import Model, Snapshot
from sync.kit.ids import DecisionId, RequestId
from sync.wire.levels import Level


@dataclass(frozen=True, slots=True)
class Ask:
    """A parsed request. `texts` is all that is classified; `payload` is the task's own request for the agent."""

    request: RequestId
    task: str
    model: str | None
    texts: tuple[str, ...]
    payload: dict[str, object]
    stream: bool = False
    max_tokens: int | None = None
    declared: Level = Level.PUBLIC
    no_store: bool = False
    trace: str = ""
    """The caller's W3C trace context, kept in the record so that both logs can be read together."""

    def saying(self, texts: Sequence[str]) -> dict[str, object]:
        """The payload with other texts in the places of its own."""
        messages = self.payload.get("messages")
        if isinstance(messages, list):
            return {**self.payload, "messages": [{**m, "content": text} for m, text in zip(messages, texts, strict=True)]}
        return {**self.payload, "input": tuple(texts)}


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who asks, for which model, by which bundle."""

    ask: Ask
    principal: Principal
    model: Model | None
    snapshot: Snapshot
    began: float


@dataclass(frozen=True, slots=True)
class Decided:
    """An admitted request with its assessment, its decision and its plan."""

    admitted: Admitted
    assessment: Assessment
    id: DecisionId
    decision: Decision
    plan: tuple[Choice, ...]


@dataclass(slots=True)
class Outcome:
    """How a run ended, filled while it goes on."""

    choice: Choice | None = None
    result: dict[str, object] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish: str = ""
    cached: bool = False
    compute_ms: float = 0.0
    tries: int = 0
    text: str = ""
    vault: Vault | None = None
    """What was taken out for the agent that runs it; never leaves this process."""
