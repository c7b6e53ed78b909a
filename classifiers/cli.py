"""`ringfence classify`: the classifier on the command line, for files, pipes and JSON lines. Needs no hub."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from classifiers import calibration
from classifiers.engine import Classifier, load
from classifiers.profile import BUDGET_WORDS
from classifiers.verdict import Assessment, Finding
from sync.kit import errors
from sync.terminal import commands
from sync.wire.levels import Level

BATCH = 64
"""Lines handed to a thread at a time."""
MAX_LINE = 16 * 1024 * 1024
STYLES = {
    Level.PUBLIC: "dim underline",
    Level.INTERNAL: "black on cyan",
    Level.CONFIDENTIAL: "black on yellow",
    Level.RESTRICTED: "white on red",
}
LEVEL_STYLES = {Level.PUBLIC: "green", Level.INTERNAL: "cyan", Level.CONFIDENTIAL: "yellow", Level.RESTRICTED: "bold red"}


def classify(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files to classify; '-' or nothing reads standard input.", show_default=False)
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help='Lines {"id", "text"} in, lines {"id", "level", "categories", "findings"} out.')
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Each finding with its recognizer, score and level.")] = False,
    model: Annotated[bool, typer.Option(help="Whether the model looks as well as the patterns.")] = True,
) -> None:
    """How sensitive a text is, and what in it makes it so."""
    classifier = load() if model else Classifier()
    if jsonl:
        bad = sum(_lines(classifier, _opened(files)))
        raise typer.Exit(1 if bad else 0)
    console = Console(highlight=False, soft_wrap=True)
    for name, data in _sources(files):
        text = data.decode("utf-8", "replace")
        _show(console, name, text, classifier.assess([text], all_spans=True), explain=explain)


def _sources(files: list[Path] | None) -> Iterator[tuple[str, bytes]]:
    for file in files or [Path("-")]:
        yield ("standard input", sys.stdin.buffer.read()) if str(file) == "-" else (str(file), commands.read_file(file))


def _opened(files: list[Path] | None) -> Iterator[bytes]:
    for file in files or [Path("-")]:
        if str(file) == "-":
            yield from iter(lambda: sys.stdin.buffer.readline(MAX_LINE), b"")
            continue
        try:
            with file.open("rb") as stream:
                yield from iter(lambda s=stream: s.readline(MAX_LINE), b"")  # type: ignore[misc]
        except OSError as error:
            raise errors.Misconfigured(f"The file {file} cannot be read ({error.strerror}).", code="file_unreadable") from error


def _lines(classifier: Classifier, lines: Iterable[bytes]) -> Iterator[int]:
    """Answers each line on standard output, in order; gives 1 for each that is no JSON object with a text."""
    numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())

    def work(batch: list[tuple[int, bytes]]) -> tuple[str, int]:
        answers = [_answer(classifier, number, line) for number, line in batch]
        return "".join(json.dumps(a, ensure_ascii=False) + "\n" for a in answers), sum("error" in a for a in answers)

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        while window := list(itertools.islice(numbered, BATCH * workers)):
            for text, bad in pool.map(work, [window[i : i + BATCH] for i in range(0, len(window), BATCH)]):
                sys.stdout.buffer.write(text.encode("utf-8", "replace"))
                yield bad
            sys.stdout.buffer.flush()


def _answer(classifier: Classifier, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        text = record["text"]
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        return {"id": None, "line": number, "error": f'Line {number} is no JSON object with an "id" and a "text".'}
    return {"id": record.get("id"), **as_json(classifier.assess([text], all_spans=True))}


def as_json(assessment: Assessment) -> dict[str, Any]:
    """An assessment as the JSON lines have it."""
    return {
        "level": assessment.level.label,
        "categories": list(assessment.categories),
        "findings": [{"start": f.start, "end": f.end, "type": f.type, "score": f.score, "recognizer": f.recognizer} for f in assessment.findings],
        "model": assessment.model,
        **({"failed": True} if assessment.failed else {}),
    }  # fmt: skip


def _show(console: Console, name: str, text: str, assessment: Assessment, *, explain: bool) -> None:
    level = assessment.level
    console.print(Text.assemble((name, "bold"), ": ", (level.label, LEVEL_STYLES[level])))
    if assessment.failed:
        console.print("The scanner failed on this text: it counts as restricted.", style="red")
    if assessment.model == "over_budget":
        console.print(
            f"over_budget: it has more than the {BUDGET_WORDS:,} words that the model reads, and counts as restricted.",
            style="red",
        )
    marked = Text(text.rstrip("\n"))
    for finding in assessment.findings:
        marked.stylize(STYLES[calibration.DEFAULT.of(finding)], finding.start, finding.end)
    console.print(marked)
    found = [*assessment.findings, *assessment.subject]
    if explain and found:
        console.print(_table(found, text))
    elif found:
        console.print(", ".join(f"{kind} × {count}" for kind, count in assessment.counts().items()), style="dim")


def _table(found: list[Finding], text: str) -> Table:
    table = Table("where", "what", "type", "category", "alone it is", "score", "recognizer")
    for f in found:
        level = calibration.DEFAULT.of(f)
        what = "the text as a whole" if f in found and f.category.startswith("subject_") else text[f.start : f.end]
        table.add_row(
            f"{f.start}–{f.end}",
            Text(what[:60]),
            f.type,
            f.category,
            Text(level.label, LEVEL_STYLES[level]),
            f"{f.score:.2f}",
            f.recognizer,
        )
    return table


def main() -> None:
    """`python -m classifiers`."""
    commands.main(lambda: typer.run(classify))
