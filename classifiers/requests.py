"""The classifier for the path of a request: by each tenant's settings, off the event loop if long.

Invariants, each with a test of its words:
- the event loop goes on while a large request is classified or redacted;
- more findings than MAX_REDACTED are refused, and not redacted for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from classifiers import profiles, told
from classifiers.engine import Classifier
from classifiers.redaction import Mode, Vault, is_taken_out
from classifiers.verdict import Assessment, Finding
from sync.bundle.snapshot import Snapshot, Tenant
from sync.serving.classifier import NotRedactable
from sync.wire.contexts import Context

MAX_REDACTED = 50_000
"""Findings that are taken out of one request: 0.2 s of one core, and 1.5 MB of nothing but addresses."""
INLINE_CHARACTERS = 16_384
"""Texts up to this long are redacted on the event loop, with at most INLINE_FINDINGS in them: it takes 1 ms."""
INLINE_FINDINGS = 16
"""Findings up to which this is so: a surrogate with a check digit takes up to 2 ms to be drawn."""


class RequestClassifier:
    """Assess, redact and restore the texts of requests, by each tenant's own settings.

    One serves all requests of a process: it keeps nothing of a request but digests, and those of each
    tenant apart.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    async def assess(
        self,
        snapshot: Snapshot,
        tenant: Tenant,
        texts: Sequence[str],
        *,
        all_spans: bool = False,
        contexts: Sequence[Context] = (),
    ) -> Assessment:
        """Return the assessment of one request, all its texts together.

        What cannot be read counts as restricted.

        Args:
            snapshot: The bundle that the tenant is of: its profiles are kept with it.
            all_spans: Whether every finding is wanted, also where the level stands already. They are
                found in any case where the tenant's rules or redaction need them.
            contexts: What belongs together in the texts: see Classifier.assess.

        Raises:
            BadProfile: The tenant's own recognizers cannot be compiled here.
        """
        wanted = all_spans or profiles.needs_all_spans(tenant)
        settings = profiles.of(snapshot, tenant)
        return await profiles.assess(self._classifier, texts, settings, all_spans=wanted, contexts=contexts)

    def vault(self, tenant: Tenant, key: bytes) -> Vault:
        """Return an empty vault for one conversation: it redacts texts and restores answers.

        Args:
            key: The tenant's secret, that hashes of findings are made with.

        Raises:
            ValueError: The tenant redacts nothing.
        """
        return Vault(Mode(tenant.redaction.mode), key=key)

    async def redact(self, vault: Vault, texts: Sequence[str], findings: Sequence[Finding]) -> list[str]:
        """Return the texts without what was found in them, without holding up the event loop.

        Args:
            findings: Those of an assessment of the same texts.

        Raises:
            NotRedactable: There are more than MAX_REDACTED, or one that no text has by itself.
        """
        taken = [finding for finding in findings if is_taken_out(finding)]
        if len(taken) > MAX_REDACTED:
            raise NotRedactable(f"More was found in the request than is taken out of one: {MAX_REDACTED} findings.")
        if any(finding.text >= len(texts) for finding in taken):
            raise NotRedactable("What was found shows in keys and values together, and cannot be taken out of them.")
        if len(taken) <= INLINE_FINDINGS and sum(map(len, texts)) <= INLINE_CHARACTERS:
            return vault.redact(texts, taken)
        return await asyncio.to_thread(vault.redact, texts, taken)

    def describe(self, assessment: Assessment) -> dict[str, object]:
        """Return an assessment for the client that asked for it."""
        return told.assessment(assessment)
