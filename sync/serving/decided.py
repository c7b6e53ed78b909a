"""What the stages hand on: an admitted request, then with its assessment, then with its decision."""

from __future__ import annotations

from dataclasses import dataclass

from sync.bundle.snapshot import Model, Snapshot
from sync.kit.ids import DecisionId
from sync.policy.authenticate import Principal
from sync.policy.decide import Decision
from sync.serving.ask import Ask
from sync.serving.classifier import Assessment
from sync.serving.limits import Reservation
from sync.wire.levels import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Who asks, for which model, by which bundle. began: monotonic seconds."""

    ask: Ask
    principal: Principal
    model: Model | None
    snapshot: Snapshot
    reservation: Reservation
    began: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An admitted request with what was found in it. level: what was found, or the app's declared level where that is higher."""

    admitted: Admitted
    assessment: Assessment
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A prepared request with what may happen with it."""

    prepared: Prepared
    id: DecisionId
    decision: Decision

    @property
    def classifier(self) -> str:
        """Whether the classifier's model read the request: ran, not_needed, over_budget, absent; or failed."""
        return "failed" if self.assessment.failed else self.assessment.model

    @property
    def admitted(self) -> Admitted:
        return self.prepared.admitted

    @property
    def ask(self) -> Ask:
        return self.prepared.admitted.ask

    @property
    def principal(self) -> Principal:
        return self.prepared.admitted.principal

    @property
    def model(self) -> Model | None:
        return self.prepared.admitted.model

    @property
    def snapshot(self) -> Snapshot:
        return self.prepared.admitted.snapshot

    @property
    def assessment(self) -> Assessment:
        return self.prepared.assessment
