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

Int = Annotated[int, pydantic.Strict(), pydantic.Field(ge=-(2**63), lt=2**63)]
"""What a database can hold too: msgpack goes one bit further."""
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
class Forward(Closed):
    """A request that came to a site and is to be served elsewhere, with the API key that came with it. Sealed to the hub."""

    KIND: ClassVar[str] = "forward"
    CAP: ClassVar[int] = MAX_RUN
    request: RequestId
    key: Str
    task: Str
    model: Str
    texts: tuple[Str, ...]
    payload: Bytes
    stream: Bool
    max_tokens: Int
    declared: Level
    no_store: Bool
    batch: Bool
    trace: Str
    subject: Str


@dataclass(frozen=True, slots=True)
class Placed(Closed):
    """Where the hub has a forwarded request served, before the first piece of its answer."""

    KIND: ClassVar[str] = "placed"
    CAP: ClassVar[int] = 4 * KIB
    request: RequestId
    level: Level
    decision: DecisionId
    zone: Str
    region: Str
    agent: Str


@dataclass(frozen=True, slots=True)
class Hello(Closed):
    """Is the hub there? Asked where its beats tell an earlier time than was heard before: they may be old ones."""

    KIND: ClassVar[str] = "hello"
    CAP: ClassVar[int] = KIB
    agent: AgentId
    nonce: Bytes


@dataclass(frozen=True, slots=True)
class Welcome(Closed):
    """It is, and its clock says this. Signed over the nonce."""

    KIND: ClassVar[str] = "welcome"
    CAP: ClassVar[int] = KIB
    nonce: Bytes
    time: float
    signature: Bytes


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

    ADDED: ClassVar[tuple[str, ...]] = ("on_trial", "failed_release")
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
    journal_proved: Int
    on_trial: Bool = False
    """Whether its release has not shown yet that it is healthy."""
    failed_release: Str = ""
    """The release that it was last to change to and came back from."""


@dataclass(frozen=True, slots=True)
class Upgrade(Closed):
    """The hub's order: fetch this release from my store, and change to it. Signed; what is fetched is signed by the release key."""

    KIND: ClassVar[str] = "upgrade"
    CAP: ClassVar[int] = KIB
    agent: AgentId
    version: Str
    signature: Bytes


@dataclass(frozen=True, slots=True)
class OrderTaken(Closed):
    """The order is taken, or `code` and `why` say why it is not."""

    KIND: ClassVar[str] = "order_taken"
    CAP: ClassVar[int] = 4 * KIB
    code: Str
    why: Str


@dataclass(frozen=True, slots=True)
class Content(Closed):
    """What a tenant retains of a record, beside it: no hash covers it, so that it can be destroyed and no proof breaks.

    `sealed` is under a key of this record's own; `key` is that key and the subject, sealed to the tenant's content key.
    """

    sequence: Int
    sealed: Bytes
    key: Bytes


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
    contents: tuple[Content, ...] = ()


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
class Pin(Closed):
    """A checkpoint that an agent has verified: the hub's next one must contain this tree."""

    origin: Str
    size: Int


@dataclass(frozen=True, slots=True)
class ProofRequest(Closed):
    """Show me that my records from `first` on are in your trees. `next`, `head` and `wall` say where my journal stands now."""

    KIND: ClassVar[str] = "proof_request"
    CAP: ClassVar[int] = 256 * KIB
    agent: AgentId
    epoch: Epoch
    first: Int
    pins: tuple[Pin, ...]
    next: Int
    head: Bytes
    wall: float
    signature: Bytes


@dataclass(frozen=True, slots=True)
class Leaves(Closed):
    """Neighbouring leaves of a tree."""

    first: Int
    count: Int


@dataclass(frozen=True, slots=True)
class TreeProof(Closed):
    """A tenant's checkpoint, where an agent's records stand in that tree, and the hashes that show it (RFC 6962 nodes).

    `consistency` leads from the agent's pinned tree to this one; it is empty where nothing is pinned or nothing has grown.
    """

    tenant: TenantId
    note: Str
    leaves: tuple[Leaves, ...]
    inclusion: tuple[Bytes, ...]
    consistency: tuple[Bytes, ...]


@dataclass(frozen=True, slots=True)
class Proof(Closed):
    """Your records from `first` up to (not including) `upto` are in these trees."""

    KIND: ClassVar[str] = "proof"
    CAP: ClassVar[int] = 4 * MIB
    agent: AgentId
    epoch: Epoch
    first: Int
    upto: Int
    trees: tuple[TreeProof, ...]


@dataclass(frozen=True, slots=True)
class Erase(Closed):
    """The hub's order: destroy what is retained of these records of yours. Signed."""

    KIND: ClassVar[str] = "erase"
    CAP: ClassVar[int] = MIB
    erasure: Str
    agent: AgentId
    epoch: Epoch
    sequences: tuple[Int, ...]
    signature: Bytes


@dataclass(frozen=True, slots=True)
class Erased(Closed):
    """It is destroyed, in the journal and in the answer cache. Signed by the agent."""

    KIND: ClassVar[str] = "erased"
    CAP: ClassVar[int] = KIB
    erasure: Str
    agent: AgentId
    signature: Bytes


@dataclass(frozen=True, slots=True)
class HubBeat(Closed):
    """I am here, each second: signed, so that no broker can keep up the look of a hub that is gone."""

    KIND: ClassVar[str] = "hub_beat"
    CAP: ClassVar[int] = KIB
    time: float
    serial: Int
    signature: Bytes


@dataclass(frozen=True, slots=True)
class BundleNotice(Closed):
    """A new bundle lies in the bucket."""

    KIND: ClassVar[str] = "bundle_notice"
    CAP: ClassVar[int] = KIB
    site: SiteId
    serial: Int


Reply = Accepted | Chunk | Done | Failed
