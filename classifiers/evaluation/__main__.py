"""All scores, or those on your own labelled text.

    python -m classifiers.evaluation                                    # what `make eval` prints
    python -m classifiers.evaluation --jsonl FOLDER [--labels MAP.json] # lines {"text", "spans": [[start, end, label], …]}

MAP.json gives our type for each of your labels, and "" for one that is plain text: {"GPE": "LOCATION", "DOMAIN": "URL", "MISC": ""}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from classifiers.engine import Classifier, load
from classifiers.evaluation import cases, rubric, spans
from sync.terminal import commands
from sync.wire.levels import Level

HERE = Path(__file__).parent
ORDINARY = HERE / "ordinary.txt"
GENERATED = HERE / "generated.jsonl"
TARGETS = {
    "cards of every range, recall": (">=", 1.0), "telephone numbers, recall": (">=", 0.95), "telephone numbers, precision": (">=", 0.95),
    "evasions found, of 40": (">=", 38), "secrets, recall": (">=", 0.90), "look-alikes of secrets flagged": ("<=", 0.20), "all types together, F2": (">=", 0.90),
    "ordinary prompts above internal": ("<=", 0.01), "rubric, unseen half, accuracy": (">=", 0.95), "restricted called public or internal": ("<=", 0),
}  # fmt: skip
T = TypeVar("T")
out = Console(highlight=False, soft_wrap=True)


def main(
    jsonl: Annotated[Path | None, typer.Option(help="A file or folder of labelled lines.", show_default=False)] = None,
    labels: Annotated[Path | None, typer.Option(help="A JSON map of your labels to our types.", show_default=False)] = None,
    model: Annotated[bool, typer.Option(help="Whether the model looks as well as the patterns.")] = True,
    wrong: Annotated[bool, typer.Option("--wrong", help="Show what went wrong in the tuning half of the rubric.")] = False,
) -> None:
    """The classifier's scores."""
    classifier = load() if model else Classifier()
    if jsonl is not None:
        out.print(_on_spans(classifier, spans.read(jsonl, _map(labels))).table())
        return
    _all(classifier, wrong=wrong)


def _map(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        found = json.loads(commands.read_file(path))
    except ValueError as error:
        raise spans.BadSet(f"{path} is not JSON.") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise spans.BadSet(f"{path} is no map of labels to types.")
    return found


def _all(classifier: Classifier, *, wrong: bool) -> None:
    prompts = rubric.prompts()
    seen = rubric.confusion(classifier, [p for p in prompts if not p.unseen])
    unseen = rubric.confusion(classifier, [p for p in prompts if p.unseen])
    ordinary = ORDINARY.read_text(encoding="utf-8").splitlines()
    on_spans = _on_spans(classifier, spans.read(GENERATED))
    phones = list(cases.phones())
    called = [bool(_types(classifier, case.text) & {"PHONE_NUMBER"}) for case in phones]
    figures = {
        "cards of every range, recall": _share(cases.cards(), lambda c: "CREDIT_CARD" in _types(classifier, c.text)),
        "telephone numbers, recall": sum(y for c, y in zip(phones, called, strict=True) if c.type)
        / sum(c.type is not None for c in phones),
        "telephone numbers, precision": sum(y for c, y in zip(phones, called, strict=True) if c.type) / sum(called),
        "evasions found, of 40": sum(c.type in _types(classifier, c.text) for c in cases.evasions()),
        "secrets, recall": _share((c for c in cases.secrets() if c.type), lambda c: _credential(classifier, c.text)),
        "look-alikes of secrets flagged": _share(
            (c for c in cases.secrets() if c.type is None), lambda c: _credential(classifier, c.text)
        ),
        "all types together, F2": on_spans.together()[2],
        "ordinary prompts above internal": _share(ordinary, lambda text: classifier.assess([text]).level > Level.INTERNAL),
        "rubric, unseen half, accuracy": unseen.accuracy,
        "restricted called public or internal": unseen.restricted_called_low + seen.restricted_called_low,
    }
    out.print(on_spans.table(), "\n")
    out.print(f"rubric, tuning half: accuracy {seen.accuracy:.3f}\n{seen.table()}\n")
    out.print(f"rubric, unseen half: accuracy {unseen.accuracy:.3f}\n{unseen.table()}\n")
    if wrong:
        for prompt, level in seen.wrong:
            out.print(f"  {prompt.level.label} ({prompt.reason}) called {level.label}: {prompt.text}")
    for name, value in figures.items():
        sign, target = TARGETS[name]
        met = value >= target if sign == ">=" else value <= target
        out.print(f"{name:<40}{value:>8.3f}   target {sign} {target:<6} {'met' if met else 'NOT MET'}")


def _on_spans(classifier: Classifier, labelled: Iterable[spans.Labelled]) -> spans.Scores:
    scores = spans.Scores()
    for text in track(list(labelled), "Labelled text", console=Console(stderr=True), transient=True):
        scores.add(text, [(f.start, f.end, f.type) for f in classifier.assess([text.text], all_spans=True).findings])
    return scores


def _types(classifier: Classifier, text: str) -> set[str]:
    return {finding.type for finding in classifier.assess([text], all_spans=True).findings}


def _credential(classifier: Classifier, text: str) -> bool:
    return any(finding.category == "credential" for finding in classifier.assess([text]).findings)


def _share(items: Iterable[T], holds: Callable[[T], bool]) -> float:
    answers = [holds(item) for item in items]
    return sum(answers) / max(1, len(answers))


if __name__ == "__main__":
    commands.main(lambda: typer.run(main))
