"""How an agent gets its next certificate with its last one, over the bus or over HTTPS: the same two frames.

The request is signed three times: by the new key (in the request for a certificate), by the old certificate's key, and by
the agent's own signing key, which the hub knows from the admission. The answer is signed by the hub, over the request too.
"""

from __future__ import annotations

from typing import ClassVar

from sync.crypto import authority, digest, signing
from sync.kit import errors
from sync.kit.ids import AgentId
from sync.wire import codec
from sync.wire.codec import KIB
from sync.wire.types import Bytes, Closed, Str, replace

GRANTED = ""


class Renewal(Closed, frozen=True):
    """Give me a certificate for this request. `certificate`: the last one with its chain; `proof`: by its key, over the request."""

    KIND: ClassVar[str] = "renewal"
    CAP: ClassVar[int] = 64 * KIB
    agent: AgentId
    certificate: Bytes
    request: Bytes
    proof: Bytes
    signature: Bytes


class Renewed(Closed, frozen=True):
    """The next certificate with its chain, and the roots to trust; or the code and the sentence of a refusal. Signed by the hub."""

    KIND: ClassVar[str] = "renewed"
    CAP: ClassVar[int] = 64 * KIB
    certificate: Bytes
    trusted: Bytes
    code: Str
    why: Str
    signature: Bytes


def ask(agent: AgentId, certificate: bytes, key: bytes, request: bytes, signer: signing.Signer) -> bytes:
    """The frame of a request. `key`: the last certificate's, in PEM; `request`: for the next, in PEM."""
    made = Renewal(agent, certificate, request, authority.prove(key, request), b"")
    return codec.encode(replace(made, signature=signer.sign(signing.RENEWAL, _asked(made))))


def read(frame: bytes) -> Renewal:
    """The request in a frame; nothing of it is checked but its shape. Raises Corrupt."""
    return codec.decode(frame, Renewal)


def check(asked: Renewal, agent: signing.PublicKey) -> None:
    """Returns where the agent, and whoever holds the last certificate's key, asks. Raises Corrupt."""
    signing.verify(agent, signing.RENEWAL, _asked(asked), asked.signature)
    authority.check_proof(asked.certificate, asked.request, asked.proof)


def answer(frame: bytes, told: Renewed, hub: signing.Signer) -> bytes:
    """The frame that answers a request's frame."""
    return codec.encode(replace(told, signature=hub.sign(signing.RENEWAL, _told(frame, told))))


def read_answer(answer: bytes, frame: bytes, hub: signing.PublicKey) -> Renewed:
    """The hub's answer to this request's frame. Raises Corrupt where it is not; Refused as it says."""
    told = codec.decode(answer, Renewed)
    signing.verify(hub, signing.RENEWAL, _told(frame, told), told.signature)
    if told.code != GRANTED:
        raise errors.Refused(told.why, code=told.code)
    return told


def _asked(asked: Renewal) -> bytes:
    return codec.pack((asked.agent, asked.certificate, asked.request, asked.proof))


def _told(frame: bytes, told: Renewed) -> bytes:
    return codec.pack((digest.sha256(frame), told.certificate, told.trusted, told.code, told.why))
