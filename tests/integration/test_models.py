"""The models commands as an administrator uses them: from a folder, a tar file, a Hugging Face hub on loopback, and the agent's own hub."""

from __future__ import annotations

import asyncio
import json
import shutil
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest
from aiohttp import web

from tests.support import modelling, running, system
from tests.support.modelling import DECODERS
from tests.support.running import command

LLAMA = DECODERS / "llama-int4"
SHA = "1234567890abcdef1234567890abcdef12345678"


def models(folder: Path, *arguments: object, **environment: str):
    environment.setdefault("RINGFENCE_AGENT_STATE", str(folder / "no-state"))
    return command("ringfence-agent", "models", *arguments, "--models", folder / "models", cwd=folder, **environment)


def test_a_model_is_added_looked_at_pinned_changed_and_removed(tmp_path: Path) -> None:
    refused = models(tmp_path, "add", LLAMA, "--name", "m")
    assert refused.returncode == 2 and "--trust" in refused.stderr and "Traceback" not in refused.stderr
    for _ in range(2):
        assert models(tmp_path, "add", LLAMA, "--name", "m", "--trust").returncode == 0
    told = json.loads(models(tmp_path, "list", "--json").stdout)
    assert told == {
        "models": [{"name": "m", "version": "2", "task": "generate", "standing": "trusted here", "pinned": False}],
        "mistakes": [],
    }
    assert "is version 1 from now on" in models(tmp_path, "use", "m", "1").stdout
    assert "version 2 again" in models(tmp_path, "rollback", "m").stdout
    assert models(tmp_path, "pin", "m").returncode == 0
    shown = json.loads(models(tmp_path, "show", "m").stdout)
    assert shown["pinned"] and shown["versions"] == ["2", "1"] and len(shown["files"]) == 6
    assert models(tmp_path, "remove", "m").returncode == 2
    assert "2 intact" in models(tmp_path, "verify").stdout.replace("m 2: intact", "2 intact")
    (tmp_path / "models/m/1/model.onnx.data").write_bytes(b"x")
    broken = models(tmp_path, "verify", "m")
    assert broken.returncode == 1 and "SHA-256 differs" in broken.stdout
    for arguments in (("unpin", "m"), ("remove", "m", "1"), ("remove", "m")):
        assert models(tmp_path, *arguments).returncode == 0
    for arguments in (
        ("show", "m"),
        ("use", "m", "1"),
        ("rollback", "m"),
        ("pin", "m"),
        ("bench", "m"),
        ("add", "nowhere", "--trust"),
    ):
        missing = models(tmp_path, *arguments)
        assert missing.returncode == 2 and "Traceback" not in missing.stderr, (arguments, missing)


def test_a_tar_file_is_taken_and_its_speed_measured(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar", "w") as tar:
        tar.add(LLAMA, "llama")
    assert "'model', version 1" in models(tmp_path, "add", tmp_path / "model.tar", "--trust").stdout
    measured = models(tmp_path, "bench", "model", "--streams", 2, "--tokens", 8)
    assert measured.returncode == 0, measured.stderr
    assert "first token" in measured.stdout and "a second in 2 streams" in measured.stdout
    assert not list((tmp_path / "models/.incoming").iterdir())


@dataclass
class FakeHub:
    """The few endpoints of a Hugging Face hub that a download asks, over a folder. Cuts the first `cuts` large answers in their middle."""

    folder: Path
    url: str = ""
    cuts: int = 0
    ranges: list[str] = field(default_factory=list)

    async def info(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != "tiny":
            return web.json_response({"error": "not found"}, status=404, headers={"x-error-code": "RepoNotFound"})
        files = [
            {"rfilename": str(p.relative_to(self.folder)), "size": p.stat().st_size} for p in self.folder.rglob("*") if p.is_file()
        ]
        return web.json_response({"id": "acme/tiny", "sha": SHA, "siblings": files})

    async def file(self, request: web.Request) -> web.StreamResponse:
        path = self.folder / request.match_info["path"]
        data, begin = path.read_bytes(), 0
        if wanted := request.headers.get("range"):
            self.ranges.append(wanted)
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
        headers = {
            "etag": f'"{path.name}-{len(data)}"',
            "x-repo-commit": SHA,
            "content-length": str(len(data) - begin),
            "accept-ranges": "bytes",
        }
        if begin:
            headers["content-range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if self.cuts and len(data) > 900_000:
            self.cuts -= 1
            await response.write(data[begin : begin + 700_000])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(data[begin:])
        return response


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[FakeHub]:
    folder = tmp_path / "hub"
    shutil.copytree(DECODERS / "llama-plain", folder / "onnx")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.move(folder / "onnx" / name, folder / name)
    (folder / "vocab.json").write_bytes(b"{}" + b" " * 1_000_000)
    (folder / "pytorch_model.bin").write_bytes(b"not wanted")
    (folder / "run.py").write_text("print('not wanted')")
    made = FakeHub(folder)
    application = web.Application()
    application.add_routes([
        web.get("/api/models/acme/{name}", made.info), web.get("/api/models/acme/{name}/revision/{revision}", made.info),
        web.get("/acme/tiny/resolve/{revision}/{path:.+}", made.file),
    ])  # fmt: skip
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def fetched(tmp_path: Path, hub: FakeHub, source: str, *more: object):
    return await asyncio.to_thread(models, tmp_path, "add", source, *more, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))


async def test_a_model_of_a_hugging_face_hub_is_fetched_and_a_cut_fetch_goes_on(tmp_path: Path, hub: FakeHub) -> None:
    refused = await fetched(tmp_path, hub, "hf:acme/tiny")
    assert refused.returncode == 2 and "--trust" in refused.stderr
    hub.cuts = 1
    cut = await fetched(tmp_path, hub, "hf:acme/tiny", "--trust")
    if cut.returncode:
        assert "goes on from there" in cut.stderr and "Traceback" not in cut.stderr
        hub.cuts = 0
        cut = await fetched(tmp_path, hub, "hf:acme/tiny", "--trust")
    assert cut.returncode == 0, cut.stderr
    assert any(not wanted.startswith("bytes=0") for wanted in hub.ranges), "it went on where it was cut"
    manifest = json.loads((tmp_path / "models/tiny/1/manifest.json").read_text())
    assert manifest["source"] == f"hf:acme/tiny@{SHA}" and manifest["task"] == "generate"
    assert not {"run.py", "pytorch_model.bin"} & {path.name for path in (tmp_path / "models/tiny/1").iterdir()}
    assert "first token" in models(tmp_path, "bench", "tiny", "--tokens", 4).stdout


WRONG = {
    "a repository that is not there": ("hf:acme/absent", "no repository"),
    "no repository at all": ("hf:../../etc", "no repository"),
    "a folder without a model": ("hf:acme/tiny", "no ONNX file"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_cannot_be_fetched_is_said(tmp_path: Path, hub: FakeHub, name: str) -> None:
    source, words = WRONG[name]
    more = ("--subfolder", "fp16") if "without" in name else ()
    failed = await fetched(tmp_path, hub, source, "--trust", *more)
    assert failed.returncode == 2 and words in failed.stderr and "Traceback" not in failed.stderr, failed.stderr


async def test_the_hub_publishes_a_model_and_a_running_agent_serves_it(tmp_path: Path) -> None:
    """Published at the hub, taken by the agent in pieces after a cut, served without a restart, and swapped for the next version."""
    folder = running.models(tmp_path / "models")
    made = await running.start(tmp_path, running.ONPREM, models_folder=folder)
    try:
        agent = {"RINGFENCE_AGENT_STATE": str(made.agent("frankfurt-onprem"))}
        sources = {}
        for version, decoder in (("1", "llama-int4"), ("2", "qwen3-int4")):
            sources[version] = modelling.copied(
                tmp_path / "source", DECODERS / decoder, name="endless", version=version, temperature=0.0
            )
        at_hub = {"RINGFENCE_STATE": str(made.hub)}

        async def published(version: str) -> None:
            done = await asyncio.to_thread(command, "ringfence", "models", "publish", sources[version], cwd=tmp_path, **at_hub)
            assert done.returncode == 0, done.stderr

        async def taken(*arguments: object, code: int = 0):
            done = await asyncio.to_thread(
                command, "ringfence-agent", "models", *arguments, "--models", made.models, cwd=tmp_path, **agent
            )
            assert done.returncode == code, done.stderr
            return done

        assert "has no model 'endless'" in (await taken("add", "rf:endless", code=2)).stderr
        await published("1")
        await taken("add", "rf:endless")
        assert "signed by the hub" in (await taken("show", "endless")).stdout
        said = []
        for version in ("1", "2"):
            if version == "2":
                await published("2")
                await taken("pull", "endless")
            running.eventually(lambda v=version: _served(made, "endless") == v, f"version {version} is served")
            # The hub hears of a new model with the agent's next heartbeat.
            answer = await asyncio.to_thread(running.eventually, lambda: _answer(made), "the hub gives it work")
            said.append(answer)
        assert said[0] != said[1]
        await taken("rollback", "endless", code=2)
        await taken("use", "endless", "1")
        running.eventually(lambda: _served(made, "endless") == "1", "version 1 is served again")
    finally:
        made.stop_all()


def _answer(made: system.System) -> str:
    """What the model says through the hub, or nothing while it has no agent for it."""
    with running.client(made, made.api_key) as app:
        try:
            told = app.chat.completions.create(model="open", messages=[{"role": "user", "content": "hello"}], max_tokens=12)
        except openai.InternalServerError:
            return ""
    return told.choices[0].message.content or ""


def _served(made: system.System, name: str) -> str:
    """The version of a model that the agent has, by its status; loaded or not."""
    told = json.loads((made.agent("frankfurt-onprem") / "status.json").read_text())
    return next((entry["version"] for entry in told["repository"] if entry["name"] == name), "")
