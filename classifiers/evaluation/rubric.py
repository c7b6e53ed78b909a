"""The rubric: prompts with the level that each should have, and why. Half of them are never used to tune anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from classifiers.engine import Classifier
from sync.wire.levels import Level

FILE = Path(__file__).with_name("rubric.tsv")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, its level, and the reason. `unseen`: in the half that nothing is tuned on."""

    level: Level
    reason: str
    text: str
    unseen: bool


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often a level was called what: `counts[should be, was called]`."""

    counts: Counter[tuple[Level, Level]]
    wrong: tuple[tuple[Prompt, Level], ...]

    @property
    def accuracy(self) -> float:
        """The share of prompts called by their level."""
        return sum(n for (want, got), n in self.counts.items() if want is got) / sum(self.counts.values())

    @property
    def restricted_called_low(self) -> int:
        """Restricted prompts that were called public or internal: the mistake that leaks."""
        return sum(n for (want, got), n in self.counts.items() if want is Level.RESTRICTED and got <= Level.INTERNAL)

    def table(self) -> str:
        """The confusion table, a row a level that it should be."""
        names = [level.label for level in Level]
        rows = ["should be \\ called   " + "".join(f"{name:>14}" for name in names)]
        rows += [f"{want.label:<20} " + "".join(f"{self.counts[want, got]:>14}" for got in Level) for want in Level]
        return "\n".join(rows)


def prompts(path: Path = FILE) -> list[Prompt]:
    """All prompts of the file: every second line is unseen."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        level, reason, text = line.split("\t")
        found.append(Prompt(Level.of(level), reason, text.replace("\\n", "\n"), unseen=number % 2 == 1))
    return found


def confusion(classifier: Classifier, chosen: list[Prompt]) -> Confusion:
    """What the classifier calls them."""
    counts: Counter[tuple[Level, Level]] = Counter()
    wrong = []
    for prompt in chosen:
        level = classifier.assess([prompt.text]).level
        counts[prompt.level, level] += 1
        if level is not prompt.level:
            wrong.append((prompt, level))
    return Confusion(counts, tuple(wrong))
