"""A parsed request, whoever serves it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sync.kit.ids import RequestId
from sync.wire import contexts, strings, tasks
from sync.wire.levels import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request for a model.

    payload: what an engine receives, and what a site sends on.
    model: None where only a decision is asked for. wanted_tokens: the most that the client itself named.
    """

    request: RequestId
    payload: tasks.Request
    model: str | None = None
    stream: bool = False
    wanted_tokens: int | None = None
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
    unread: bool = False
    """Whether it holds what cannot be read as text, such as an image's numbers: it counts as the highest level."""
    ignored: tuple[str, ...] = ()
    """Fields of the body that were taken and change nothing."""
    texts: tuple[str, ...] = field(init=False)
    """Every string of the payload: what is classified and redacted is what is sent."""
    contexts: tuple[contexts.Context, ...] = field(init=False)
    """What belongs together in the payload: read with the texts, and never sent."""

    def __post_init__(self) -> None:
        # What counts as unread is at the highest level whatever it says, and goes to no place that redacts.
        object.__setattr__(self, "texts", () if self.unread else strings.of(self.payload))
        object.__setattr__(self, "contexts", () if self.unread else contexts.of(self.payload))

    @property
    def task(self) -> str:
        """The task's name."""
        return self.payload.TASK

    @property
    def text_bytes(self) -> int:
        """The bytes of all its texts in UTF-8."""
        return sum(len(text.encode("utf-8", "replace")) for text in self.texts)

    @property
    def choices(self) -> int:
        """How many answers are asked for."""
        return (self.payload.n or 1) if isinstance(self.payload, tasks.Generate) else 1

    @property
    def most_tokens(self) -> int:
        """The most tokens that its answers may have together; 0 for a task that generates none."""
        payload = self.payload
        return payload.max_tokens * self.choices if isinstance(payload, tasks.Generate) else 0
