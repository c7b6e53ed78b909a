"""The tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

revision = Table(
    "revision", metadata,
    Column("id", Integer, primary_key=True),
    Column("serial", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False, default=0),
)  # fmt: skip
documents = Table(
    "documents", metadata,
    Column("serial", BigInteger, primary_key=True, autoincrement=False),
    Column("applied_at", Float, nullable=False),
    Column("applied_by", String(100), nullable=False),
    Column("text", Text, nullable=False),
)  # fmt: skip
keys = Table(
    "keys", metadata,
    Column("id", String(32), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("principal", String(64), nullable=False),
    Column("roles", String(200), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("revoked_at", Float),
)  # fmt: skip
agents = Table(
    "agents", metadata,
    Column("id", String(64), primary_key=True),
    Column("site", String(64), nullable=False),
    Column("zone", String(32), nullable=False),
    Column("signing_key", LargeBinary(32), nullable=False),
    Column("sealing_key", LargeBinary(32), nullable=False),
    Column("tenants", Text, nullable=False, default=""),
    Column("certificate_key", LargeBinary(32), nullable=False),
    Column("certificate_before", LargeBinary(32), nullable=False),
    Column("certificate_issued", Float, nullable=False),
    Column("certificate_expires", Float, nullable=False),
    Column("locked", Text, nullable=False, default=""),
    Column("admitted_at", Float, nullable=False),
    Column("removed_at", Float),
)  # fmt: skip
invitations = Table(
    "invitations", metadata,
    Column("id", String(16), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("name", String(64), nullable=False),
    Column("site", String(64), nullable=False),
    Column("zone", String(32), nullable=False),
    Column("region", String(64), nullable=False),
    Column("tenants", Text, nullable=False),
    Column("expires", Float, nullable=False),
    Column("used_at", Float),
    Column("used_by", LargeBinary(32)),
)  # fmt: skip
authors = Table(
    "ledger_authors", metadata,
    Column("author", String(64), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("next", BigInteger, nullable=False),
    Column("head", LargeBinary(32), nullable=False),
    Column("wall", Float, nullable=False),
    Column("heard_at", Float, nullable=False),
    Column("claimed_next", BigInteger, nullable=False, default=0),
    Column("silent_told", Boolean, nullable=False, default=False),
)  # fmt: skip
segments = Table(
    "ledger_segments", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("first_leaf", BigInteger, primary_key=True, autoincrement=False),
    Column("leaves", Integer, nullable=False),
    Column("author", String(64), nullable=False),
    Column("epoch", String(32), nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("expired_at", Float),
    Column("entries", LargeBinary, nullable=False),  # msgpack [[sequence, entry or its hash], …] in the order of the leaves
    Index("ledger_segments_author", "author", "epoch", "first_sequence"),
    Index("ledger_segments_received", "tenant", "received_at"),
)  # fmt: skip
tiles = Table(
    "ledger_tiles", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("hashes", LargeBinary, nullable=False),  # 256 hashes of 32 bytes; never changed
)  # fmt: skip
trees = Table(
    "ledger_trees", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("signed_size", BigInteger, nullable=False, default=0),
    Column("signed_at", Float, nullable=False, default=0.0),
)  # fmt: skip
checkpoints = Table(
    "ledger_checkpoints", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("signed_at", Float, nullable=False),
    Column("note", Text, nullable=False),
)  # fmt: skip
contents = Table(
    "ledger_contents", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("leaf", BigInteger, primary_key=True, autoincrement=False),
    Column("author", String(64), nullable=False),
    Column("epoch", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("subject", LargeBinary(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("key", LargeBinary, nullable=False),  # empty once it is destroyed
    Column("erased_at", Float),
    Index("ledger_contents_subject", "tenant", "subject"),
)  # fmt: skip
incidents = Table(
    "ledger_incidents", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("author", String(64), nullable=False),
    Column("epoch", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("why", Text, nullable=False),
    Column("evidence", LargeBinary, nullable=False),
    Index("ledger_incidents_author", "author", "epoch"),
)  # fmt: skip
holds = Table(
    "ledger_holds", metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", LargeBinary(32), nullable=False),  # empty: everything of the tenant
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("lifted_at", Float),
)  # fmt: skip
erasures = Table(
    "ledger_erasures", metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("records", Integer, nullable=False),
    Column("at", Float, nullable=False),
)  # fmt: skip
erasure_orders = Table(
    "ledger_erasure_orders", metadata,
    Column("erasure", String(32), primary_key=True),
    Column("author", String(64), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("sequences", LargeBinary, nullable=False),  # msgpack [number, …]
    Column("confirmed_at", Float),
)  # fmt: skip
pending = Table(
    "audit_pending", metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("fields", LargeBinary, nullable=False),
)  # fmt: skip
forwarded = Table(
    "audit_forwarded", metadata,
    Column("sink", String(200), primary_key=True),
    Column("tenant", String(64), primary_key=True),
    Column("next_leaf", BigInteger, nullable=False),
)  # fmt: skip
