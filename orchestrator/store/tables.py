"""The tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

revision = Table("revision", metadata, Column("id", Integer, primary_key=True), Column("serial", BigInteger, nullable=False))
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
    Column("password", String(100), nullable=False),
    Column("admitted_at", Float, nullable=False),
    Column("removed_at", Float),
)  # fmt: skip
authors = Table(
    "ledger_authors", metadata,
    Column("author", String(64), primary_key=True),
    Column("epoch", String(32), primary_key=True),
    Column("next", BigInteger, nullable=False),
    Column("head", LargeBinary(32), nullable=False),
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
    Column("entries", LargeBinary, nullable=False),  # msgpack [[sequence, entry], …] in the order of the leaves
    Index("ledger_segments_author", "author", "epoch", "first_sequence"),
)  # fmt: skip
trees = Table(
    "ledger_trees", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("peaks", LargeBinary, nullable=False),
    Column("signed_size", BigInteger, nullable=False, default=0),
)  # fmt: skip
checkpoints = Table(
    "ledger_checkpoints", metadata,
    Column("tenant", String(64), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("signed_at", Float, nullable=False),
    Column("note", Text, nullable=False),
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
