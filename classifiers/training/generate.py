"""Labelled prompts from the templates: filled, joined, and made as untidy as what people write."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from classifiers.training.entities import Entities, Piece

FOLDER = Path(__file__).with_name("templates")
LEVELS = ("public", "internal", "confidential", "restricted")
UNKNOWN = "?"
"""The label of text whose entities nobody marked: no loss is taken there."""
SAME = 0.9
"""How often a template with a level is left alone and not joined with harmless text."""

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A line of a template file. `level`: 0 to 3, or None where its subject is not scored."""

    text: str
    level: int | None
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its spans [start, end, type]; type UNKNOWN takes no loss. `level` as a template's."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    level: int | None


def templates(*, evaluating: bool) -> list[Template]:
    """All templates but one of ten by hash, or only those."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        level: int | None = None
        language = "en"
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("@level "):
                level = LEVELS.index(line[7:]) if line[7:] in LEVELS else None
            elif line.startswith("@language "):
                language = line[10:]
            elif line and not line.startswith("#") and (crc32(line.encode()) % 10 == 0) == evaluating:
                found.append(Template(line.replace("\\n", "\n"), level, language))
    return found


def render(template: Template, entities: Entities) -> Example:
    """One filling of a template."""
    rng = entities.rng
    entities.language = template.language
    text = template.text
    while match := _CHOICE.search(text):
        text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
    text = text.replace("{{", "\0").replace("}}", "\1")
    pieces: list[Piece] = []
    last = 0
    for match in _SLOT.finditer(text):
        pieces.append((text[last : match.start()], None))
        pieces.extend(entities.fill(match[1]))
        last = match.end()
    pieces.append((text[last:], None))
    return joined([(piece.replace("\0", "{").replace("\1", "}"), label) for piece, label in pieces], template.level)


def joined(pieces: list[Piece], level: int | None) -> Example:
    """Pieces as one text; a city right behind its street belongs to the address."""
    text = ""
    spans: list[tuple[int, int, str]] = []
    for piece, label in pieces:
        start = len(text)
        text += piece
        if not label or not piece:
            continue
        before = spans[-1] if spans else None
        if label == "LOCATION" and before and before[2] == "STREET_ADDRESS" and text[before[1] : start].strip(" ,\n") == "":
            spans[-1] = (before[0], len(text), "STREET_ADDRESS")
        else:
            spans.append((start, len(text), label))
    return Example(text, tuple(spans), level)


def together(examples: list[Example], glue: str, level: int | None) -> Example:
    """Several examples as one text."""
    text = ""
    spans: list[tuple[int, int, str]] = []
    for example in examples:
        if text:
            text += glue
        spans.extend((start + len(text), end + len(text), label) for start, end, label in example.spans)
        text += example.text
    return Example(text, tuple(spans), level)


def untidy(example: Example, rng: random.Random) -> Example:
    """As people write: all small, all capitals, no full stop, a letter lost. Spans keep their places."""
    text = example.text
    chance = rng.random()
    if chance < 0.14:
        text = text.lower()
    elif chance < 0.18:
        text = text.upper()
    elif chance < 0.21:
        text = text.title()
    if rng.random() < 0.12:
        text = text.rstrip(".!?")
    if len(text) != len(example.text):  # some letters have another length in capitals
        kept = tuple(span for span in example.spans if span[1] <= len(text))
        return Example(text, kept, example.level) if example.text.lower().startswith(text.lower()) else example
    if rng.random() < 0.06 and len(text) > 20:
        at = rng.randrange(len(text) - 1)
        if text[at].isalpha() and text[at + 1].isalpha():
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return Example(text, example.spans, example.level)


OPENINGS = ("Please ", "Hi, ", "Hello! ", "Can you help? ", "Task: ", "Hey, ", "I need help. ", "Quick question: ", "User: ", "")
ENDINGS = (
    " Thanks!",
    " Thank you.",
    " Keep it short.",
    " Please answer in English.",
    " Use bullet points.",
    " It is urgent.",
    " Make it formal.",
    "",
)


def examples(count: int, entities: Entities, *, evaluating: bool = False) -> Iterator[Example]:
    """So many examples, all different."""
    rng = entities.rng
    found = templates(evaluating=evaluating)
    by_level = {level: [t for t in found if t.level == level and t.language == "en"] for level in (None, 0, 1, 2, 3)}
    foreign = [t for t in found if t.language != "en"]
    for _ in range(count):
        chance = rng.random()
        if chance < 0.08 and foreign:
            yield untidy(render(rng.choice(foreign), entities), rng)
            continue
        level = None if chance < 0.5 else rng.choices((0, 1, 2, 3), (5, 2, 4, 3))[0]
        example = render(rng.choice(by_level[level] or found), entities)
        if level is None:
            if rng.random() < 0.35:
                parts = [example, *(render(rng.choice(by_level[None]), entities) for _ in range(rng.randint(1, 3)))]
                example = together(parts, rng.choice((" ", " ", "\n", "\n\n")), None)
        else:
            example = dressed(example, by_level[0], entities)
        yield untidy(example, rng)


def dressed(example: Example, harmless: list[Template], entities: Entities) -> Example:
    """An example with a level, with what stands around such prompts; the level stays, for what is added is public."""
    rng = entities.rng
    parts = [example]
    if rng.random() > SAME and harmless:
        parts.insert(rng.randint(0, 1), render(rng.choice(harmless), entities))
    if rng.random() < 0.2:
        parts.insert(0, Example(rng.choice(OPENINGS).rstrip(), (), None))
    if rng.random() < 0.2:
        parts.append(Example(rng.choice(ENDINGS).lstrip(), (), None))
    return together([p for p in parts if p.text], rng.choice((" ", " ", "\n")), example.level)
