"""The scores that are promised, on the sets that are kept here; `make eval` tells more of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from classifiers.engine import Classifier, load
from classifiers.evaluation import cases, rubric, spans
from sync.wire.levels import Level

HERE = Path(rubric.FILE).parent
WITH_MODEL = load()
PATTERNS = Classifier()


def types(text: str, classifier: Classifier = WITH_MODEL) -> set[str]:
    return {finding.type for finding in classifier.assess([text], all_spans=True).findings}


def test_every_valid_card_is_found() -> None:
    missed = [case for case in cases.cards() if "CREDIT_CARD" not in types(case.text, PATTERNS)]
    assert missed == []


def test_telephone_numbers_are_found_and_what_is_none_is_not() -> None:
    found = {True: 0, False: 0}
    given = 0
    for case in cases.phones():
        given += case.type is not None
        found[case.type is not None] += "PHONE_NUMBER" in types(case.text)
    assert found[True] / given >= 0.95
    assert found[True] / (found[True] + found[False]) >= 0.95


def test_all_but_two_of_forty_evasions_are_found() -> None:
    all_cases = cases.evasions()
    assert len(all_cases) == 40
    assert len([case.name for case in all_cases if case.type not in types(case.text, PATTERNS)]) <= 2


def test_secrets_are_found_and_look_alikes_are_not() -> None:
    flagged = {True: 0, False: 0}
    count = {True: 0, False: 0}
    for case in cases.secrets():
        valid = case.type is not None
        count[valid] += 1
        flagged[valid] += any(f.category == "credential" for f in PATTERNS.assess([case.text]).findings)
    assert flagged[True] / count[True] >= 0.90
    assert flagged[False] / count[False] <= 0.20


def test_personal_words_of_all_types_together() -> None:
    scores = spans.Scores()
    for labelled in spans.read(HERE / "generated.jsonl"):
        scores.add(labelled, [(f.start, f.end, f.type) for f in WITH_MODEL.assess([labelled.text], all_spans=True).findings])
    assert scores.together()[2] >= 0.90


def test_one_ordinary_prompt_in_a_hundred_at_most_is_above_internal() -> None:
    ordinary = (HERE / "ordinary.txt").read_text(encoding="utf-8").splitlines()
    above = [text for text in ordinary if WITH_MODEL.assess([text]).level > Level.INTERNAL]
    assert len(above) / len(ordinary) <= 0.01, above


def test_the_rubric_has_four_hundred_prompts_each_with_its_reason() -> None:
    prompts = rubric.prompts()
    assert len(prompts) >= 400
    assert all(prompt.reason and prompt.text for prompt in prompts)
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    assert {prompt.level for prompt in prompts if prompt.unseen} == set(Level)


def test_own_labelled_text_is_scored_by_a_map_of_labels(tmp_path: Path) -> None:
    lines = [{"text": "mail a@b.com, Bob", "spans": [[5, 12, "MAIL"], [14, 17, "NAME"]]}, {"text": "nothing", "spans": []}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    read = list(spans.read(tmp_path, {"MAIL": "EMAIL_ADDRESS", "NAME": ""}))
    assert read[0].spans == ((5, 12, "EMAIL_ADDRESS"),)
    scores = spans.Scores()
    scores.add(read[0], [(5, 12, "EMAIL_ADDRESS")])
    assert (scores.recall("EMAIL_ADDRESS"), scores.precision("EMAIL_ADDRESS"), scores.together()) == (1.0, 1.0, (1.0, 1.0, 1.0))
    assert "EMAIL_ADDRESS" in scores.table()


@pytest.mark.parametrize("line", ["{", '{"text": "x"}', '{"text": "x", "spans": [[1]]}'])
def test_a_line_that_is_not_labelled_text_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "spans": []}\n' + line + "\n")
    with pytest.raises(spans.BadSet, match=r"a\.jsonl, line 2"):
        list(spans.read(tmp_path))
    with pytest.raises(spans.BadSet, match="There is no"):
        list(spans.read(tmp_path / "none" if (tmp_path / "none").mkdir() is None else tmp_path))
