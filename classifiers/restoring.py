"""Values put back into an answer that comes in pieces.

Invariants, each with a test of its words:
- the pieces give what the whole gives, wherever they are cut;
- only what may be the beginning of a name is held back;
- the work is a bounded number of steps for each character, however many names there are;
- an answer that was JSON with names in it is JSON with the values in it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping

PREFIX = 6
"""Characters of a name's beginning that are looked up before all of it: most places in a text have no such beginning."""
_LITERALS = "true false null"
_BARE = re.compile(r"[0-9a-z+\-.,:\[\]{}\s]+", re.ASCII)
_LETTERS = re.compile(r"[a-z]+", re.ASCII)


class Names:
    """The names of a vault and their values, ready to be looked for. One serves all answers to a request.

    No name may be part of another; they are folded (see `folded`).
    json: for answers that are JSON: values are escaped, and a model may have escaped a placeholder's brackets.
    """

    def __init__(self, values: Mapping[str, str], *, json: bool = False) -> None:
        self.json = json
        self._values = _for_json(values) if json else dict(values)
        self._sorted = sorted(self._values)
        self._most = max(map(len, self._sorted), default=0)
        self._least = min(PREFIX, min(map(len, self._sorted), default=0))
        self._prefixes = frozenset(name[: self._least] for name in self._sorted)
        firsts = {name[0] for name in self._sorted} | ({'"', "\\"} if json else set())
        self.first = re.compile("|".join(map(re.escape, sorted(firsts)))) if self._sorted else None

    def at(self, text: str, at: int) -> str | None:
        """Return the name that stands in a folded text at this place."""
        if text[at : at + self._least] not in self._prefixes:
            return None
        rest = text[at : at + self._most]
        # No name begins another: the one that the rest begins with sorts right before it.
        index = bisect_right(self._sorted, rest) - 1
        return self._sorted[index] if index >= 0 and rest.startswith(self._sorted[index]) else None

    def may_begin(self, text: str, at: int) -> bool:
        """Return whether a name begins with all the rest of a folded text."""
        if len(text) - at >= self._most:
            return False
        rest = text[at:]
        index = bisect_left(self._sorted, rest)
        return index < len(self._sorted) and self._sorted[index].startswith(rest)

    def value(self, name: str, *, quoted: bool) -> str | None:
        """Return what a name stands for, or None where it is not put back. quoted: whether it stands in a JSON string."""
        value = self._values[name]
        if not self.json or quoted or not _may_stand_bare(name):
            return value
        # A surrogate as a number: only another number's digits leave it one.
        return value if name.isdecimal() and value.isascii() and value.isdecimal() and value[0] != "0" else None


class Restorer:
    """Puts values back into an answer that comes in pieces: holds back what may be the beginning of a name, and nothing else."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._held = ""
        self._quoted = False

    def feed(self, piece: str) -> str:
        """Return what can be given out after this piece."""
        if self._names.first is None:
            return piece
        text = self._held + piece
        out, at = self._restored(text)
        self._held = text[at:]
        return out

    def end(self) -> str:
        """Return what was held back: the answer is over, and it was the beginning of no name."""
        held, self._held = self._held, ""
        return held

    def _restored(self, text: str) -> tuple[str, int]:
        """Return what is certain, and where the uncertain begins."""
        assert self._names.first is not None  # noqa: S101 - `feed` has looked
        lowered = folded(text)
        out: list[str] = []
        last = at = 0
        while found := self._names.first.search(lowered, at):
            at = found.start()
            name = self._names.at(lowered, at)
            if name is not None and (value := self._names.value(name, quoted=self._quoted)) is not None:
                out += (text[last:at], value)
                at = last = at + len(name)
            elif (name is None and self._names.may_begin(lowered, at)) or (step := self._step(lowered, at)) == 0:
                break
            else:
                at += step
        else:
            at = len(text)
        out.append(text[last:at])
        return "".join(out), at

    def _step(self, text: str, at: int) -> int:
        """Return how far to go on where no name stands; 0 where an escape is cut in two."""
        if self._names.json:
            if text[at] == "\\":
                return self._escape(text, at)
            self._quoted ^= text[at] == '"'
        return 1

    @staticmethod
    def _escape(text: str, at: int) -> int:
        """Return the characters of an escape, none of which begins a name; 0 where it is cut in two."""
        length = 6 if text[at + 1 : at + 2] == "u" else 2
        return length if at + length <= len(text) else 0


def folded(text: str) -> str:
    """Return a text in small letters, as long as before: a few characters have longer small forms, and stay."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _for_json(values: Mapping[str, str]) -> dict[str, str]:
    made = {}
    for name, value in values.items():
        inner = json.dumps(value, ensure_ascii=False)[1:-1]
        made[name] = inner
        if name.startswith("<"):
            for begin, end in (("<", "\\u003e"), ("\\u003c", ">"), ("\\u003c", "\\u003e")):
                made[f"{begin}{name[1:-1]}{end}"] = inner
    return made


def _may_stand_bare(name: str) -> bool:
    """Return whether JSON can have these characters outside of its strings."""
    return _BARE.fullmatch(name) is not None and all(run in _LITERALS for run in _LETTERS.findall(name))
