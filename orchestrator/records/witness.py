"""Witnesses: other machines that sign the hub's checkpoints, so that it cannot show different ledgers to different people.

The protocol is c2sp.org/tlog-witness: `POST add-checkpoint` with the size that the witness has seen last, a consistency proof
from there, and the checkpoint; its answer is a cosignature. Here are both ends.

Invariants, each with a test of its words:
- a witness signs only a checkpoint of the known log that contains the last one it signed;
- what it has signed last is on disk before the signature leaves.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web

from sync.audit import checkpoint, merkle, proving
from sync.audit.checkpoint import COSIGNATURE, BadCheckpoint
from sync.audit.merkle import Range
from sync.crypto import signing
from sync.kit import errors, files, logs
from sync.kit.clock import Clock
from sync.kit.faults import Fault, Faults
from sync.kit.ids import TenantId

log = logs.get("witness")
MAX_BODY = 64 * 1024
MAX_HASHES = 64
TIMEOUT_S = 5.0
Roots = Callable[[TenantId, Sequence[Range]], Awaitable[list[bytes]]]


@dataclass(frozen=True, slots=True)
class Known:
    """A witness as the hub knows it: its URL prefix, its name and its public key."""

    url: str
    name: str
    key: signing.PublicKey


def read(text: str) -> Known:
    """A witness from a setting: URL, a space, and its verifier key. Raises Misconfigured."""
    url, _, key = text.strip().partition(" ")
    if not url.startswith(("http://", "https://")):
        raise errors.Misconfigured(
            f"'{text[:60]}' is no witness: write its URL, a space, and its verifier key.", code="bad_witness"
        )
    try:
        return Known(url.rstrip("/"), *checkpoint.read_verifier_key(key, COSIGNATURE))
    except BadCheckpoint as error:
        raise errors.Misconfigured(f"The witness at {url}: {error}", code="bad_witness") from error


class Witnesses:
    """The hub's end: asks each witness for its signature. One that does not answer holds nothing up."""

    def __init__(self, known: Sequence[Known], roots: Roots, faults: Faults) -> None:
        self._known = known
        self._roots = roots
        self._faults = faults
        self._seen: dict[tuple[str, str], int] = {}

    async def cosign(self, tenant: TenantId, note: str) -> str:
        """The note with the signatures of those witnesses that gave one."""
        if not self._known:
            return note
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
            for witness in self._known:
                try:
                    note += await self._ask(session, witness, tenant, note)
                except (aiohttp.ClientError, TimeoutError, errors.RingfenceError) as error:
                    detail = str(error) or type(error).__name__
                    self._faults.note(Fault.WITNESS_REFUSED, f"{witness.name} at {witness.url}: {detail[:200]}")
        return note

    async def _ask(self, session: aiohttp.ClientSession, witness: Known, tenant: TenantId, note: str) -> str:
        asked = checkpoint.unverified(note)
        old = self._seen.get((witness.name, asked.origin), 0)
        for _ in range(2):
            proof = await self._roots(tenant, merkle.consistency_path(old, asked.size)) if 0 < old < asked.size else []
            lines = [f"old {old}", *(base64.b64encode(part).decode() for part in proof)]
            body = "\n".join(lines) + "\n\n" + _signed_by_log(note)
            async with session.post(f"{witness.url}/add-checkpoint", data=body.encode(), allow_redirects=False) as response:
                told = (await response.content.read(MAX_BODY)).decode("utf-8", "replace")
                if response.status == web.HTTPConflict.status_code and told.strip().isdigit():
                    old = int(told)  # it has seen another size than we thought: from there, then
                    continue
                if response.status != web.HTTPOk.status_code:
                    raise errors.Refused(f"it answered {response.status}: {told[:120].strip()}")
            checkpoint.verify_cosignature(note + told, witness.name, witness.key)
            self._seen[witness.name, asked.origin] = asked.size
            return told
        raise errors.Refused("it has seen another tree than this one")


class Witness:
    """The other end: what one witness has seen of one hub's ledgers, kept in a folder."""

    def __init__(self, folder: Path, name: str, signer: signing.Signer, hub: signing.PublicKey, clock: Clock) -> None:
        self._path = folder / "witnessed.json"
        self._name = name
        self._signer = signer
        self._hub = hub
        self._clock = clock
        self._seen: dict[str, str] = _read_seen(self._path)

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/add-checkpoint", self.add), web.get("/healthz/live", self.live), web.get("/seen", self.seen)]

    async def live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "live", "logs": len(self._seen)})

    async def seen(self, _: web.Request) -> web.Response:
        """The newest checkpoint of each log, as it was signed: what an auditor compares with the hub's."""
        return web.json_response(self._seen)

    async def add(self, request: web.Request) -> web.Response:
        """The protocol's answers: 200 with a cosignature, 400, 403, 404, 409 with the size that was seen, 422."""
        try:
            old, proof, note = _read_body((await request.read()).decode())
            signed = checkpoint.verify(note, proving.SIGNER_NAME, self._hub)
        except (UnicodeDecodeError, ValueError, binascii.Error) as error:
            return web.Response(status=400, text=f"{error}\n")
        except BadCheckpoint as error:
            return web.Response(status=403, text=f"{error}\n")
        before = self._seen.get(signed.origin)
        known = checkpoint.unverified(before) if before else checkpoint.Checkpoint(signed.origin, 0, merkle.EMPTY_ROOT)
        if old != known.size or signed.size < old:
            return web.Response(status=409, text=f"{known.size}\n", content_type="text/x.tlog.size")
        try:
            merkle.verify_consistency(known.size, known.root, signed.size, signed.root, proof)
        except merkle.BadProof as error:
            log.error("inconsistent_ledger", origin=signed.origin, size=signed.size, seen=known.size)
            status = 409 if signed.size == known.size else 422
            return web.Response(status=status, text=f"{error}\n" if status != 409 else f"{known.size}\n")
        self._seen[signed.origin] = note
        files.write_atomically(self._path, json.dumps(self._seen).encode())
        return web.Response(text=checkpoint.cosign(note, self._name, self._signer, int(self._clock.wall())))


def _signed_by_log(note: str) -> str:
    """The note with its first signature alone: what other witnesses have signed is none of this one's business."""
    text, _, signatures = note.rpartition("\n\n")
    return f"{text}\n\n{signatures.splitlines()[0]}\n"


def _read_body(body: str) -> tuple[int, list[bytes], str]:
    head, _, note = body.partition("\n\n")
    first, *rest = head.split("\n")
    word, _, size = first.partition(" ")
    if word != "old" or not size.isascii() or not size.isdigit() or len(rest) > MAX_HASHES:
        raise ValueError("the body does not begin with old and a size")
    return int(size), [base64.b64decode(line, validate=True) for line in rest], note


def _read_seen(path: Path) -> dict[str, str]:
    """Raises Misconfigured where the file is damaged: a witness that has forgotten would sign a rewritten ledger."""
    if not path.exists():
        return {}
    try:
        return {str(origin): str(note) for origin, note in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise errors.Misconfigured(
            f"{path} is damaged, and a witness must not forget what it has signed: restore it from a backup.",
            code="witness_damaged",
        ) from error
