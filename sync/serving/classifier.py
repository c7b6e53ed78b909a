"""The port to the classifier: assess, redact, restore. The composition roots fill it, so that the floors keep their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sync.bundle.snapshot import Snapshot, Tenant
from sync.wire.levels import Level


class Assessment(Protocol):
    """What was found in the texts of one request. `findings` are the classifier's own, and go back to it alone."""

    @property
    def level(self) -> Level: ...

    @property
    def categories(self) -> tuple[str, ...]: ...

    @property
    def findings(self) -> Sequence[Any]: ...

    @property
    def failed(self) -> bool: ...

    @property
    def model(self) -> str:
        """Whether the model looked, and if not, why: ran, absent, not_needed, over_budget."""
        ...

    @property
    def read_whole(self) -> bool:
        """Whether every text was read to its end: what was not cannot be redacted."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Return how many findings of each type there are: all that a log may know of them."""
        ...


class Restorer(Protocol):
    """Puts values back into an answer that comes in pieces."""

    def feed(self, piece: str) -> str:
        """Return what can be given out after this piece."""
        ...

    def end(self) -> str:
        """Return what was held back."""
        ...


class Vault(Protocol):
    """What was taken out of one request's texts. It never leaves this process."""

    @property
    def mode(self) -> str: ...

    def redact(self, texts: Sequence[str], findings: Sequence[Any]) -> list[str]:
        """Return the texts without what was found in them."""
        ...

    def restore(self, text: str) -> str:
        """Return the text with the values put back."""
        ...

    def restorer(self) -> Restorer:
        """Return what restores an answer in pieces."""
        ...


class Classifier(Protocol):
    """The classifier of a process, by each tenant's own settings."""

    async def assess(self, snapshot: Snapshot, tenant: Tenant, texts: Sequence[str], *, all_spans: bool = False) -> Assessment:
        """Return what is found, without holding up the event loop. Never raises: what fails counts as restricted."""
        ...

    def vault(self, tenant: Tenant, key: bytes) -> Vault:
        """Return an empty vault that redacts as the tenant wants it. `key`: of its hashes, 32 bytes."""
        ...

    def describe(self, assessment: Any) -> dict[str, object]:
        """Return an assessment for the client that asked for it."""
        ...
