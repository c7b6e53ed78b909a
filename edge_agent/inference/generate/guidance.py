"""Output held to a JSON schema: which tokens may come next. The door to llguidance."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import llguidance
import llguidance.numpy
import numpy as np

from classifiers.onnx.session import Array
from edge_agent.inference.port import BadPayload
from sync.wire import tasks

MAX_SCHEMA = 64 * 1024


class Guide:
    """Holds one answer to its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary: int) -> None:
        self._matcher = matcher
        self._bits = llguidance.numpy.allocate_token_bitmask(1, vocabulary)
        self._vocabulary = vocabulary

    def mask(self, logits: Array) -> None:
        """Takes every token that may not come next out of the logits [vocabulary], in place. Raises BadPayload where none may."""
        llguidance.numpy.fill_next_token_bitmask(self._matcher, self._bits)
        allowed = np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")[: self._vocabulary].astype(bool)
        if not allowed.any() or self._matcher.is_error():
            raise BadPayload("response_format: the model can say nothing that the schema allows.", code="schema_unsatisfiable")
        logits[: self._vocabulary][~allowed] = -np.inf
        logits[self._vocabulary :] = -np.inf

    def take(self, token: int) -> bool:
        """Notes the token that came; whether the answer is whole now, and nothing may follow."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())


class Grammars:
    """Grammars for one model's tokens. Its tables are made on first use: a vocabulary of 150,000 takes a second."""

    def __init__(self, tokenizer: Path, vocabulary: int, ends: frozenset[int]) -> None:
        self._path = tokenizer
        self._vocabulary = vocabulary
        self._ends = sorted(ends)
        self._lock = threading.Lock()
        self._tokenizer: llguidance.LLTokenizer | None = None

    def of_format(self, wanted: tasks.ResponseFormat | None) -> Guide | None:
        """Return the guide for a `response_format`, None where plain text is wanted.

        Raises BadPayload. Blocks: not for the event loop.
        """
        if wanted is None:
            return None
        if wanted.type is tasks.Format.JSON:
            return self._of_schema({"type": "object"})
        if wanted.json_schema is None:
            raise BadPayload("response_format: the type 'json_schema' needs json_schema.schema.")
        return self._of_schema(wanted.json_schema.schema)

    def _of_schema(self, schema: dict[str, object]) -> Guide:
        try:
            told = json.dumps(schema)
        except (TypeError, ValueError, RecursionError) as error:
            raise BadPayload("response_format: the schema is not JSON.", code="bad_schema") from error
        if len(told) > MAX_SCHEMA:
            raise BadPayload(f"response_format: the schema has {len(told)} characters; at most {MAX_SCHEMA} are taken.")
        try:
            # No free white space: a small model would fill its answer with it.
            grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
            matcher = llguidance.LLMatcher(self._tables(), grammar, log_level=0)
            failed = matcher.get_error()
        except (ValueError, RuntimeError) as error:
            failed = str(error)
        if failed:
            # The sentence is about the caller's own schema, and helps to mend it.
            raise BadPayload(f"response_format: the schema cannot be followed: {failed.splitlines()[0][:300]}", code="bad_schema")
        return Guide(matcher, self._vocabulary)

    def _tables(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._tokenizer is None:
                ends = self._ends or None
                self._tokenizer = llguidance.LLTokenizer(str(self._path), n_vocab=self._vocabulary, eos_token=ends)
            return self._tokenizer
