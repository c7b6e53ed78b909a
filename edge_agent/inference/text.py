"""Text to tokens and back. The door to tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from edge_agent.inference.manifest import BadFolder


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

    def encode_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """For each pair of texts its ids, and 0 or 1 for the text that each is of."""
        return [(encoding.ids, encoding.type_ids) for encoding in self._tokenizer.encode_batch(list(pairs))]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids, and where in the text each one stands: (0, 0) for those that are not of the text."""
        encoding = self._tokenizer.encode(text)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def text_of(self, token: int) -> str:
        """One token by itself; special ones too. Half a character is the replacement character."""
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text

    @property
    def size(self) -> int:
        """Tokens of the vocabulary, special ones too."""
        size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        return size

    def stream(self) -> Callable[[int], str]:
        """Tokens to text as they come: gives what each one adds, or nothing while a character is incomplete."""
        decode = DecodeStream(skip_special_tokens=True)

        def step(token: int) -> str:
            nonlocal decode
            try:
                return decode.step(self._tokenizer, token) or ""
            except Exception:
                # The library gives up where what follows changes the text before it: it begins anew with this token.
                decode = DecodeStream(skip_special_tokens=True)
                return decode.step(self._tokenizer, token) or ""

        return step


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
