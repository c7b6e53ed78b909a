"""A text as the model reads it: words, and for each word hashed features of its letters.

Words are runs of letters, digits and underscores, or single other signs. A word's features are its lower-case form, its
beginnings and ends, and trigrams of its middle, each hashed by CRC-32 into one table of rows ("hash embeddings", Bojanowski et al.
2017 and Svenstrup et al. 2017); no vocabulary is shipped, and unseen names share rows with names spelled alike. Its shape (case,
digits, what stood before it) is hashed into a second, small table.

Nothing is kept from one text to the next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from zlib import crc32

import numpy as np
import numpy.typing as npt

ROWS = 65_536
SHAPES = 1_024
HASHES = 12
"""Features a word."""
MAX_WORD_BYTES = 40
"""Bytes of a word that are looked at; the rest of a longer one says nothing about names."""

_WORD = re.compile(r"\w+|[^\w\s]")
_PACKED = np.dtype("<u2")

Words = list[tuple[int, int]]


def words(text: str, limit: int | None = None) -> Words:
    """Return the spans [start, end) of the text's first `limit` words, in characters."""
    return [match.span() for match in islice(_WORD.finditer(text), limit)]


def encode(text: str, spans: Sequence[tuple[int, int]]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """(hashes [words, HASHES], shapes [words]) of these words of the text."""
    known: dict[str, bytes] = {}
    packed = []
    shapes = []
    # Nothing stands before the first word: a window of a long text reads as a text of its own.
    previous = spans[0][0] if spans else 0
    for start, end in spans:
        word = text[start:end]
        features = known.get(word)
        if features is None:
            features = known[word] = _hashes(word)
        packed.append(features)
        shapes.append(_shape(word, text[previous:start]))
        previous = end
    hashes = np.frombuffer(b"".join(packed), dtype=_PACKED).reshape(-1, HASHES)
    return hashes.astype(np.uint16), np.array(shapes, dtype=np.uint16)


def _hashes(word: str) -> bytes:
    body = word.lower().encode("utf-8", "replace")[:MAX_WORD_BYTES]
    if body.isdigit():
        body = b"0" * min(len(body), 12) + b":" + (body if len(body) <= 4 else b"")
    marked = b"^" + body + b"$"
    last = max(1, len(marked) - 3)
    inner = (1, min(3, last), min(5, last), min(7, last))
    rows = (
        crc32(body, 1), crc32(marked[:3], 2), crc32(marked[:4], 2), crc32(marked[:5], 2),
        crc32(marked[-3:], 3), crc32(marked[-4:], 3), crc32(marked[-5:], 3), crc32(marked[-6:], 3),
        *(crc32(marked[at : at + 3], 4) for at in inner),
    )  # fmt: skip
    return b"".join((row % ROWS).to_bytes(2, "little") for row in rows)


def _shape(word: str, gap: str) -> int:
    """Case and kind of the word, its length where that tells, and what lay between it and the one before."""
    between = "" if not gap else "\n" if "\n" in gap else " "
    if word.isdigit():
        kind = f"d{min(len(word), 13)}"
    elif word.isalpha():
        case = "l" if word.islower() else "U" if word.isupper() and len(word) > 1 else "T" if word.istitle() else "M"
        kind = f"{case}{min(len(word), 4)}"
    elif len(word) == 1:
        kind = word
    else:
        kind = "".join(sorted({"9" if c.isdigit() else "_" if c == "_" else "A" if c.isupper() else "a" for c in word}))
    return crc32((between + kind).encode("utf-8", "replace")) % SHAPES
