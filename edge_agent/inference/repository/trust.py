"""Whose a model is: the hub's, whose signature it bears, or one that an administrator here has trusted by its digest.

Invariants, each with a test of its words:
- a model that is neither signed by the hub nor trusted here is not loaded;
- a changed manifest is neither;
- only what the hub signed runs in the agent's own process.
"""

from __future__ import annotations

import enum
from pathlib import Path

from edge_agent.inference.manifest import NAME, SIGNATURE, BadFolder, Manifest
from edge_agent.inference.repository.folder import Version
from sync.crypto import digest, signing
from sync.crypto.signing import PublicKey


class Standing(enum.Enum):
    """How far a model is trusted."""

    SIGNED = "signed by the hub"
    TRUSTED = "trusted here"
    UNKNOWN = "not trusted"


class NotTrusted(BadFolder):
    """The model is from nobody that the agent knows."""

    code = "model_not_trusted"


def standing(version: Version, hub: PublicKey | None) -> Standing:
    """How far this version is trusted. A model without files of its own has nothing to trust."""
    if runs_no_file(version.manifest):
        return Standing.SIGNED
    told = (version.path / NAME).read_bytes()
    if hub is not None and _is_signed(version.path / SIGNATURE, told, hub):
        return Standing.SIGNED
    if version.state.trusted.get(version.manifest.version) == digest.sha256(told).hex():
        return Standing.TRUSTED
    return Standing.UNKNOWN


def must_be_known(version: Version, hub: PublicKey | None) -> Standing:
    """As `standing`. Raises NotTrusted where nobody vouches for it."""
    found = standing(version, hub)
    if found is Standing.UNKNOWN:
        name = version.manifest.name
        raise NotTrusted(
            f"The model '{name}', version {version.manifest.version}, is not signed by this agent's hub and was not trusted "
            f"here. Take the "
            f"hub's own ('models add rf:{name}'), or look at it and run 'ringfence-agent models trust {name}'."
        )
    return found


def runs_no_file(manifest: Manifest) -> bool:
    """Whether the model computes nothing here, and so has no file to be trusted."""
    return manifest.backend != "onnx"


def _is_signed(path: Path, told: bytes, hub: PublicKey) -> bool:
    if not path.is_file():
        return False
    try:
        signing.verify(hub, signing.MODEL, told, path.read_bytes()[:256])
    except signing.BadSignature:
        return False
    return True
