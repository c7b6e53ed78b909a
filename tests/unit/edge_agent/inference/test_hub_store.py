"""Models from the hub's store: what was cut goes on, what was forged or damaged is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.repository import adding, hub_store
from edge_agent.inference.repository.adding import Wish
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.hub_store import BadPackage
from orchestrator.distribution import packages as distribution
from sync.bus.memory import Exchange, MemoryBus
from sync.bus.port import BusUnavailable
from sync.crypto.signing import Signer
from sync.kit import errors
from sync.wire import codec, packages
from sync.wire.packages import CHUNK
from tests.support import builders, modelling
from tests.support.modelling import DECODERS, HUB


class Counted(MemoryBus):
    """A bus that counts what is fetched, and whose line is cut after so many chunks."""

    left = 10**6
    fetched = 0

    async def get(self, bucket: str, key: str) -> bytes | None:
        if key.startswith("chunk."):
            if self.left == 0:
                raise BusUnavailable("the line is cut")
            self.left -= 1
            self.fetched += 1
        return await super().get(bucket, key)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model of three chunks and some small files."""
    folder = modelling.copied(tmp_path / "source", DECODERS / "llama-plain")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\xf2\x01" + (b"\x80\x80\x40" + bytes(1 << 20)))  # a field that no reader knows, of a MiB
    manifest = folder / "manifest.json"
    manifest.unlink()
    return modelling.copied(tmp_path / "signed", folder)


@pytest.fixture
def bus() -> Counted:
    return Counted(Exchange())


async def published(bus: Counted, source: Path) -> None:
    await distribution.publish(bus, source, HUB, adding.say_nothing)
    bus.fetched = 0


async def test_a_cut_fetch_goes_on_at_the_piece_that_is_missing(tmp_path: Path, bus: Counted, source: Path) -> None:
    await published(bus, source)
    models = ModelsFolder(tmp_path / "models")
    package = await hub_store.find(bus, "m", "", HUB.public_key)
    whole = sum(-(-file.size // CHUNK) for file in package.files)
    bus.left = 4
    with pytest.raises(BusUnavailable):
        await hub_store.fetch(bus, models, package, adding.say_nothing)
    bus.left = 10**6
    told: list[tuple[int, int]] = []
    fetched = await hub_store.fetch(bus, models, package, lambda _, done, size: told.append((done, size)))
    assert bus.fetched == whole and told[-1][0] == told[-1][1]
    for name in package.files:
        assert (fetched / name.name).read_bytes() == (source / name.name).read_bytes()
    await hub_store.fetch(bus, models, package, adding.say_nothing)
    assert bus.fetched == whole, "what is there is not fetched again"


async def test_what_is_published_twice_is_sent_once(bus: Counted, source: Path) -> None:
    await published(bus, source)
    puts: list[str] = []
    put = bus.put

    async def noted(bucket: str, key: str, data: bytes) -> None:
        puts.append(key)
        await put(bucket, key, data)

    bus.put = noted  # type: ignore[method-assign]
    await distribution.publish(bus, source, HUB, adding.say_nothing)
    assert not [key for key in puts if key.startswith("chunk.")]


async def test_a_damaged_file_on_this_side_is_mended(tmp_path: Path, bus: Counted, source: Path) -> None:
    await published(bus, source)
    models = ModelsFolder(tmp_path / "models")
    package = await hub_store.find(bus, "m", "", HUB.public_key)
    fetched = await hub_store.fetch(bus, models, package, adding.say_nothing)
    data = bytearray((fetched / "model.onnx").read_bytes())
    data[CHUNK + 5] ^= 1
    (fetched / "model.onnx").write_bytes(bytes(data) + b"and more")
    again = await hub_store.fetch(bus, models, package, adding.say_nothing)
    assert (again / "model.onnx").read_bytes() == (source / "model.onnx").read_bytes()


async def test_another_hubs_model_is_refused(bus: Counted, source: Path) -> None:
    await published(bus, source)
    with pytest.raises(BadPackage, match="not signed"):
        await hub_store.find(bus, "m", "", Signer(bytes(32)).public_key)
    with pytest.raises(BadFolder, match="has no model"):
        await hub_store.find(bus, "m", "9", HUB.public_key)


FORGED = {
    "a chunk that is another": lambda package, file: builders.replaced(file, chunks=bytes(32) + file.chunks[32:]),
    "a file outside": lambda package, file: builders.replaced(file, name="../../evil"),
    "a hidden file": lambda package, file: builders.replaced(file, name=".profile"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_list_of_files_is_refused(tmp_path: Path, bus: Counted, source: Path, name: str) -> None:
    """The signature is over the manifest: whoever changes the list of chunks is found out by digests, and writes nowhere else."""
    await published(bus, source)
    package = await hub_store.find(bus, "m", "", HUB.public_key)
    files = tuple(FORGED[name](package, file) for file in package.files)
    await bus.put(packages.BUCKET, packages.package_key("m", ""), codec.encode(builders.replaced(package, files=files)))
    models = ModelsFolder(tmp_path / "models")
    with pytest.raises(BadPackage):
        await hub_store.fetch(bus, models, await hub_store.find(bus, "m", "", HUB.public_key), adding.say_nothing)
    assert not (tmp_path / "evil").exists() and not (tmp_path / "models" / "evil").exists()


def test_files_that_the_manifest_does_not_name_are_refused_when_they_are_put_in(tmp_path: Path, source: Path) -> None:
    """A list with right digests and other files: the manifest's own digests decide."""
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(errors.Misconfigured, match="SHA-256 differs"):
        adding.add(
            ModelsFolder(tmp_path / "models"), source, Wish(), hub=HUB.public_key, resources=modelling.Resources()
        )  # fmt: skip


def test_names_and_chunks_are_addressed_by_digest() -> None:
    assert packages.package_key("a.b", "c") != packages.package_key("a", "b.c")
