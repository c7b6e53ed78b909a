"""Every message, frozen. Sizes are in bytes, times in seconds since 1970 (UTC), durations say their unit in the name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import pydantic

from sync.kit.ids import (
    AgentId,
    DecisionId,
    Epoch,
    ModelName,
    PrincipalId,
    Region,
    RequestId,
    SessionId,
    SiteId,
    TenantId,
)
from sync.wire.codec import KIB, MIB
from sync.wire.levels import CacheScope, Level, Zone

Int = Annotated[int, pydantic.Strict()]
Str = Annotated[str, pydantic.Strict()]
Bytes = Annotated[bytes, pydantic.Strict()]
Bool = Annotated[bool, pydantic.Strict()]

MAX_RUN = 6 * MIB
MAX_REPLY = 8 * MIB
MAX_ENVELOPE = 100
"""The most journal records in one envelope."""


class Closed:
    """No message has fields beyond its own: an unknown one is refused, not ignored."""

    __slots__ = ()
    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Ticket(Closed):
    """What the hub vouches for: whose request, how sensitive, where it may run, by which bundle, and until when."""

    tenant: TenantId
    principal: PrincipalId
    level: Level
    decision: DecisionId
    zones: tuple[Zone, ...]
    regions: tuple[Region, ...]
    bundle_serial: Int
    expires: float


@dataclass(frozen=True, slots=True)
class Run(Closed):
    """One inference. `payload` is the task's own request in msgpack: the prompt is nowhere else in the frame."""

    KIND: ClassVar[str] = "run"
    CAP: ClassVar[int] = MAX_RUN
    request: RequestId
    ticket: Ticket
    task: Str
    model: ModelName
    folder: Str
    payload: Bytes
    stream: Bool
    cache: CacheScope
    cache_ttl_s: Int
    deadline: float
    batch: Bool = False
    """Whether others go first: nobody waits in front of a screen."""


@dataclass(frozen=True, slots=True)
class Accepted(Closed):
    """The agent has the request and works on it. Sent only where the answer takes a while."""

    KIND: ClassVar[str] = "accepted"
    CAP: ClassVar[int] = KIB
    request: RequestId


@dataclass(frozen=True, slots=True)
class Chunk(Closed):
    """A piece of a streamed answer. `sequence` counts from 0 without holes, over all choices.

    `choice` numbers the answers to one prompt; `scores` is msgpack of the tokens' log probabilities, empty where none were
    asked for.
    """

    KIND: ClassVar[str] = "chunk"
    CAP: ClassVar[int] = 1024 * KIB
    request: RequestId
    sequence: Int
    text: Str
    choice: Int = 0
    scores: Bytes = b""


@dataclass(frozen=True, slots=True)
class Done(Closed):
    """The end of a request that went well. `result` is the task's own answer in msgpack; for a stream, without its text."""

    KIND: ClassVar[str] = "done"
    CAP: ClassVar[int] = MAX_REPLY
    request: RequestId
    result: Bytes
    prompt_tokens: Int
    completion_tokens: Int
    finish: Str
    cached: Bool
    chunks: Int
    compute_ms: float


@dataclass(frozen=True, slots=True)
class Failed(Closed):
    """The end of a request that did not go well. `retryable`: another agent may be tried."""

    KIND: ClassVar[str] = "failed"
    CAP: ClassVar[int] = 4 * KIB
    request: RequestId
    code: Str
    sentence: Str
    retryable: Bool
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Sealed(Closed):
    """A message under a session's key. `key` is the session key sealed to the agent and signed by the hub."""

    KIND: ClassVar[str] = "sealed"
    CAP: ClassVar[int] = MAX_REPLY + 4 * KIB
    session: SessionId
    key: Bytes
    signature: Bytes
    box: Bytes


@dataclass(frozen=True, slots=True)
class Cancel(Closed):
    """The client went away: stop this request."""

    KIND: ClassVar[str] = "cancel"
    CAP: ClassVar[int] = KIB
    request: RequestId


@dataclass(frozen=True, slots=True)
class Ping(Closed):
    """Are you there, and do you work on this request? Answered with `Pong`."""

    KIND: ClassVar[str] = "ping"
    CAP: ClassVar[int] = KIB
    request: RequestId


@dataclass(frozen=True, slots=True)
class Pong(Closed):
    """I am there; `working` says whether the request is at work."""

    KIND: ClassVar[str] = "pong"
    CAP: ClassVar[int] = KIB
    working: Bool


@dataclass(frozen=True, slots=True)
class Beat(Closed):
    """An agent's presence, each second."""

    KIND: ClassVar[str] = "beat"
    CAP: ClassVar[int] = 64 * KIB
    agent: AgentId
    boot: Str
    version: Str
    models: tuple[Str, ...]
    running: Int
    queued: Int
    capacity: Int
    latency_ms: float
    bundle_serial: Int
    journal_epoch: Epoch
    journal_next: Int
    journal_receipted: Int


@dataclass(frozen=True, slots=True)
class Envelope(Closed):
    """Consecutive journal records of one agent and epoch, with its signature over the last one's hash."""

    KIND: ClassVar[str] = "envelope"
    CAP: ClassVar[int] = 7 * MIB
    agent: AgentId
    epoch: Epoch
    first: Int
    entries: tuple[Bytes, ...]
    signature: Bytes


@dataclass(frozen=True, slots=True)
class Receipt(Closed):
    """The hub's word: I hold your records of this epoch up to (not including) `upto`, and the last one hashes to `head`."""

    KIND: ClassVar[str] = "receipt"
    CAP: ClassVar[int] = 4 * KIB
    agent: AgentId
    epoch: Epoch
    upto: Int
    head: Bytes
    time: float
    signature: Bytes


@dataclass(frozen=True, slots=True)
class BundleNotice(Closed):
    """A new bundle lies in the bucket."""

    KIND: ClassVar[str] = "bundle_notice"
    CAP: ClassVar[int] = KIB
    site: SiteId
    serial: Int


Reply = Accepted | Chunk | Done | Failed
