"""What was found, taken out of a text before it leaves, and put back into the answer.

Pseudonyms (`<PERSON_1>`) and surrogates (another, invented value of the same form and check digit) can be undone by the vault of
the request; masks, hashes and dropping cannot. The same value has the same name within a vault, which is a conversation's.

Invariants, each with a test of its words:
- what was redacted and restored is the original, over any chunking of the answer, whatever the case of a placeholder;
- a placeholder never stands in the original texts;
- a vault is not pickled, printed or logged: it does not leave the process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NoReturn

from classifiers import surrogates
from classifiers.verdict import Finding

MAX_TRIES = 50
KEPT = frozenset(
    {"quasi_identifier", "code", "health_term", "special_term", "phi_detail", "business", "security", "legal", "insider"}
)
"""Categories that are left in the text: they name nobody, and answers need them."""


class Mode(StrEnum):
    """How a finding is taken out."""

    PSEUDONYM = "pseudonym"
    SURROGATE = "surrogate"
    MASK = "mask"
    HASH = "hash"
    DROP = "drop"


REVERSIBLE = frozenset({Mode.PSEUDONYM, Mode.SURROGATE})


class Vault:
    """The names given in one conversation, both ways. `key`: for hashes, the tenant's; random where none is given."""

    def __init__(self, mode: Mode = Mode.PSEUDONYM, *, key: bytes | None = None) -> None:
        self.mode = mode
        self._key = key or secrets.token_bytes(32)
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._texts = ""

    def redact(self, texts: Sequence[str], findings: Iterable[Finding]) -> list[str]:
        """The texts without what was found in them; findings of one text must not overlap. Those of KEPT categories stay."""
        self._texts = "\n".join([self._texts, *texts]).lower()
        by_text: dict[int, list[Finding]] = {}
        for finding in findings:
            if finding.category not in KEPT and not finding.category.startswith("marked_"):
                by_text.setdefault(finding.text, []).append(finding)
        return [self._without(text, by_text.get(index, ())) for index, text in enumerate(texts)]

    def restore(self, text: str) -> str:
        """The text with the vault's names put back to what they stand for."""
        restorer = self.restorer()
        return restorer.feed(text) + restorer.end()

    def restorer(self) -> Restorer:
        """For an answer that comes in pieces."""
        return Restorer(self._values if self.mode in REVERSIBLE else {})

    def __reduce__(self) -> NoReturn:
        raise TypeError("A vault does not leave its process.")

    def __repr__(self) -> str:
        return f"Vault({self.mode.value}, {len(self._names)} names)"

    def _without(self, text: str, findings: Iterable[Finding]) -> str:
        pieces: list[str] = []
        last = 0
        for finding in sorted(findings, key=lambda f: f.start):
            pieces += (text[last : finding.start], self._name(finding.type, text[finding.start : finding.end]))
            last = finding.end
        pieces.append(text[last:])
        return "".join(pieces)

    def _name(self, kind: str, value: str) -> str:
        match self.mode:
            case Mode.MASK:
                return "*" * len(value)
            case Mode.DROP:
                return ""
            case Mode.HASH:
                digest = hmac.new(self._key, f"{kind}\0{value}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()
                return f"<{kind}:{digest[:16]}>"
        known = self._names.get((kind, value))
        if known is None:
            known = self._fresh(
                self._numbered(kind) if self.mode is Mode.PSEUDONYM else lambda: surrogates.of(kind, value), self._numbered(kind)
            )
            self._names[kind, value] = known
            self._values[_folded(known)] = value
        return known

    def _numbered(self, kind: str) -> Callable[[], str]:
        def make() -> str:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            return f"<{kind}_{self._counts[kind]}>"

        return make

    def _fresh(self, make: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """A name that no text has and no other value bears."""
        for _ in range(MAX_TRIES):
            name = make()
            if self._free(name):
                return name
        while not self._free(name := otherwise()):
            pass
        return name

    def _free(self, name: str) -> bool:
        folded = _folded(name)
        return (
            folded not in self._values
            and folded not in self._texts
            and not any(folded in other or other in folded for other in self._values)
        )


class Restorer:
    """Puts values back into an answer that comes in pieces: holds back what may be the beginning of a name, and nothing else."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values
        self._beginnings = {name[:n] for name in values for n in range(1, len(name))}
        self._firsts = frozenset(name[0] for name in values)
        self._lengths = sorted({len(name) for name in values}, reverse=True)
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be given out after this piece."""
        if not self._values:
            return piece
        text = self._held + piece
        out, at = self._restored(text)
        self._held = text[at:]
        return out

    def end(self) -> str:
        """What was held back: the answer is over, and it was the beginning of no name."""
        held, self._held = self._held, ""
        return held

    def _restored(self, text: str) -> tuple[str, int]:
        """(what is certain, where the uncertain begins)."""
        folded = _folded(text)
        out: list[str] = []
        last = at = 0
        while at < len(text):
            if folded[at] in self._firsts:
                name = next((folded[at : at + n] for n in self._lengths if folded[at : at + n] in self._values), None)
                if name is not None:
                    out += (text[last:at], self._values[name])
                    at += len(name)
                    last = at
                    continue
                if folded[at:] in self._beginnings:
                    break
            at += 1
        out.append(text[last:at])
        return "".join(out), at


def _folded(text: str) -> str:
    """In small letters, and as long as before: a few characters have longer small forms, and stay."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
