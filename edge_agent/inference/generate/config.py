"""What a decoder's folder says of it: genai's configuration or Hugging Face's, read with an allow-list of keys.

Neither file is ever handed to a library: other keys of genai_config.json load code (`custom_ops_library`) and write files
(`enable_profiling`). Keys that are not named here are ignored; those two are refused, since nobody means them well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic

from edge_agent.inference.manifest import BadFolder, parsed

MAX_CONFIG = 1024 * 1024
HOSTILE = ("custom_ops_library", "enable_profiling")
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Ids = int | list[int] | None


class _GenaiDecoder(pydantic.BaseModel):
    filename: FileName
    head_size: int = pydantic.Field(ge=1, le=4096)


class _GenaiModel(pydantic.BaseModel):
    decoder: _GenaiDecoder
    context_length: int = pydantic.Field(ge=1)
    eos_token_id: Ids = None


class _Genai(pydantic.BaseModel):
    model: _GenaiModel


class _HuggingFace(pydantic.BaseModel):
    max_position_embeddings: int = pydantic.Field(ge=1)
    eos_token_id: Ids = None


class _Generation(pydantic.BaseModel):
    eos_token_id: Ids = None


@dataclass(frozen=True, slots=True)
class Config:
    """A decoder's file, its context in tokens, the tokens that end an answer, and the width of a head where the file leaves it
    open."""

    filename: str
    context: int
    ends: frozenset[int]
    head_width: int | None


def read(folder: Path) -> Config:
    """The configuration in a model folder. Raises BadFolder."""
    genai = folder / "genai_config.json"
    if genai.is_file():
        found = parsed(genai, _Genai, most=MAX_CONFIG).model
        return Config(found.decoder.filename, found.context_length, _ids(found.eos_token_id), found.decoder.head_size)
    plain = folder / "config.json"
    if not plain.is_file():
        raise BadFolder(
            f"{folder} has neither genai_config.json nor config.json: build it with onnxruntime-genai's builder, or export it "
            f"from Hugging Face."
        )
    told = parsed(plain, _HuggingFace, most=MAX_CONFIG)
    generation = folder / "generation_config.json"
    ends = _ids(told.eos_token_id) | (
        _ids(parsed(generation, _Generation, most=MAX_CONFIG).eos_token_id) if generation.is_file() else frozenset()
    )
    return Config("model.onnx", told.max_position_embeddings, ends, None)


def refuse_hostile(folder: Path) -> None:
    """Returns where no configuration file of the folder wants code loaded or files written. Raises BadFolder naming the key."""
    for path in folder.glob("*.json"):
        if path.stat().st_size > MAX_CONFIG and path.name != "genai_config.json":
            continue  # vocabularies
        text = path.read_text("utf-8", "replace")
        for key in HOSTILE:
            if f'"{key}"' in text:
                raise BadFolder(f"{path} has the key '{key}', which can run code or write files: such a folder is not taken.")


def _ids(value: Ids) -> frozenset[int]:
    return frozenset() if value is None else frozenset([value] if isinstance(value, int) else value)
