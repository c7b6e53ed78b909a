"""The order to destroy contents, and the word that it is done: made and checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sync.crypto import signing
from sync.kit import errors
from sync.kit.ids import AgentId, Epoch
from sync.wire import codec
from sync.wire.messages import Erase, Erased
from sync.wire.types import replace

MOST = 10_000
"""Records in one order."""


def order(erasure: str, agent: AgentId, epoch: Epoch, sequences: Sequence[int], hub: signing.Signer) -> Erase:
    made = Erase(erasure, agent, epoch, tuple(sequences), b"")
    return replace(made, signature=hub.sign(signing.ERASURE, _order_bytes(made)))


def check_order(asked: Erase, agent: AgentId, hub: signing.PublicKey) -> None:
    """Returns where the hub has ordered it of this agent. Raises Corrupt."""
    signing.verify(hub, signing.ERASURE, _order_bytes(asked), asked.signature)
    if asked.agent != agent:
        raise errors.Corrupt(f"An erasure for {asked.agent} came to {agent}.")


def done(erasure: str, agent: AgentId, signer: signing.Signer) -> Erased:
    return Erased(erasure, agent, signer.sign(signing.ERASED, codec.pack((erasure, agent))))


def check_done(told: Erased, erasure: str, agent: AgentId, key: signing.PublicKey) -> None:
    """Returns where this agent has signed that it is done. Raises Corrupt."""
    if (told.erasure, told.agent) != (erasure, agent):
        raise errors.Corrupt(f"{agent} confirms another erasure than {erasure}.")
    signing.verify(key, signing.ERASED, codec.pack((erasure, agent)), told.signature)


def _order_bytes(asked: Erase) -> bytes:
    return codec.pack((asked.erasure, asked.agent, asked.epoch, asked.sequences))
