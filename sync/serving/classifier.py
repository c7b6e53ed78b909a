"""The port to the classifier: assess, redact, restore. The composition roots fill it, so that the floors keep their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sync.bundle.snapshot import Snapshot, Tenant
from sync.kit import errors
from sync.wire.contexts import Context
from sync.wire.levels import Level


class NotRedactable(errors.Retryable):
    """What was found cannot be taken out of the request, or it would no longer be one: no place that redacts gets it."""

    code = "not_redactable"


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

    def restore(self, text: str, *, json: bool = False) -> str:
        """Return the text with the values put back. json: as in `restorer`."""
        ...

    def restorer(self, *, json: bool = False) -> Restorer:
        """Return what restores an answer in pieces. json: it is JSON, and is JSON with the values, too."""
        ...


class Classifier(Protocol):
    """The classifier of a process, by each tenant's own settings."""

    async def assess(
        self,
        snapshot: Snapshot,
        tenant: Tenant,
        texts: Sequence[str],
        *,
        all_spans: bool = False,
        contexts: Sequence[Context] = (),
    ) -> Assessment:
        """Return what is found, without holding up the event loop. Never raises: what fails counts as restricted.

        contexts: what belongs together in the texts: read with them, and never redacted.
        """
        ...

    def vault(self, tenant: Tenant, key: bytes) -> Vault:
        """Return an empty vault that redacts as the tenant wants it. `key`: of its hashes, 32 bytes."""
        ...

    async def redact(self, vault: Any, texts: Sequence[str], findings: Sequence[Any]) -> list[str]:
        """Return the texts without what was found in them, without holding up the event loop.

        vault: where what is taken out goes; made by `vault`.
        Raises NotRedactable where there is too much of it, or where some of it shows in a context alone.
        """
        ...

    def describe(self, assessment: Any) -> dict[str, object]:
        """Return an assessment for the client that asked for it."""
        ...
