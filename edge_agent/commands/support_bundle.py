"""ringfence-agent support-bundle: what helps a stranger to help, and nothing that is anybody's secret.

Invariant, with a test of its words:
- only what is named here goes in: no prompt, answer, key, password, name of a person or tenant can, whatever the files hold.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import platform
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from edge_agent import settings
from edge_agent.agent import FAULTS
from edge_agent.commands import diagnosis
from edge_agent.commands.session import State, out
from edge_agent.identity import identity
from edge_agent.settings import Settings
from sync.kit import errors, faults, files
from sync.kit.faults import Fault
from sync.terminal import checkup, commands

STATUS = (
    "pid", "at", "mode", "since", "linked", "hub_heard_s", "bundle_serial", "running", "journal_records", "journal_waiting",
    "journal_proved", "journal_mib", "journal_cap_mib",
)  # fmt: skip
MODEL = ("version", "task", "state", "running", "mib", "kv_mib", "providers", "standing")
SETTINGS = (
    "threads", "kv_mib", "models_mib", "worker_mib", "providers", "provider_fallback", "http_port", "cache_mib", "journal_mib",
    "backlog_kib_s", "backlog_hours", "log_level",
)  # fmt: skip
LOG = ("timestamp", "level", "component", "event", "code", "error", "mode", "was", "now", "serial", "status")
"""Keys of log lines. Their values go in only where they are numbers or short words without spaces."""
LOG_LINES = 2000
MAX_LOG = 64 * 1024 * 1024
Log = Annotated[
    Path | None, typer.Option("--log", help="The agent's log: journalctl -u ringfence-agent -o cat > FILE.", show_default=False)
]


def support_bundle(
    to: Annotated[Path, typer.Option("--to", "-o", help="The .tar.gz to write.")], log: Log = None, state: State = None
) -> None:
    """Writes a file for whoever helps: versions, settings, states and counts. No prompt, key, password or tenant is in it."""
    chosen = settings.read(state=state)
    parts = {
        "machine.json": _machine(), "settings.json": _allowed(chosen.model_dump(mode="json"), SETTINGS),
        "status.json": _status(chosen.state / "status.json"), "doctor.json": _doctor(chosen), "faults.json": _faults(chosen),
    }  # fmt: skip
    data = {name: json.dumps(told, indent=1).encode() for name, told in parts.items()}
    if log is not None:
        data["log.jsonl"] = b"".join(json.dumps(line).encode() + b"\n" for line in _log_lines(log))
    files.write_atomically(to, _tar(data), mode=files.PRIVATE)
    out.print(f"{to} has {', '.join(data)}. Look into it before you send it: tar xzf {to.name}", highlight=False)


def _allowed(told: Mapping[str, object], names: Iterable[str]) -> dict[str, object]:
    return {name: told[name] for name in names if name in told}


def _machine() -> dict[str, object]:
    libraries = ("ringfence", "onnxruntime", "nats-py", "aiohttp", "uvloop", "cryptography", "numpy", "tokenizers")
    return {
        "python": sys.version, "system": platform.platform(), "cores": os.cpu_count(), "at": time.time(),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
    }  # fmt: skip


def _status(path: Path) -> dict[str, object]:
    try:
        told = json.loads(path.read_text())
        models = [_allowed(model, MODEL) for model in told.get("repository", [])]
        return {**_allowed(told, STATUS), "models": models, "mistakes": len(told.get("mistakes", []))}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _doctor(chosen: Settings) -> list[dict[str, str]]:
    """What was looked at and how it is; not what was found, which may name a tenant or quote a message."""
    lines = list(checkup.disk(chosen.state))
    try:
        lines += diagnosis.lines(chosen, identity.load(chosen.state, chosen.keyring))
    except errors.RingfenceError as error:
        return [{"what": "identity", "state": error.code}]
    return [
        {"what": line.what.split(" for ")[0], "state": line.state.value} for line in lines if not line.what.startswith("fault ")
    ]


def _faults(chosen: Settings) -> dict[str, object]:
    known = set(Fault)
    noted = faults.read(chosen.state / FAULTS)
    return {name: {"count": fault.count, "last": fault.last} for name, fault in noted.items() if name in known}


def _log_lines(path: Path) -> list[dict[str, object]]:
    if path.exists() and path.stat().st_size > MAX_LOG:
        raise errors.Misconfigured(
            f"{path} is over {MAX_LOG >> 20} MiB: give a part of it, as by journalctl --since.", code="too_large"
        )
    found = []
    for line in commands.read_file(path).splitlines()[-LOG_LINES:]:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            found.append({name: value for name, value in _allowed(told, LOG).items() if _is_plain(value)})
    return found


def _is_plain(value: object) -> bool:
    """A number, a truth, or one short word: no sentence, and so nothing that was quoted."""
    return isinstance(value, (bool, int, float)) or (
        isinstance(value, str) and len(value) <= 40 and not set(value) & set(" \t\n@=")
    )


def _tar(data: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, part in data.items():
            entry = tarfile.TarInfo(f"ringfence-support/{name}")
            entry.size, entry.mtime = len(part), int(time.time())
            tar.addfile(entry, io.BytesIO(part))
    return file.getvalue()
