"""That the hub is there: its heartbeat, and its answer to who asks."""

from __future__ import annotations

from sync.crypto import signing
from sync.kit import errors
from sync.wire import codec
from sync.wire.messages import HubBeat, Welcome
from sync.wire.types import replace


def make(time: float, serial: int, hub: signing.Signer) -> bytes:
    """The frame of a heartbeat. `serial` is the newest bundle's."""
    beat = HubBeat(time, serial, b"")
    return codec.encode(replace(beat, signature=hub.sign(signing.HUB_BEAT, _signed(beat))))


def read(frame: bytes, hub: signing.PublicKey) -> HubBeat:
    """The heartbeat in a frame. Raises Corrupt where the hub has not signed it."""
    beat = codec.decode(frame, HubBeat)
    signing.verify(hub, signing.HUB_BEAT, _signed(beat), beat.signature)
    return beat


def welcome(nonce: bytes, time: float, hub: signing.Signer) -> bytes:
    """The frame that answers an agent's hello."""
    return codec.encode(Welcome(nonce, time, hub.sign(signing.HUB_BEAT, codec.pack((nonce, time)))))


def read_welcome(frame: bytes, nonce: bytes, hub: signing.PublicKey) -> float:
    """The hub's time, said just now. Raises Corrupt where it is not the answer to this nonce."""
    told = codec.decode(frame, Welcome)
    if told.nonce != nonce:
        raise errors.Corrupt("A welcome to another hello came.")
    signing.verify(hub, signing.HUB_BEAT, codec.pack((nonce, told.time)), told.signature)
    return told.time


def _signed(beat: HubBeat) -> bytes:
    return codec.pack((beat.time, beat.serial))
