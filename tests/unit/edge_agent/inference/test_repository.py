"""The model repository: what is taken in, whom it is from, which version serves, what stays in memory."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.inference import manifest as manifests
from edge_agent.inference.manifest import BadFolder
from edge_agent.inference.opening import Resources
from edge_agent.inference.port import Overloaded
from edge_agent.inference.repository import adding, lifecycle, trust
from edge_agent.inference.repository.adding import Wish
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Limits, NoSuchModel, Repository, Unusable
from edge_agent.inference.repository.trust import NotTrusted, Standing
from sync.crypto.signing import Signer
from sync.kit import errors
from sync.wire import tasks
from tests.support import asking, modelling, running
from tests.support.modelling import CALLER, DECODERS, HUB

LLAMA = DECODERS / "llama-int4"
GUIDE = running.BUILT / "guide" / "1"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Repository]]:
    found: list[Repository] = []

    def make(models: Path, **options: object) -> Repository:
        found.append(modelling.repository(models, **options))  # type: ignore[arg-type]
        return found[-1]

    yield make
    for repository in found:
        await repository.close()


def add(models: Path, source: Path, *, trust: bool = True, **wish: object) -> manifests.Manifest:
    return adding.add(ModelsFolder(models), source, Wish(trust=trust, **wish), hub=HUB.public_key, resources=Resources())  # type: ignore[arg-type]


def left_behind(models: Path) -> list[str]:
    """What lies in the folder that no finished version is."""
    return [path.name for path in models.iterdir() if path.name.startswith(".")] if models.exists() else []


# --- taking in


def test_a_folder_says_itself_what_it_is(models: Path, tmp_path: Path) -> None:
    assert add(models, LLAMA).task == "generate"
    assert add(models, LLAMA).version == "2"
    plain = add(models, DECODERS / "llama-plain", name="plain")
    assert plain.task == "generate" and set(plain.files) >= {"model.onnx", "tokenizer.json", "config.json"}
    assert left_behind(models) == []


def test_what_is_not_signed_needs_a_word(models: Path) -> None:
    with pytest.raises(NotTrusted, match="--trust"):
        add(models, LLAMA, trust=False)
    assert not models.exists() or list(models.iterdir()) == []


def test_what_the_hub_signed_needs_none_and_keeps_its_manifest(models: Path, tmp_path: Path) -> None:
    signed = modelling.copied(tmp_path / "hub", LLAMA, name="theirs", version="7", licence="MIT")
    made = add(models, signed, trust=False)
    assert (made.name, made.version, made.licence) == ("theirs", "7", "MIT")
    assert trust.standing(ModelsFolder(models).find("theirs"), HUB.public_key) is Standing.SIGNED
    assert trust.standing(ModelsFolder(models).find("theirs"), Signer(bytes(32)).public_key) is Standing.UNKNOWN


def _link(folder: Path) -> None:
    (folder / "extra.json").symlink_to("/etc/passwd")


def _hostile(folder: Path) -> None:
    told = json.loads((folder / "genai_config.json").read_text())
    told["model"]["decoder"]["session_options"]["custom_ops_library"] = "evil.so"
    (folder / "genai_config.json").write_text(json.dumps(told))


def _truncated(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])


def _another_tokenizer(folder: Path) -> None:
    shutil.copy(GUIDE / "tokenizer.json", folder)


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _foreign(folder: Path) -> None:
    file = onnx.load(folder / "model.onnx", load_external_data=False)
    file.opset_import.append(helper.make_opsetid("evil.corp", 1))
    onnx.save(file, folder / "model.onnx")


def _outside(folder: Path) -> None:
    told = json.loads((folder / "genai_config.json").read_text())
    told["model"]["decoder"]["filename"] = "../model.onnx"
    (folder / "genai_config.json").write_text(json.dumps(told))


WRONG = {
    "a symbolic link": (_link, "symbolic link"), "a configuration that loads code": (_hostile, "custom_ops_library"),
    "a truncated file": (_truncated, "damaged"), "a tokenizer of another model": (_another_tokenizer, "not of one model"),
    "no tokenizer": (_no_tokenizer, "tokenizer"), "operators of others": (_foreign, "evil.corp"),
    "a file elsewhere": (_outside, "filename"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_folder_is_refused_when_it_is_added_and_nothing_is_left(models: Path, tmp_path: Path, name: str) -> None:
    spoil, words = WRONG[name]
    source = shutil.copytree(LLAMA, tmp_path / "source")
    spoil(source)
    add(models, LLAMA, name="good")
    with pytest.raises(errors.Misconfigured, match=words):
        add(models, source, name="bad")
    assert sorted(path.name for path in models.iterdir()) == ["good"]


async def test_a_model_that_asks_for_24_gb_takes_nobody_with_it(models: Path, tmp_path: Path, opened) -> None:
    source = tmp_path / "bomb"
    source.mkdir()
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [80_000, 80_000])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [80_000, 80_000])
    graph = helper.make_graph([node], "bomb", [x], [y], [shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), source / "model.onnx")
    await asyncio.to_thread(add, models, source, name="bomb", fields={"task": "tensors"})
    found = opened(models, resources=Resources(worker_mib=3000))
    x = {"name": "x", "shape": [1], "datatype": "FP32", "data": [0.0]}
    async with found.lease("bomb") as model:
        with pytest.raises(errors.RingfenceError):
            await model.engine.run(asking.request("tensors", inputs=[x]), None, CALLER)


def test_the_same_version_is_not_taken_twice(models: Path) -> None:
    add(models, LLAMA, name="m", version="1")
    with pytest.raises(BadFolder, match="there already"):
        add(models, LLAMA, name="m", version="1")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """On a disk of its own, of one MiB: the second model does not fit."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    try:
        add(disk, LLAMA, name="good")
        with pytest.raises(BadFolder, match="nothing was changed"):
            add(disk, DECODERS / "llama-plain", name="large")
        assert sorted(path.name for path in disk.iterdir()) == ["good"]
        assert adding.verify(ModelsFolder(disk).find("good"), None) is Standing.TRUSTED
    finally:
        subprocess.run(["umount", disk], check=True)


TAR = {
    "a way out": lambda tar: _member(tar, "../evil.json", b"{}"),
    "an absolute path": lambda tar: _member(tar, "/tmp/evil.json", b"{}"),
    "a link": lambda tar: tar.addfile(_info("link.json", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "a device": lambda tar: tar.addfile(_info("null", type=tarfile.CHRTYPE)),
    "too many files": lambda tar: [_member(tar, f"{n}.json", b"{}") for n in range(adding.MAX_FILES + 1)],
}


def _info(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def _member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_info(name, size=len(data)), io.BytesIO(data))


@pytest.mark.parametrize("name", TAR)
def test_a_hostile_tar_file_is_refused(models: Path, tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        TAR[name](tar)
    with pytest.raises(BadFolder):
        adding.unpack(ModelsFolder(models), tmp_path / "m.tar")
    assert not list((models / ".incoming").iterdir())
    assert not Path("/tmp/evil.json").exists() and not (tmp_path / "evil.json").exists()


def test_a_tar_file_of_a_folder_is_taken(models: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        tar.add(LLAMA, "some-model")
    folder = adding.unpack(ModelsFolder(models), tmp_path / "m.tar")
    assert folder.name == "some-model"
    assert add(models, folder, name="m").task == "generate"


# --- trust


async def test_what_nobody_vouches_for_is_not_served(models: Path, opened) -> None:
    folder = modelling.copied(models, LLAMA)
    (folder / manifests.SIGNATURE).unlink()
    found = opened(models)
    assert found.names == () and "not signed" in found.mistakes[0]
    with pytest.raises(NoSuchModel):
        async with found.lease("m"):
            pass


async def test_a_changed_manifest_is_neither_signed_nor_trusted(models: Path) -> None:
    await asyncio.to_thread(add, models, LLAMA, name="trusted")
    modelling.copied(models, LLAMA, name="signed")
    folder = ModelsFolder(models)
    for name, standing in (("trusted", Standing.TRUSTED), ("signed", Standing.SIGNED)):
        version = folder.find(name)
        assert trust.standing(version, HUB.public_key) is standing
        path = version.path / manifests.NAME
        path.write_bytes(path.read_bytes() + b"\n")
        assert trust.standing(folder.find(name), HUB.public_key) is Standing.UNKNOWN


async def test_a_changed_file_is_refused_before_it_is_opened(models: Path, opened, capsys: pytest.CaptureFixture[str]) -> None:
    folder = modelling.copied(models, LLAMA)
    data = bytearray((folder / "model.onnx.data").read_bytes())
    data[100] ^= 1
    (folder / "model.onnx.data").write_bytes(data)
    found = opened(models)
    with pytest.raises(Unusable):
        async with found.lease("m"):
            pass
    assert "SHA-256 differs" in capsys.readouterr().out
    assert found.names == (), "it is left out until it is tried again"
    with pytest.raises(Unusable):
        async with found.lease("m"):
            pass


async def test_a_file_that_nobody_named_is_not_read(models: Path, opened, capsys: pytest.CaptureFixture[str]) -> None:
    """A chat template laid beside a signed model's files would change what it is asked."""
    folder = modelling.copied(models, LLAMA)
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    with pytest.raises(Unusable):
        async with opened(models).lease("m"):
            pass
    assert "is not named" in capsys.readouterr().out


async def test_only_what_the_hub_signed_runs_in_the_agents_own_process(models: Path, opened) -> None:
    await asyncio.to_thread(add, models, LLAMA, name="trusted")
    modelling.copied(models, LLAMA, name="signed")
    found = opened(models)
    texts = []
    for name, engine in (("trusted", "Isolated"), ("signed", "Generator")):
        async with found.lease(name) as model:
            assert type(model.engine).__name__ == engine
            texts.append((await model.engine.run(asking.generate("hello"), None, CALLER)).text)
    assert texts[0] == texts[1] != ""


# --- versions


async def test_the_highest_version_is_used_until_another_is_chosen(models: Path) -> None:
    for version in ("1.9", "1.10", "1.2"):
        modelling.copied(models, LLAMA, version=version)
    folder = ModelsFolder(models)
    assert folder.used_version("m") == "1.10"
    folder.use("m", "1.2")
    assert (folder.used_version("m"), folder.state("m").previous) == ("1.2", "1.10")
    folder.roll_back("m")
    assert (folder.used_version("m"), folder.state("m").previous) == ("1.10", "1.2")
    with pytest.raises(BadFolder, match="has no version"):
        folder.use("m", "9")


def test_what_is_used_or_pinned_is_not_removed(models: Path) -> None:
    for version in ("1", "2"):
        modelling.copied(models, LLAMA, version=version)
    folder = ModelsFolder(models)
    with pytest.raises(BadFolder, match="is used"):
        folder.remove("m", "2")
    assert folder.remove("m", "1") == ["1"]
    folder.write_state("m", pinned=True)
    with pytest.raises(BadFolder, match="pinned"):
        folder.remove("m")
    folder.write_state("m", pinned=False)
    assert folder.remove("m") == ["2"] and list(models.iterdir()) == []
    with pytest.raises(BadFolder, match="no model"):
        folder.remove("m")


async def test_a_swap_loses_and_mixes_nothing(models: Path, opened) -> None:
    """Requests go on while the version changes again and again: each has the whole answer of one of both."""
    modelling.copied(models, LLAMA, version="1")
    modelling.copied(models, DECODERS / "qwen3-int4", version="2")
    folder = ModelsFolder(models)
    found = opened(models)
    answers: dict[str, str] = {}
    for version in ("1", "2"):
        folder.use("m", version)
        await found.refresh()
        async with found.lease("m") as model:
            assert model.manifest.version == version
            answers[version] = (await model.engine.run(asking.generate("hello", max_tokens=60), None, CALLER)).text
    assert answers["1"] != answers["2"]
    seen: list[tuple[str, str]] = []
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            async with found.lease("m") as model:
                text = (await model.engine.run(asking.generate("hello", max_tokens=60), None, CALLER)).text
                seen.append((model.manifest.version, text))

    askers = [asyncio.create_task(ask()) for _ in range(4)]
    for round_ in range(6):
        folder.use("m", "1" if round_ % 2 == 0 else "2")
        await found.refresh()
    stop.set()
    await asyncio.gather(*askers)
    assert {version for version, _ in seen} == {"1", "2"}
    assert all(text == answers[version] for version, text in seen)
    assert not found._retired


async def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(models: Path, opened) -> None:
    modelling.copied(models, LLAMA, version="1")
    found = opened(models)
    async with found.lease("m") as model:
        assert model.manifest.version == "1"
    broken = modelling.copied(models, LLAMA, version="2")
    (broken / "model.onnx.data").write_bytes(b"nothing")
    await found.refresh()
    async with found.lease("m") as model:
        assert model.manifest.version == "1"
        assert (await model.engine.run(asking.generate("hello"), None, CALLER)).text
    assert any("serves on" in mistake for mistake in found.mistakes)


# --- memory


async def test_a_model_is_loaded_once_however_many_ask(models: Path, opened) -> None:
    modelling.copied(models, LLAMA)
    found = opened(models)

    async def engine() -> int:
        async with found.lease("m") as model:
            return id(model.engine)

    assert len(set(await asyncio.gather(*(engine() for _ in range(20))))) == 1


async def test_the_least_lately_used_goes_and_never_one_at_work_or_pinned(models: Path, opened) -> None:
    for name in ("a", "b", "c"):
        folder = modelling.copied(models, LLAMA, name=name)
        with (folder / "model.onnx.data").open("ab") as file:  # so that two fit into a MiB and three do not
            file.write(bytes(300_000))
        manifests.build(folder, name=name, version="1", task="generate")
    modelling.sign_all(models)
    found = opened(models, limits=Limits(models_mib=1))
    for name in ("a", "b"):
        async with found.lease(name):
            pass
    async with found.lease("a"):
        async with found.lease("c"):
            assert sorted(found._loaded) == ["a", "c"]
        ModelsFolder(models).write_state("c", pinned=True)
        found.scan()
        with pytest.raises(Overloaded):
            async with found.lease("b"):
                pass
    async with found.lease("b"):
        assert sorted(found._loaded) == ["b", "c"]


async def test_a_pinned_model_is_loaded_before_it_is_asked_for(models: Path, opened) -> None:
    for name in ("a", "b"):
        modelling.copied(models, LLAMA, name=name)
    ModelsFolder(models).write_state("b", pinned=True)
    found = opened(models)
    assert await found.preload() == []
    assert list(found._loaded) == ["b"]


async def test_a_removed_model_is_given_up(models: Path, opened) -> None:
    modelling.copied(models, LLAMA)
    found = opened(models)
    async with found.lease("m"):
        pass
    ModelsFolder(models).remove("m")
    await found.refresh()
    assert found.names == () and not found._loaded


def test_a_missing_folder_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match="does not exist"):
        modelling.repository(tmp_path / "none")


async def test_an_optimised_graph_is_kept_and_gives_the_same(models: Path, tmp_path: Path, opened) -> None:
    modelling.copied(models, running.BUILT / "guide-embed" / "1", task="embed")
    (tmp_path / "kept").mkdir()
    vectors = []
    for _ in range(3):
        found = opened(models, resources=Resources(optimised=tmp_path / "kept"))
        async with found.lease("m") as model:
            vectors.append(np.frombuffer((await model.engine.run(tasks.Embed(("a text",)), None, CALLER)).answer.vectors, "<f4"))
        for path in (tmp_path / "kept").iterdir():
            if len(vectors) == 2:
                path.write_bytes(b"damaged")
    assert np.allclose(vectors[0], vectors[1]) and np.allclose(vectors[0], vectors[2])


# --- isolation


async def test_a_worker_that_dies_tells_its_callers_and_comes_back(models: Path, opened) -> None:
    await asyncio.to_thread(add, models, LLAMA, name="m")
    found = opened(models)
    async with found.lease("m") as model:
        said = asyncio.Event()
        endless = asking.generate("a", max_tokens=480, logit_bias={"2": -100.0})
        task = asyncio.create_task(model.engine.run(endless, asking.Heard(lambda _: said.set()), CALLER))
        await said.wait()
        os.kill(model.engine._process.pid, 9)
        with pytest.raises(errors.Retryable) as told:
            await task
        assert told.value.code == "model_crashed"
        assert (await model.engine.run(asking.generate("hello"), None, CALLER)).text


async def test_a_worker_streams_cancels_and_refuses_as_the_model_itself_would(models: Path, opened) -> None:
    await asyncio.to_thread(add, models, LLAMA, name="m")
    found = opened(models)
    async with found.lease("m") as model:
        heard = asking.Heard()
        result = await model.engine.run(asking.generate("hello", n=2, logprobs=True, temperature=1.0, seed=1), heard, CALLER)
        for number, choice in enumerate(result.choices):
            assert "".join(piece.text for piece in heard.pieces if piece.choice == number) == choice.text
            assert choice.scores
        with pytest.raises(errors.Refused) as told:
            await model.engine.run(asking.generate("x", top_p=9.0), None, CALLER)
        assert told.value.code == "bad_payload"
        task = asyncio.create_task(model.engine.run(asking.generate("a", max_tokens=480), None, CALLER))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await model.engine.run(asking.generate("hello"), None, CALLER)).text


async def test_a_worker_has_a_limit_no_secrets_and_no_file_to_write(models: Path, opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_SECRET", "s3cret")
    await asyncio.to_thread(add, models, LLAMA, name="m")
    found = opened(models, resources=Resources(worker_mib=2000))
    async with found.lease("m") as model:
        process = Path(f"/proc/{model.engine._process.pid}")
        assert b"s3cret" not in (process / "environ").read_bytes()
        limits = (process / "limits").read_text()
        assert f"{2000 << 20}" in limits.split("Max address space")[1].splitlines()[0]
        assert limits.split("Max file size")[1].split()[0] == "0"
    assert sys.executable


# --- execution providers


async def test_a_provider_that_is_not_there_is_said_and_the_cpu_serves_only_where_it_may(
    models: Path, opened, capsys: pytest.CaptureFixture[str]
) -> None:
    modelling.copied(models, LLAMA)
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    with pytest.raises(Unusable):
        async with opened(models, resources=Resources(providers=wanted)).lease("m"):
            pass
    assert "CUDAExecutionProvider is not there" in capsys.readouterr().out
    async with opened(models, resources=Resources(providers=wanted, may_fall_back=True)).lease("m") as model:
        assert model.engine.providers == ("CPUExecutionProvider",)
    modelling.copied(models, LLAMA, name="own", providers=["CPUExecutionProvider"])
    async with opened(models, resources=Resources(providers=wanted)).lease("own") as model:
        assert model.engine.providers == ("CPUExecutionProvider",)


async def test_a_model_that_hangs_is_told_from_one_that_works(models: Path, opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own call stands still: nothing moves any more, and the service manager is not told that all is well."""
    modelling.copied(models, LLAMA, name="m")
    found = opened(models)
    still = threading.Event()
    async with found.lease("m") as model:
        monkeypatch.setattr(model.engine._decoder, "step", lambda *_, **__: still.wait(20))
        work = asyncio.create_task(model.engine.run(asking.generate("hello"), None, CALLER))
        try:
            await asyncio.to_thread(running.eventually, lambda: model.engine._batcher._rows, "it is at the call that stands still")
            found.check_moves()
            monkeypatch.setattr(lifecycle, "STUCK_S", 0.0)
            with pytest.raises(lifecycle.Stuck, match="does nothing"):
                found.check_moves()
        finally:
            still.set()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    found.check_moves()
