"""What a model folder says of itself: task, files with their digests, and how to use it. Pure but for `build` and `check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pydantic

from sync.crypto import digest
from sync.kit import errors, files

NAME = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_MANIFEST = 256 * 1024
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
M = TypeVar("M", bound=pydantic.BaseModel)
Task = Literal["generate", "embed", "classify", "rerank", "tensors"]


class BadFolder(errors.Misconfigured):
    """The folder is no model, or not the one that its manifest says."""

    code = "bad_model_folder"


class Noop(pydantic.BaseModel):
    """How the engine that computes nothing answers: so many words, so far apart; or the last message again, in capital letters."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    words: int = pydantic.Field(1, ge=1, le=100_000)
    every_ms: float = pydantic.Field(0, ge=0, le=60_000)
    echo: bool = False


class Upstream(pydantic.BaseModel):
    """An OpenAI-compatible server that does the work. Its key is in a file or an environment variable of the agent, never here."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    url: str = pydantic.Field("", pattern=r"^(https?://[^\s/@]+(/[^\s?#]*)?)?$", max_length=500)
    """Up to and including /v1."""
    model: str = pydantic.Field("", max_length=200)
    """What the server calls the model; empty: the same."""
    api_key_env: str = pydantic.Field("", pattern=r"^([A-Z_][A-Z0-9_]{0,99})?$")
    timeout_s: float = pydantic.Field(120, gt=0, le=3600)
    """Seconds without a byte."""


class Manifest(pydantic.BaseModel):
    """manifest.json. Every file that is used is named here with its SHA-256."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: FileName
    version: FileName
    task: Task
    backend: Literal["onnx", "noop", "upstream"] = "onnx"
    noop: Noop = Noop()
    upstream: Upstream = Upstream()
    files: dict[FileName, Sha256]
    licence: str = ""
    about: str = ""
    source: str = ""
    """Where it came from: hf:… with its revision, or the file that was added."""

    max_tokens: int = pydantic.Field(512, ge=1, le=10_000_000)
    """The most tokens of a text, for encoders: what is over is cut, and said to be."""
    pooling: Literal["mean", "cls", "last"] = "mean"
    normalise: bool = True
    """Whether vectors are of length 1."""
    labels: list[str] = []
    scores: Literal["softmax", "sigmoid"] = "softmax"
    """How logits become chances: softmax where one label holds, sigmoid where several may."""
    temperature: float | None = pydantic.Field(None, ge=0, le=2)
    """What a request that names no temperature gets."""

    rows: int = pydantic.Field(16, ge=1, le=256)
    """Answers that are made at a time."""
    prefill_tokens: int = pydantic.Field(256, ge=8, le=8192)
    """Prompt tokens that are computed at a time where nobody waits for tokens; fewer where somebody does."""
    queue: int = pydantic.Field(256, ge=1, le=100_000)
    """Requests that may wait."""
    queue_s: float = pydantic.Field(60, gt=0, le=3600)
    """Seconds that one may wait."""
    wait_ms: float = pydantic.Field(0, ge=0, le=2)
    """Milliseconds that an encoder waits for a second text to come."""
    threads: int | None = pydantic.Field(None, ge=1, le=1024)
    spinning: bool | None = None
    """Whether waiting threads burn a core; unset: only where no other model was loaded before this one."""
    providers: list[str] = []
    """onnxruntime's execution providers in the order of preference; empty: as the agent's settings say."""

    @property
    def digest(self) -> str:
        """One digest for all the files: it changes when any of them does."""
        told = json.dumps(sorted(self.files.items())).encode()
        return digest.of("model", told).hex()


def read(folder: Path) -> Manifest:
    """The manifest in a folder. Raises BadFolder."""
    if not (folder / NAME).is_file():
        raise BadFolder(f"{folder} has no readable {NAME}: 'ringfence-agent models add' makes one.")
    return parsed(folder / NAME, Manifest, most=MAX_MANIFEST)


def parsed(path: Path, kind: type[M], *, most: int) -> M:
    """A JSON file of at most so many bytes, checked. Raises BadFolder naming what is wrong in it."""
    try:
        if path.stat().st_size > most:
            raise BadFolder(f"{path} is over {most} bytes.")
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadFolder(f"{path} cannot be read ({error.strerror}).") from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadFolder(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def check(folder: Path, manifest: Manifest) -> None:
    """Returns where every file is there and is the one that the manifest names, and there is no other. Raises BadFolder."""
    # A template or a configuration that was laid beside the others would be read like them.
    named = {*manifest.files, NAME, SIGNATURE}
    other = next((path for path in folder.iterdir() if path.name not in named and not path.name.startswith(".")), None)
    if other is not None:
        raise BadFolder(f"{other} is not named in the model's manifest: take it away, or add the model again with it.")
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise BadFolder(f"{path} is missing, or not a plain file: the model's manifest names it.")
        if digest.file_sha256(str(path)) != expected:
            raise BadFolder(f"{path} is not the file that the model's manifest names: its SHA-256 differs.")


def build(folder: Path, **fields: object) -> Manifest:
    """Writes a manifest over all the plain files of a folder; `fields` are the manifest's own. Raises BadFolder."""
    names = sorted(
        path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink() and path.name not in (NAME, SIGNATURE)
    )
    try:
        manifest = Manifest.model_validate(
            {**fields, "files": {name: digest.file_sha256(str(folder / name)) for name in names if not name.startswith(".")}}
        )
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadFolder(f"{folder}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    files.write_atomically(folder / NAME, manifest.model_dump_json(indent=1, exclude_defaults=True).encode() + b"\n")
    return manifest
