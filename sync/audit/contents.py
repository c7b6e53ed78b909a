"""What a tenant retains of a request: prompt and answer, each record under a key of its own. Pure.

The key is sealed to the tenant's content key, whose private half only the hub has: who holds a site's disk reads nothing, and
who destroys the sealed key destroys the contents. The record itself names a digest of the ciphertext, so that contents cannot be
exchanged; no plain digest of what was said is anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sync.audit.journal import Retained
from sync.crypto import digest, sealing
from sync.kit import errors
from sync.kit.ids import TenantId
from sync.wire import codec

MOST = 512 * codec.KIB
"""Bytes of prompt and answer that are retained of one request; the rest is cut, and that is told."""
MAX_SUBJECT = 200
DIGEST_FIELD = "content"
_UNPACKED = 4 * MOST


@dataclass(frozen=True, slots=True)
class Opened:
    """Contents as they were: the fields that were retained, and whom they are about, where that was said."""

    fields: Mapping[str, object]
    subject: str


def seal(key: sealing.SealingKey, tenant: TenantId, fields: Mapping[str, str] | None, subject: str) -> Retained:
    """Contents for the holder of the tenant's key alone. `fields` None: the subject only."""
    secret = sealing.new_key()
    sealed = b""
    if fields is not None:
        body = zlib.compress(codec.pack(_cut(fields)), 1)
        sealed = sealing.Box(secret).seal(body, context=_context(tenant))
    return Retained(sealed, sealing.seal_to(key, codec.pack((secret, subject[:MAX_SUBJECT])), info=_context(tenant)))


def retain(
    tenant: TenantId, key: bytes, texts: Sequence[str], answer: str, subject: str, *, whole: bool
) -> Retained | None:  # fmt: skip
    """What goes beside the record of a request, or None where there is nothing: prompt and answer where the tenant retains them
    (`whole`), and the subject where one was named. `key` is the tenant's, or empty."""
    if not key or not (whole or subject):
        return None
    return seal(sealing.SealingKey(key), tenant, {"prompt": "\n".join(texts), "answer": answer} if whole else None, subject)


def subject(opener: sealing.Opener, tenant: TenantId, key: bytes) -> str:
    """Whom contents are about, from their sealed key. Raises Corrupt."""
    return _open_key(opener, tenant, key)[1]


def open_(opener: sealing.Opener, tenant: TenantId, retained: Retained) -> Opened:
    """The contents. Raises Corrupt where they were changed, or are another tenant's."""
    secret, about = _open_key(opener, tenant, retained.key)
    if not retained.sealed:
        return Opened({}, about)
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(sealing.Box(secret).open(retained.sealed, context=_context(tenant)), _UNPACKED)
    except zlib.error as error:
        raise errors.Corrupt("Retained contents are damaged.", code="content_damaged") from error
    fields = codec.unpack(data)
    if not isinstance(fields, dict):
        raise errors.Corrupt("Retained contents are no map.", code="content_damaged")
    return Opened(fields, about)


def digest_of(sealed: bytes) -> bytes:
    """What the record says of its contents."""
    return digest.sha256(sealed)


def _open_key(opener: sealing.Opener, tenant: TenantId, key: bytes) -> tuple[bytes, str]:
    match codec.unpack(opener.open(key, info=_context(tenant))):
        case (bytes(secret), str(about)) if len(secret) == 32:
            return secret, about
    raise errors.Corrupt("A content key is malformed.", code="content_damaged")


def _cut(fields: Mapping[str, str]) -> dict[str, object]:
    """The fields, each cut to its share of what is retained."""
    share = MOST // max(1, len(fields))
    kept: dict[str, object] = {}
    for name, text in fields.items():
        data = text.encode("utf-8", "replace")
        kept[name] = text if len(data) <= share else data[:share].decode("utf-8", "ignore")
        if len(data) > share:
            kept[f"{name}_cut"] = len(data)
    return kept


def _context(tenant: TenantId) -> bytes:
    return f"ringfence/v1/content|{tenant}".encode()
