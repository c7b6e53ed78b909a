"""Every message, frozen. Sizes are in bytes, times in seconds since 1970 (UTC), durations say their unit in the name."""

from __future__ import annotations

from typing import Annotated, ClassVar

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
from sync.wire.levels import CacheScope, Level, Zone
from sync.wire.types import (
    ID,
    KIB,
    MIB,
    OWN_ID,
    WORD,
    Bool,
    Bytes,
    Choices,
    Closed,
    Code,
    Count,
    Int,
    Milliseconds,
    Name,
    Seconds,
    Sentence,
    Str,
    Tokens,
    Word,
    always,
)

MAX_RUN = 6 * MIB
MAX_REPLY = 8 * MIB
WIRE = 2
"""What this side says of itself in `beat.wire`."""
MAX_ENVELOPE = 100
"""The most journal records in one envelope."""


class Ticket(Closed, frozen=True, kw_only=True):
    """What the hub vouches for: whose request, how sensitive, where it may run, by which bundle, and until when."""

    tenant: Annotated[TenantId, ID]
    principal: Annotated[PrincipalId, ID]
    level: Level
    decision: Annotated[DecisionId, OWN_ID]
    zones: tuple[Zone, ...]
    regions: tuple[Region, ...]
    bundle_serial: Count
    expires: float


class Run(Closed, frozen=True, kw_only=True):
    """One inference.

    `payload` is the task's own request (see tasks) in msgpack: the prompt is nowhere else in the frame. `cache_ttl_s` is
    in seconds. `deadline` is in the hub's clock, for agents of version 0.1; `left_s` is what counts.
    """

    KIND: ClassVar[str] = "run"
    CAP: ClassVar[int] = MAX_RUN
    request: Annotated[RequestId, OWN_ID]
    ticket: Ticket
    task: Code
    model: Annotated[ModelName, WORD]
    folder: Word
    payload: Bytes
    stream: Bool
    cache: CacheScope
    cache_ttl_s: Count
    deadline: float
    batch: Bool = always(False)
    """Whether others go first: nobody waits in front of a screen."""
    left_s: Seconds | None = None
    """Seconds from its arrival within which it must be done: a clock that is off changes nothing. None: see `deadline`."""
    sent: float | None = None
    """The hub's clock when it was sent: an agent that was asleep does not begin what another has done since. None: not said."""
    window: Count = 0
    """Bytes of a stream that may be on their way before the reader grants more with `credit`. 0: no limit."""


class Accepted(Closed, frozen=True):
    """The agent has the request and works on it. Sent only where the answer takes a while."""

    KIND: ClassVar[str] = "accepted"
    CAP: ClassVar[int] = KIB
    request: Annotated[RequestId, OWN_ID]


class Chunk(Closed, frozen=True):
    """A piece of a streamed answer. `sequence` counts from 0 without holes, over all choices.

    `choice` numbers the answers to one prompt; `scores` is msgpack of the tokens' log probabilities (see tasks), empty
    where none were asked for.
    """

    KIND: ClassVar[str] = "chunk"
    CAP: ClassVar[int] = 1024 * KIB
    request: Annotated[RequestId, OWN_ID]
    sequence: Count
    text: Str
    choice: Choices = always(0)
    scores: Bytes = always(b"")


class Done(Closed, frozen=True, kw_only=True):
    """The end of a request that went well. `result` is the task's own result (see tasks); for a stream, without its text."""

    KIND: ClassVar[str] = "done"
    CAP: ClassVar[int] = MAX_REPLY
    request: Annotated[RequestId, OWN_ID]
    result: Bytes
    prompt_tokens: Tokens
    completion_tokens: Tokens
    finish: Code
    cached: Bool
    chunks: Count
    compute_ms: Milliseconds
    digest: Bytes = b""
    """SHA-256 over the answer as it was sent (see replies): what was read must have the same. Empty from version 0.1."""
    estimated: Bool = False
    """Whether nobody has counted the tokens, so that they are estimated."""


DRAINING = "draining"
"""The code of whoever takes no new work, and has begun nothing of what was sent."""


class Failed(Closed, frozen=True):
    """The end of a request that did not go well. `retryable`: another agent may be tried."""

    KIND: ClassVar[str] = "failed"
    CAP: ClassVar[int] = 4 * KIB
    request: Annotated[RequestId, OWN_ID]
    code: Code
    sentence: Sentence
    retryable: Bool
    retry_after_s: Seconds


class Credit(Closed, frozen=True):
    """The reader of a stream has taken `upto` bytes of it: as many more as its window may be on their way."""

    KIND: ClassVar[str] = "credit"
    CAP: ClassVar[int] = KIB
    request: Annotated[RequestId, OWN_ID]
    upto: Count


class Sealed(Closed, frozen=True):
    """A message under a session's key. `key` is the session key sealed to the agent and signed by the hub."""

    KIND: ClassVar[str] = "sealed"
    CAP: ClassVar[int] = MAX_REPLY + 4 * KIB
    session: Annotated[SessionId, ID]
    key: Bytes
    signature: Bytes
    box: Bytes


class Cancel(Closed, frozen=True):
    """The client went away: stop this request."""

    KIND: ClassVar[str] = "cancel"
    CAP: ClassVar[int] = KIB
    request: Annotated[RequestId, OWN_ID]


class Forward(Closed, frozen=True, kw_only=True):
    """A request that came to a site and is to be served elsewhere, with the API key that came with it. Sealed to the hub.

    `payload` is the task's request (see tasks) in msgpack: the hub reads it as it reads a body over HTTP, and what is
    classified comes from it. `texts` is of version 0.1, and not read.
    """

    KIND: ClassVar[str] = "forward"
    CAP: ClassVar[int] = MAX_RUN
    request: Annotated[RequestId, OWN_ID]
    key: Word
    task: Code
    model: Word
    texts: tuple[Str, ...]
    payload: Bytes
    stream: Bool
    max_tokens: Tokens
    declared: Level
    no_store: Bool
    batch: Bool
    trace: Word
    subject: Word
    window: Count = 0
    """As in `run`."""


class Placed(Closed, frozen=True, kw_only=True):
    """Where the hub has a forwarded request served, before the first piece of its answer."""

    KIND: ClassVar[str] = "placed"
    CAP: ClassVar[int] = 4 * KIB
    request: Annotated[RequestId, OWN_ID]
    level: Level
    decision: Annotated[DecisionId, OWN_ID]
    zone: Name
    region: Name
    agent: Name


class Hello(Closed, frozen=True):
    """Is the hub there? Asked where its beats tell an earlier time than was heard before: they may be old ones."""

    KIND: ClassVar[str] = "hello"
    CAP: ClassVar[int] = KIB
    agent: Annotated[AgentId, ID]
    nonce: Bytes


class Welcome(Closed, frozen=True):
    """It is, and its clock says this. Signed over the nonce."""

    KIND: ClassVar[str] = "welcome"
    CAP: ClassVar[int] = KIB
    nonce: Bytes
    time: float
    signature: Bytes


class Ping(Closed, frozen=True):
    """Are you there, and do you work on this request? Answered with `Pong`."""

    KIND: ClassVar[str] = "ping"
    CAP: ClassVar[int] = KIB
    request: Annotated[RequestId, OWN_ID]


class Pong(Closed, frozen=True):
    """I am there; `working` says whether the request is at work."""

    KIND: ClassVar[str] = "pong"
    CAP: ClassVar[int] = KIB
    working: Bool


class Beat(Closed, frozen=True, kw_only=True):
    """An agent's presence, each second."""

    KIND: ClassVar[str] = "beat"
    CAP: ClassVar[int] = 64 * KIB
    agent: Annotated[AgentId, ID]
    boot: Word
    version: Word
    models: tuple[Word, ...]
    running: Count
    queued: Count
    capacity: Count
    latency_ms: Milliseconds
    bundle_serial: Count
    journal_epoch: Annotated[Epoch, ID]
    journal_next: Count
    journal_receipted: Count
    journal_proved: Count
    on_trial: Bool = False
    """Whether its release has not shown yet that it is healthy."""
    failed_release: Word = ""
    """The release that it was last to change to and came back from."""
    clock: float | None = None
    """The agent's wall clock. None from an agent that does not say it."""
    wire: Count = 1
    """Which running messages it knows: 1 those of version 0.1, 2 `left_s`, `credit` and the digest in `done` too."""


class Upgrade(Closed, frozen=True):
    """The hub's order: fetch this release from my store, and change to it. Signed; what is fetched is signed by the release key."""

    KIND: ClassVar[str] = "upgrade"
    CAP: ClassVar[int] = KIB
    agent: Annotated[AgentId, ID]
    version: Str
    signature: Bytes


class OrderTaken(Closed, frozen=True):
    """The order is taken, or `code` and `why` say why it is not."""

    KIND: ClassVar[str] = "order_taken"
    CAP: ClassVar[int] = 4 * KIB
    code: Str
    why: Str


class Content(Closed, frozen=True):
    """What a tenant retains of a record, beside it: no hash covers it, so that it can be destroyed and no proof breaks.

    `sealed` is under a key of this record's own; `key` is that key and the subject, sealed to the tenant's content key.
    """

    sequence: Int
    sealed: Bytes
    key: Bytes


class Envelope(Closed, frozen=True, kw_only=True):
    """Consecutive journal records of one agent and epoch, with its signature over the last one's hash."""

    KIND: ClassVar[str] = "envelope"
    CAP: ClassVar[int] = 7 * MIB
    agent: Annotated[AgentId, ID]
    epoch: Annotated[Epoch, ID]
    first: Int
    entries: tuple[Bytes, ...]
    signature: Bytes
    contents: tuple[Content, ...] = always(())


class Receipt(Closed, frozen=True, kw_only=True):
    """The hub's word: I hold your records of this epoch up to (not including) `upto`, and the last one hashes to `head`."""

    KIND: ClassVar[str] = "receipt"
    CAP: ClassVar[int] = 4 * KIB
    agent: Annotated[AgentId, ID]
    epoch: Annotated[Epoch, ID]
    upto: Int
    head: Bytes
    time: float
    signature: Bytes


class Pin(Closed, frozen=True):
    """A checkpoint that an agent has verified: the hub's next one must contain this tree."""

    origin: Str
    size: Int


class ProofRequest(Closed, frozen=True, kw_only=True):
    """Show me that my records from `first` on are in your trees. `next`, `head` and `wall` say where my journal stands now."""

    KIND: ClassVar[str] = "proof_request"
    CAP: ClassVar[int] = 256 * KIB
    agent: Annotated[AgentId, ID]
    epoch: Annotated[Epoch, ID]
    first: Int
    pins: tuple[Pin, ...]
    next: Int
    head: Bytes
    wall: float
    signature: Bytes


class Leaves(Closed, frozen=True):
    """Neighbouring leaves of a tree."""

    first: Int
    count: Int


class TreeProof(Closed, frozen=True):
    """A tenant's checkpoint, where an agent's records stand in that tree, and the hashes that show it (RFC 6962 nodes).

    `consistency` leads from the agent's pinned tree to this one; it is empty where nothing is pinned or nothing has grown.
    """

    tenant: Annotated[TenantId, ID]
    note: Str
    leaves: tuple[Leaves, ...]
    inclusion: tuple[Bytes, ...]
    consistency: tuple[Bytes, ...]


class Proof(Closed, frozen=True):
    """Your records from `first` up to (not including) `upto` are in these trees."""

    KIND: ClassVar[str] = "proof"
    CAP: ClassVar[int] = 4 * MIB
    agent: Annotated[AgentId, ID]
    epoch: Annotated[Epoch, ID]
    first: Int
    upto: Int
    trees: tuple[TreeProof, ...]


class Erase(Closed, frozen=True):
    """The hub's order: destroy what is retained of these records of yours. Signed."""

    KIND: ClassVar[str] = "erase"
    CAP: ClassVar[int] = MIB
    erasure: Str
    agent: Annotated[AgentId, ID]
    epoch: Annotated[Epoch, ID]
    sequences: tuple[Int, ...]
    signature: Bytes


class Erased(Closed, frozen=True):
    """It is destroyed, in the journal and in the answer cache. Signed by the agent."""

    KIND: ClassVar[str] = "erased"
    CAP: ClassVar[int] = KIB
    erasure: Str
    agent: Annotated[AgentId, ID]
    signature: Bytes


class HubBeat(Closed, frozen=True):
    """I am here, each second: signed, so that no broker can keep up the look of a hub that is gone."""

    KIND: ClassVar[str] = "hub_beat"
    CAP: ClassVar[int] = KIB
    time: float
    serial: Int
    signature: Bytes


class BundleNotice(Closed, frozen=True):
    """A new bundle lies in the bucket."""

    KIND: ClassVar[str] = "bundle_notice"
    CAP: ClassVar[int] = KIB
    site: SiteId
    serial: Int


Reply = Accepted | Chunk | Done | Failed
