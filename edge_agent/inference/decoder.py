"""A decoder model on disk and in memory: what its configuration says, and steps over one key-value cache.

The folder is one of onnxruntime-genai's builder, or alike: genai_config.json is read here with an allow-list of its keys and never
handed to a library, since other keys of it can load code and write files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydantic

from classifiers.onnx.session import Array, Binding, Session, Stop
from edge_agent.inference.manifest import BadFolder

MAX_CONTEXT = 32_768
"""Tokens of one request's cache, whatever the model could take: it is memory that is really used."""
PREFILL_CHUNK = 256
"""Prompt tokens computed at a time: between two chunks a cancel is heeded."""


class _Decoder(pydantic.BaseModel):
    filename: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    num_hidden_layers: int = pydantic.Field(ge=1, le=1000)
    num_key_value_heads: int = pydantic.Field(ge=1, le=1000)
    head_size: int = pydantic.Field(ge=1, le=4096)


class _Model(pydantic.BaseModel):
    decoder: _Decoder
    context_length: int = pydantic.Field(ge=1)
    eos_token_id: int | list[int] = []


class Config(pydantic.BaseModel):
    """The keys of genai_config.json that are used. All others are ignored."""

    model: _Model

    @property
    def ends(self) -> frozenset[int]:
        ends = self.model.eos_token_id
        return frozenset([ends] if isinstance(ends, int) else ends)

    @property
    def context(self) -> int:
        return min(self.model.context_length, MAX_CONTEXT)


def read_config(folder: Path) -> Config:
    """The configuration in a model folder. Raises BadFolder."""
    path = folder / "genai_config.json"
    try:
        return Config.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadFolder(f"{folder} has no genai_config.json: build the folder with onnxruntime-genai's builder.") from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadFolder(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


class Sequence:
    """One sequence of tokens with its key-value cache, which is bound in place as past and present."""

    def __init__(self, session: Session, config: Config, capacity: int) -> None:
        decoder = config.model.decoder
        shape = (1, decoder.num_key_value_heads, capacity, decoder.head_size)
        state = {
            (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}"): np.zeros(shape, dtype=np.float32)
            for layer in range(decoder.num_hidden_layers)
            for part in ("key", "value")
        }
        missing = [name for names in state for name in names if name not in (*session.inputs, *session.outputs)]
        if missing:
            raise BadFolder(f"The model has no {missing[0]}: it was not built with a shared key-value cache.")
        self._binding: Binding = session.bind(state)
        self._positions = "position_ids" in session.inputs
        self.capacity = capacity
        self.length = 0

    def reset(self) -> None:
        self.length = 0

    def extend(self, ids: list[int], stop: Stop) -> Array:
        """The logits [vocabulary] after these tokens. Raises Cancelled."""
        logits: Array = np.empty(0)
        for first in range(0, len(ids), PREFILL_CHUNK):
            piece = ids[first : first + PREFILL_CHUNK]
            begin, self.length = self.length, self.length + len(piece)
            feeds = {
                "input_ids": np.array([piece], dtype=np.int64),
                "attention_mask": np.ones((1, self.length), dtype=np.int64),
            }
            if self._positions:
                feeds["position_ids"] = np.arange(begin, self.length, dtype=np.int64)[None]
            logits = self._binding.run(feeds, "logits", stop)
        return np.asarray(logits[0, -1])
