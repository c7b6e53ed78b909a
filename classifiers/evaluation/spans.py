"""Scores on labelled text: files of lines {"text", "spans": [[start, end, label], …]} and a map from their labels to our types.

Two measures, as presidio-research tells them: by type, where a span counts as found if one of the same type overlaps it; and for all
types together, word by word, personal or not, with F2 (recall counts twice).
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sync.kit import errors

_WORD = re.compile(r"\w+|[^\w\s]")

Span = tuple[int, int, str]


class BadSet(errors.Misconfigured):
    """A file of a labelled set is not what it should be."""

    code = "bad_evaluation_set"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its spans, in our types."""

    text: str
    spans: tuple[Span, ...]


@dataclass(slots=True)
class Scores:
    """Counts as they come in. By type: found, gold, predicted and right; by word: right, missed, wrong."""

    found: Counter[str] = field(default_factory=Counter)
    gold: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    hit: int = 0
    missed: int = 0
    wrong: int = 0

    def add(self, labelled: Labelled, predicted: Iterable[Span]) -> None:
        """Counts one text."""
        kinds = {kind for _, _, kind in labelled.spans}
        predicted = list(predicted)
        for span in labelled.spans:
            self.gold[span[2]] += 1
            self.found[span[2]] += any(_overlap(span, p) and p[2] == span[2] for p in predicted)
        for p in predicted:
            self.predicted[p[2]] += 1
            self.right[p[2]] += p[2] in kinds and any(_overlap(p, s) and p[2] == s[2] for s in labelled.spans)
        for match in _WORD.finditer(labelled.text):
            if not match[0][0].isalnum():
                continue
            place = (*match.span(), "")
            is_gold, is_found = any(_overlap(place, s) for s in labelled.spans), any(_overlap(place, p) for p in predicted)
            self.hit += is_gold and is_found
            self.missed += is_gold and not is_found
            self.wrong += is_found and not is_gold

    def recall(self, kind: str) -> float:
        return self.found[kind] / self.gold[kind] if self.gold[kind] else 0.0

    def precision(self, kind: str) -> float:
        return self.right[kind] / self.predicted[kind] if self.predicted[kind] else 0.0

    def together(self) -> tuple[float, float, float]:
        """(precision, recall, F2) of personal words against plain ones."""
        precision = self.hit / max(1, self.hit + self.wrong)
        recall = self.hit / max(1, self.hit + self.missed)
        return precision, recall, 5 * precision * recall / max(1e-9, 4 * precision + recall)

    def table(self) -> str:
        """A line a type, and one for all."""
        rows = [f"{'type':<24}{'gold':>7}{'recall':>9}{'precision':>11}"]
        rows += [
            f"{kind:<24}{self.gold[kind]:>7}{self.recall(kind):>9.3f}{self.precision(kind):>11.3f}" for kind in sorted(self.gold)
        ]
        precision, recall, f2 = self.together()
        return "\n".join([*rows, f"all together, by word: precision {precision:.3f}, recall {recall:.3f}, F2 {f2:.3f}"])


def _overlap(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def read(path: Path, labels: Mapping[str, str] | None = None) -> Iterator[Labelled]:
    """The labelled texts of a file or of all .jsonl and .jsonl.gz files of a folder. A label mapped to "" is plain text; one that is
    not in the map stays what it is. Raises BadSet, which names file and line."""
    files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")]) if path.is_dir() else [path]
    if not files:
        raise BadSet(f"There is no .jsonl file in {path}.")
    for file in files:
        try:
            with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield _labelled(file, number, line, labels or {})
        except OSError as error:
            raise BadSet(f"The file {file} cannot be read ({error.strerror}).") from error


def _labelled(file: Path, number: int, line: str, labels: Mapping[str, str]) -> Labelled:
    try:
        record = json.loads(line)
        spans = [(int(start), int(end), labels.get(label, label)) for start, end, label in record["spans"]]
        return Labelled(str(record["text"]), tuple(span for span in spans if span[2]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadSet(f'{file}, line {number}: this is no {{"text", "spans": [[start, end, label], …]}}.') from error
