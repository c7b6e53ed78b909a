"""What was found, taken out of a text before it leaves, and put back into the answer.

Pseudonyms (`<PERSON_1>`) and surrogates (another, invented value of the same form and check digit) can be undone by the vault of
the request; masks, hashes and dropping cannot. The same value has the same name within a vault, which is a request's.

Invariants, each with a test of its words:
- what was redacted and restored is the original, over any chunking of the answer, whatever the case of a placeholder;
- a placeholder never stands in the original texts;
- no name is part of another one;
- the work grows with the texts and the findings, and not with their product;
- a vault is not pickled, printed or logged: it does not leave the process.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NoReturn

from classifiers import surrogates
from classifiers.restoring import Names, Restorer, folded
from classifiers.verdict import Finding

KEPT = frozenset(
    {"quasi_identifier", "code", "health_term", "special_term", "phi_detail", "business", "security", "legal", "insider"}
)
"""Categories that are left in the text: they name nobody, and answers need them."""
MAX_SURROGATE = 64
"""Characters of a surrogate: identifiers are shorter. What is longer, such as a key, gets a pseudonym."""
MIN_SURROGATE = 4
"""A shorter one, such as a card's check number, stands in most texts, and gets a pseudonym."""
MAX_SURROGATES = 2_000
"""Surrogates of one vault: one takes up to 2 ms to be drawn. Further values get pseudonyms."""
ROUNDS = 3
"""Times that a surrogate is drawn for a value: one of a short form is likely to stand in the text, and gets a pseudonym."""
_PLACEHOLDER = re.compile(r"<[^<>]*+>")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.\-]", re.ASCII)
_SURROGATE = re.compile(r"[ !#-;=?-\[\]-~]+", re.ASCII)
"""Printable ASCII without what placeholders and JSON are made of: brackets, the quotation mark, the backslash."""

Value = tuple[str, str]
"""An entity's type, and its text."""


class Mode(StrEnum):
    """How a finding is taken out."""

    PSEUDONYM = "pseudonym"
    SURROGATE = "surrogate"
    MASK = "mask"
    HASH = "hash"
    DROP = "drop"


REVERSIBLE = frozenset({Mode.PSEUDONYM, Mode.SURROGATE})


def is_taken_out(finding: Finding) -> bool:
    """Return whether redaction takes a finding out: those of KEPT categories, and markings, stay."""
    return finding.category not in KEPT and not finding.category.startswith("marked_")


class Vault:
    """The names given in one request, both ways. `key`: for hashes, the tenant's; random where none is given."""

    def __init__(self, mode: Mode = Mode.PSEUDONYM, *, key: bytes | None = None) -> None:
        self.mode = mode
        self._key = key or secrets.token_bytes(32)
        self._names: dict[Value, str] = {}
        self._counts: dict[str, int] = {}
        self._looked_for: dict[bool, Names] = {}
        self._used = False

    def redact(self, texts: Sequence[str], findings: Iterable[Finding]) -> list[str]:
        """Return the texts without what was found in them; findings of one text must not overlap.

        Raises:
            RuntimeError: The vault has redacted before: its names are in none of those texts, and may be in these.
        """
        if self._used:
            raise RuntimeError("A vault redacts the texts of one request, all of them at once.")
        self._used = True
        by_text = _by_text(texts, findings)
        if self.mode not in REVERSIBLE:
            return [self._without(text, by_text.get(index, ())) for index, text in enumerate(texts)]
        wanted = dict.fromkeys(_values(texts, by_text))
        if self.mode is Mode.SURROGATE:
            self._names = surrogate_names(wanted, [folded(text) for text in texts])
        self._name_the_rest(wanted, texts)
        made = [self._without(text, by_text.get(index, ())) for index, text in enumerate(texts)]
        if self.mode is Mode.SURROGATE and [self.restore(text) for text in made] != list(texts):
            # A surrogate has come to stand across the end of one and the text before it.
            self._names.clear()
            self._looked_for.clear()
            self._name_the_rest(wanted, texts)
            made = [self._without(text, by_text.get(index, ())) for index, text in enumerate(texts)]
        return made

    def restore(self, text: str, *, json: bool = False) -> str:
        """Return the text with the vault's names put back to what they stand for. json: as in `restorer`."""
        restorer = self.restorer(json=json)
        return restorer.feed(text) + restorer.end()

    def restorer(self, *, json: bool = False) -> Restorer:
        """Return what restores an answer that comes in pieces.

        json: The answer is JSON: values are put in as the inside of a string, so that it stays JSON.
        """
        if json not in self._looked_for:
            known = {folded(name): value for (_, value), name in self._names.items()}
            self._looked_for[json] = Names(known, json=json)
        return Restorer(self._looked_for[json])

    def __reduce__(self) -> NoReturn:
        raise TypeError("A vault does not leave its process.")

    def __repr__(self) -> str:
        return f"Vault({self.mode.value}, {len(self._names)} names)"

    def _without(self, text: str, findings: Iterable[Finding]) -> str:
        pieces: list[str] = []
        last = 0
        for finding in findings:
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
        return self._names[kind, value]

    def _name_the_rest(self, wanted: Iterable[Value], texts: Iterable[str]) -> None:
        """Give a placeholder to each value that has no name yet.

        It is one that no text has. No two overlap in any text: each has its brackets at its ends, and none within.
        """
        taken = {found[0] for text in texts for found in _PLACEHOLDER.finditer(folded(text))}
        for kind, value in wanted:
            if (kind, value) not in self._names:
                self._names[kind, value] = self._placeholder(kind, taken)

    def _placeholder(self, kind: str, taken: set[str]) -> str:
        kind = _NOT_IN_A_NAME.sub("_", kind)
        while True:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            name = f"<{kind}_{number}>"
            if folded(name) not in taken:
                # Two types may differ in case alone, or in what a name does not take over.
                taken.add(folded(name))
                return name


def surrogate_names(wanted: Iterable[Value], lowered: Sequence[str]) -> dict[Value, str]:
    """Return surrogates for the values for which ones are found that no text has and that are part of no other.

    lowered: The texts, folded.
    """
    names: dict[str, Value] = {}
    missing = list(wanted)[:MAX_SURROGATES]
    cased: dict[str, str] = {}
    for _ in range(ROUNDS):
        for value in missing:
            made = surrogates.of(*value) if len(value[1]) <= MAX_SURROGATE else ""
            if MIN_SURROGATE <= len(made) <= MAX_SURROGATE and _SURROGATE.fullmatch(made) and folded(made) not in names:
                names[folded(made)], cased[folded(made)] = value, made
        for name in _standing_in(names, lowered):
            del names[name]
        found = set(names.values())
        missing = [value for value in missing if value not in found]
        if not missing:
            break
    return {value: cased[name] for name, value in names.items()}


def _standing_in(names: Mapping[str, Value], lowered: Sequence[str]) -> set[str]:
    """Return the names that stand in a text, or in a longer name."""
    found: set[str] = set()
    if names:
        lengths = sorted({len(name) for name in names})
        prefixes = frozenset(name[: lengths[0]] for name in names)
        for text in lowered:
            found.update(_names_in(text, names, lengths, prefixes))
        for name in names:
            found.update(part for part in _names_in(name, names, lengths, prefixes) if part != name)
    return found


def _names_in(text: str, names: Mapping[str, Value], lengths: Sequence[int], prefixes: frozenset[str]) -> Iterator[str]:
    """Yield the names that stand in a text. There are at most MAX_SURROGATE lengths, so it is one pass."""
    for at in range(len(text) - lengths[0] + 1):
        if text[at : at + lengths[0]] in prefixes:
            yield from (part for length in lengths if (part := text[at : at + length]) in names)


def _by_text(texts: Sequence[str], findings: Iterable[Finding]) -> dict[int, list[Finding]]:
    """Return the findings that are taken out of each text, in their order there."""
    by_text: dict[int, list[Finding]] = {}
    for finding in findings:
        if finding.text < len(texts) and is_taken_out(finding):
            by_text.setdefault(finding.text, []).append(finding)
    for found in by_text.values():
        found.sort(key=lambda finding: finding.start)
    return by_text


def _values(texts: Sequence[str], by_text: Mapping[int, Sequence[Finding]]) -> Iterator[Value]:
    """Yield what is taken out, in the order in which it stands."""
    for index in sorted(by_text):
        for finding in by_text[index]:
            yield finding.type, texts[index][finding.start : finding.end]
