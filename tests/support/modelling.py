"""Model folders for tests: signed by a hub that the test is, and opened as an agent opens them."""

from __future__ import annotations

from pathlib import Path

from edge_agent.inference import manifest as manifests
from edge_agent.inference.manifest import Manifest
from edge_agent.inference.opening import Resources
from edge_agent.inference.port import Caller
from edge_agent.inference.repository import adding
from edge_agent.inference.repository.adding import Wish
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Limits, Repository
from orchestrator.distribution import packages as distribution
from sync.crypto.signing import Signer

HUB = Signer(bytes(range(32)))
CALLER = Caller("acme")
DECODERS = Path(__file__).parent / "decoders"


def add(models: Path, source: Path, *, name: str = "m", version: str = "", signed: bool = True, **fields: object) -> Manifest:
    """Adds a folder as 'models add --trust' does, then has the hub sign it."""
    folder = ModelsFolder(models)
    wish = Wish(name, version, True, fields)
    made = adding.add(folder, source, wish, hub=HUB.public_key, resources=Resources())
    if signed:
        distribution.sign(models / made.name / made.version, HUB)
    return made


def copied(models: Path, source: Path, *, name: str = "m", version: str = "1", **fields: object) -> Path:
    """As `add`, without trying the model first: its folder."""
    target = models / name / version
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name not in (manifests.NAME, distribution.SIGNATURE):
            (target / path.name).write_bytes(path.read_bytes())
    manifests.build(target, name=name, version=version, **{"task": "generate", **fields})
    distribution.sign(target, HUB)
    return target


def sign_all(models: Path, signer: Signer = HUB) -> None:
    """Has the hub sign every version in a models folder."""
    for path in models.glob("*/*/manifest.json"):
        distribution.sign(path.parent, signer)


def repository(models: Path, *, resources: Resources | None = None, limits: Limits | None = None) -> Repository:
    """The folder as an agent of that hub opens it."""
    made = Repository(ModelsFolder(models), hub=HUB.public_key, resources=resources or Resources(), limits=limits)
    made.scan()
    return made
