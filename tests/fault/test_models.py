"""Faults of the model repository: a command that is killed at any moment, and models that die under load, by real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import openai
import pytest

from edge_agent.inference.repository import adding
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.trust import Standing
from tests.support import modelling, running, system
from tests.support.modelling import DECODERS


@pytest.mark.parametrize("after_s", [0.2, 0.6, 0.9, 1.1, 1.3, 1.6])
def test_a_command_that_is_killed_leaves_a_whole_version_or_none(tmp_path: Path, after_s: float) -> None:
    """Whenever it is killed, and it is not said when: afterwards the same command works, or says that the version is there."""
    command = [
        running.SCRIPTS / "ringfence-agent",
        "models",
        "add",
        DECODERS / "llama-plain",
        "--name",
        "m",
        "--version",
        "1",
        "--trust",
    ]
    environment = {
        **os.environ,
        "RINGFENCE_AGENT_MODELS": str(tmp_path / "models"),
        "RINGFENCE_AGENT_STATE": str(tmp_path / "state"),
    }
    with subprocess.Popen(
        list(map(str, command)), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            process.kill()
    folder = ModelsFolder(tmp_path / "models")
    if (tmp_path / "models/m/1").exists():
        assert adding.verify(folder.find("m", "1"), None) is Standing.TRUSTED
    else:
        done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert adding.verify(folder.find("m", "1"), None) is Standing.TRUSTED


def test_a_model_that_dies_under_load_is_told_and_comes_back_and_the_others_serve_on(tmp_path: Path) -> None:
    """An unsigned model's process is killed in the middle of a stream; the agent, its other models and its journal go on."""
    repository = running.models(tmp_path / "models")
    place = system.Place("frankfurt-onprem", "on_premise", "frankfurt", api=True)
    made = asyncio.run(running.start(tmp_path, place, models_folder=repository))
    try:
        modelling.add(made.models, DECODERS / "llama-int4", name="endless", signed=False)
        status = made.agent(place.name) / "status.json"
        running.eventually(lambda: any(m["name"] == "endless" for m in json.loads(status.read_text())["repository"]), "it is seen")
        url = running.eventually(lambda: json.loads(status.read_text()).get("url"), "the API is up")
        with openai.OpenAI(base_url=f"{url}/v1", api_key=made.api_key, max_retries=0) as app:
            say = {"model": "open", "messages": [{"role": "user", "content": "go"}], "logit_bias": {"2": -100}, "max_tokens": 256}
            stream = iter(app.chat.completions.create(**say, stream=True))
            next(stream)
            for worker in _workers(made.processes[place.name].pid):
                os.kill(worker, 9)
            with pytest.raises(openai.APIError) as told:
                list(stream)
            assert "ended" in str(told.value)
            assert app.chat.completions.create(model="guide", messages=[{"role": "user", "content": "What is a zone?"}])
            assert app.chat.completions.create(**{**say, "max_tokens": 5}).usage.completion_tokens == 5
        workers = _workers(made.processes[place.name].pid)
        assert workers
        made.stop(place.name, signal.SIGKILL)
        running.eventually(lambda: not any(_lives(worker) for worker in workers), "the worker ends with its agent")
    finally:
        made.stop_all()


def _lives(process: int) -> bool:
    """Whether it runs: one that ended and is not yet reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _workers(agent: int) -> list[int]:
    """The processes that an agent has started."""
    return [int(pid) for task in Path(f"/proc/{agent}/task").iterdir() for pid in (task / "children").read_text().split()]
