"""What the stages hand on: what was found out about a request, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from classifiers.redaction import Vault
from classifiers.verdict import Assessment
from orchestrator.routing.plan import Choice
from sync.bundle.snapshot import Model, Snapshot
from sync.kit.ids import DecisionId
from sync.policy.authenticate import Principal
from sync.policy.decide import Decision
from sync.serving.ask import Ask


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
    texts: dict[int, str] = field(default_factory=dict)
    """What each answer to the prompt says, by its number."""
    scores: dict[int, list[object]] = field(default_factory=dict)
    """The tokens' log probabilities of each answer, where they were asked for."""
    finishes: dict[int, str] = field(default_factory=dict)
    vault: Vault | None = None
    """What was taken out for the agent that runs it; never leaves this process."""

    @property
    def text(self) -> str:
        """All that was answered."""
        return "\n".join(self.texts[number] for number in sorted(self.texts))


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of one answer."""

    text: str
    choice: int = 0
    scores: tuple[object, ...] = ()
