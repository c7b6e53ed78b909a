"""A parsed request, whoever serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sync.kit.ids import RequestId
from sync.wire.levels import Level


@dataclass(frozen=True, slots=True)
class Ask:
    """A parsed request. `texts` is all that is classified; `payload` is the task's own request for the engine."""

    request: RequestId
    task: str
    model: str | None
    texts: tuple[str, ...]
    payload: dict[str, object]
    stream: bool = False
    max_tokens: int | None = None
    declared: Level = Level.PUBLIC
    no_store: bool = False
    batch: bool = False
    """Whether others go first at the model."""
    trace: str = ""
    """The caller's W3C trace context, kept in the record so that both logs can be read together."""
    subject: str = ""
    """Whom the request is about, as the app says: what is retained of it can be found and erased by that."""
    via: str = ""
    """The agent at whose site it came in, where that was not here."""

    def saying(self, texts: Sequence[str]) -> dict[str, object]:
        """The payload with other texts in the places of its own."""
        messages = self.payload.get("messages")
        if isinstance(messages, list):
            return {**self.payload, "messages": [{**m, "content": text} for m, text in zip(messages, texts, strict=True)]}
        return {**self.payload, "input": tuple(texts)}
