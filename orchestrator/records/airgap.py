"""Journals that come on a stick, into the ledger, with the answers that go back; and bundles that go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.checkpoints import Checkpoints
from orchestrator.ledger.ingest import Ledger
from sync.audit import proving
from sync.audit.proving import Pinned
from sync.crypto.signing import PublicKey
from sync.kit import errors
from sync.kit.ids import AgentId
from sync.wire import codec, parcels
from sync.wire.messages import Envelope, ProofRequest
from sync.wire.types import replace

_FRAMES: tuple[type[Envelope | ProofRequest], ...] = (Envelope, ProofRequest)


@dataclass(slots=True)
class Imported:
    """What came in of one agent."""

    agent: AgentId
    records: int = 0
    held: int = 0
    request: ProofRequest | None = None


def journals_in(source: Path) -> list[Path]:
    """The parcels in a folder, or the one that is named. Raises Misconfigured where there is none."""
    paths = sorted(source.glob("journal-*.parcel")) if source.is_dir() else [source]
    if not paths:
        sentence = f"There is no journal in {source}: 'ringfence-agent journal export' writes them."
        raise errors.Misconfigured(sentence, code="no_parcel")
    return paths


async def import_journals(
    paths: Sequence[Path], ledger: Ledger, checkpoints: Checkpoints, keys: dict[AgentId, PublicKey], told: Callable[[str], None]
) -> list[Imported]:  # fmt: skip
    """Takes parcels into the ledger, and writes an answer beside them for each agent. Raises BadParcel or Misconfigured.

    Everything is checked before the first record is taken.
    """
    for path in paths:
        for frame in parcels.read(path):
            _key_of(_decoded(path, frame), path, keys)
    done: dict[AgentId, Imported] = {}
    for path in paths:
        told(path.name)
        for frame in parcels.read(path):
            message = _decoded(path, frame)
            one = done.setdefault(message.agent, Imported(message.agent))
            key = _key_of(message, path, keys)
            if isinstance(message, ProofRequest):
                proving.check_request(message, key)
                one.request = message
                continue
            (receipt,) = await ledger.take([(message, key)])
            one.records += len(message.entries)
            one.held = receipt.upto
    await checkpoints.sign()
    for one in done.values():
        if one.request is not None:
            await _answer(paths[0].parent, one.request, ledger, checkpoints)
    return list(done.values())


async def _answer(folder: Path, request: ProofRequest, ledger: Ledger, checkpoints: Checkpoints) -> None:
    """Writes the receipt and the proofs that an agent takes in."""
    receipt = await ledger.receipt(request.agent, request.epoch)
    frames = [codec.encode(receipt)]
    while (proof := await checkpoints.prove(request)) is not None:
        frames.append(codec.encode(proof))
        pins = {pin.origin: pin for pin in request.pins}
        pins |= {pin.origin: pin for pin in (Pinned(tree.tenant, tree.note).pin for tree in proof.trees)}
        request = replace(request, first=proof.upto, pins=tuple(pins.values()))
    parcels.write(folder / f"answer-{request.agent}-{request.epoch}.parcel", frames)


def _decoded(path: Path, frame: bytes) -> Envelope | ProofRequest:
    try:
        return codec.decode(frame, *_FRAMES)
    except errors.Corrupt as error:
        raise parcels.BadParcel(f"{path} is not what an agent sends to a hub: {error}") from error


def _key_of(message: Envelope | ProofRequest, path: Path, keys: dict[AgentId, PublicKey]) -> PublicKey:
    key = keys.get(message.agent)
    if key is None:
        raise errors.Misconfigured(f"{path} is of the agent '{message.agent}', which is not admitted here.", code="agent_unknown")
    return key
