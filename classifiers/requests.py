"""The classifier for the path of a request: by each tenant's settings, off the event loop if long."""

from __future__ import annotations

from collections.abc import Sequence

from classifiers import profiles, told
from classifiers.engine import Classifier
from classifiers.redaction import Mode, Vault
from classifiers.verdict import Assessment
from sync.bundle.snapshot import Snapshot, Tenant


class RequestClassifier:
    """Assess, redact and restore the texts of requests, by each tenant's own settings.

    One serves all requests of a process: it keeps nothing of a request but digests, and those of each
    tenant apart.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def assess(self, snapshot: Snapshot, tenant: Tenant, texts: Sequence[str], *, all_spans: bool = False) -> Assessment:
        """Return the assessment of one request, all its texts together.

        What cannot be read counts as restricted.

        Args:
            snapshot: The bundle that the tenant is of: its profiles are kept with it.
            all_spans: Whether every finding is wanted, also where the level stands already. They are
                found in any case where the tenant's rules or redaction need them.

        Raises:
            BadProfile: The tenant's own recognizers cannot be compiled here.
        """
        wanted = all_spans or profiles.needs_all_spans(tenant)
        return await profiles.assess(self._classifier, texts, profiles.of(snapshot, tenant), all_spans=wanted)

    def vault(self, tenant: Tenant, key: bytes) -> Vault:
        """Return an empty vault for one conversation: it redacts texts and restores answers.

        Args:
            key: The tenant's secret, that hashes of findings are made with.

        Raises:
            ValueError: The tenant redacts nothing.
        """
        return Vault(Mode(tenant.redaction.mode), key=key)

    def describe(self, assessment: Assessment) -> dict[str, object]:
        """Return an assessment for the client that asked for it."""
        return told.assessment(assessment)
