"""Every command of the README, read from the README and run."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli as agent_cli
from orchestrator import cli as hub_cli
from tests.support import running as support
from tests.support import system

README = (support.ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip() for language, block in BLOCKS if language == "sh" for line in block.splitlines() if line.strip()
]


def _is_ours(path: Path) -> bool:
    return not any(part.startswith(".") or part == "CHANGELOG.md" for part in path.relative_to(support.ROOT).parts)


BY_CI = {"make demo", "make test"}
NEEDS_TORCH = {"python -m onnxruntime_genai.models.builder -i HF_FOLDER -o built -p int4 -e cpu -c cache"}
"""guide itself was made by this command: packaging/models/build.sh runs it."""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with what the README's lines name, and an environment with free ports."""
    shutil.copy(support.ROOT / "packaging/demo/tenants.yaml", tmp_path)
    shutil.copytree(support.BUILT, tmp_path / "packaging/models/repository")
    shutil.copytree(support.BUILT / "guide" / "1", tmp_path / "built")
    (tmp_path / "built" / "manifest.json").unlink()
    (tmp_path / "letter.txt").write_text("Dear Anna, your card 4111 1111 1111 1111 was declined.")
    (tmp_path / "prompts.jsonl").write_text('{"id": 1, "text": "ask anna@bank.test"}')
    yield tmp_path, {"RINGFENCE_HTTP_PORT": str(system.free_port()), "RINGFENCE_NATS_PORT": str(system.free_port())}


def test_the_commands_of_the_readme_work_in_their_order(desk: tuple[Path, dict[str, str]]) -> None:
    folder, environment = desk
    left = {command for command in COMMANDS if command.startswith("ringfence")}
    services: list[subprocess.Popen[bytes]] = []

    def take(beginning: str) -> list[str]:
        (command,) = [c for c in left if c.startswith(beginning)]
        left.remove(command)
        return shlex.split(command)

    def run(beginning: str) -> str:
        done = support.command(*take(beginning), cwd=folder, **environment)
        assert done.returncode == 0, (beginning, done.stdout, done.stderr)
        return done.stdout

    def serve(beginning: str) -> None:
        script, *rest = take(beginning)
        with (folder / f"{script}.log").open("wb") as output:
            path = {"PATH": f"{support.SCRIPTS}:/usr/bin:/bin", "HOME": str(folder), **environment}
            services.append(subprocess.Popen([support.SCRIPTS / script, *rest], cwd=folder, env=path, stdout=output, stderr=output))

    try:
        assert "2 tenants" in run("ringfence apply")
        assert "rf_live_" in run("ringfence keys create")
        assert "restricted" in run("ringfence explain")
        assert "restricted" in run("ringfence classify --explain")
        assert json.loads(run("ringfence classify --jsonl"))["level"] == "internal"
        serve("ringfence serve")
        support.eventually((folder / "ringfence-state/hub-address.json").exists, "the hub is up")
        assert "ringfence-agent enrol --hub https://127.0.0.1:" in run("ringfence agents invite")
        assert "fingerprint" in run("ringfence-agent enrol --request")
        assert "is admitted as" in run("ringfence agents approve")
        assert "This is 'branch-1' now" in run("ringfence-agent enrol --response")
        assert "is added" in run("ringfence-agent models add built")
        assert "Published: guide" in run("ringfence models publish")
        assert "is added" in run("ringfence-agent models add rf:guide")
        assert "a second in 4 streams" in run("ringfence-agent models bench")
        assert "signed by the hub" in run("ringfence-agent models list")
        serve("ringfence-agent run")
        status = folder / "ringfence-agent-state/status.json"
        support.eventually(lambda: status.exists() and json.loads(status.read_text())["bundle_serial"], "the agent has a bundle")
        assert "branch-1" in run("ringfence-agent status")
        assert "intact" in run("ringfence-agent journal verify")
        support.eventually(
            lambda: "intact" in support.command("ringfence", "audit", "verify", cwd=folder, **environment).stdout,
            "there is a ledger",
        )
        assert "intact" in run("ringfence audit verify")
        assert "all chained and signed" in run("ringfence doctor")
        assert "all chained and signed" in run("ringfence-agent doctor")
    finally:
        for service in reversed(services):
            service.terminate()
            service.wait(30)
    assert not left, "the README has commands that no test runs"


def test_the_readme_has_no_command_that_nobody_runs() -> None:
    others = {c for c in COMMANDS if not c.startswith("ringfence")}
    assert others == BY_CI | NEEDS_TORCH
    run = (support.ROOT / ".ci/run").read_text()
    assert "make demo" in run and "make test" in run


@pytest.mark.parametrize(
    "page", sorted(str(path.relative_to(support.ROOT)) for path in support.ROOT.glob("**/*.md") if _is_ours(path))
)
def test_every_command_of_the_pages_exists_with_its_options(page: str) -> None:
    commands = {"ringfence": hub_cli.cli, "ringfence-agent": agent_cli.cli}
    for language, block in re.findall(r"```(\w*)\n(.*?)```", (support.ROOT / page).read_text(), re.DOTALL):
        for line in block.splitlines() if language == "sh" else ():
            words = shlex.split(line, comments=True)
            while words and "=" in words[0]:
                words.pop(0)
            if words and words[0] in commands:
                _check_command(commands[words[0]], words[1:], line)


def _check_command(command: Any, words: list[str], line: str) -> None:
    """Returns where there is such a command with such options."""
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, line
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        assert not word.startswith("-") or word == "-" or word.split("=")[0] in known, line


def test_the_python_of_the_readme_works(running: system.System, tmp_path: Path) -> None:
    (code,) = [block for language, block in BLOCKS if language == "python"]
    script = tmp_path / "readme.py"
    script.write_text(code)
    path = {"RINGFENCE_URL": running.url, "RINGFENCE_API_KEY": running.api_key, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([support.SCRIPTS / "python", script], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("restricted frankfurt-onprem\n")


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (support.ROOT / target).exists(), target


def test_the_demonstration_leaves_its_address_and_ends_on_a_signal(tmp_path: Path) -> None:
    """Without --once it stays up, writes its exports, and ends everything on SIGTERM."""
    with (tmp_path / "out").open("wb") as output:
        demo = subprocess.Popen(
            [support.SCRIPTS / "python", support.ROOT / "packaging/demo/demo.py", "--state", tmp_path / "demo"],
            stdout=output,
            stderr=output,
        )
    exports = tmp_path / "demo/env"
    try:
        support.eventually(lambda: exports.exists() and "RINGFENCE_ADMIN_KEY" in exports.read_text(), "the exports are written")
        assert exports.stat().st_mode & 0o077 == 0
        told = dict(line.removeprefix("export ").split("=", 1) for line in exports.read_text().splitlines())
        assert asyncio.run(_status(told["RINGFENCE_URL"], told["RINGFENCE_API_KEY"])) == 200
    finally:
        demo.terminate()
        demo.wait(60)
    assert "curl" in (tmp_path / "out").read_text()
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "demo")], capture_output=True, text=True, check=False).stdout
    assert left == "", "processes are left"


async def _status(url: str, key: str) -> int:
    import aiohttp

    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}) as response,
    ):
        return response.status
