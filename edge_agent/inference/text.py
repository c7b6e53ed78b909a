"""Text to tokens and back. The door to tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from edge_agent.inference.manifest import BadFolder

_UNFINISHED = "\ufffd"


class Tokens:
    """A model's tokenizer."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise BadFolder(f"{path} is no tokenizer of the Hugging Face format.") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The ids; `special` adds the model's own begin and end."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


class Detokenizer:
    """Tokens to text as they come: never half a character. Decodes only what may still change."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._ids: list[int] = []
        self._done = 0
        self._read = 0

    def add(self, token: int) -> str:
        """What the token adds to the text, or nothing while a character is incomplete."""
        self._ids.append(token)
        before = self._tokens.decode(self._ids[self._done : self._read])
        after = self._tokens.decode(self._ids[self._done :])
        if len(after) <= len(before) or after.endswith(_UNFINISHED):
            return ""
        self._done, self._read = self._read, len(self._ids)
        return after[len(before) :]


class StopStrings:
    """Ends a text before the first of some strings, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.hit = False

    def add(self, piece: str) -> str:
        """What can go out now. After a hit nothing does."""
        if not self._stops:
            return piece
        self._held += piece
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.hit = True
            out, self._held = self._held[: min(found)], ""
            return out
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return out

    def rest(self) -> str:
        """What was held back and turned out to be no stop."""
        out, self._held = self._held, ""
        return out


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
