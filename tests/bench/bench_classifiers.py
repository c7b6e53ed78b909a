"""The classifier on 2 KB: against RE2's set alone, which only says which patterns occur."""

from __future__ import annotations

import statistics
import time

from bench import Row, at_most

from classifiers.engine import RULES, Classifier
from classifiers.matching import Matcher

PROSE = (
    "The committee met on Tuesday to talk about the plans for the new library, which is to open in the spring of next year. "
    "Several members asked how many readers were expected, and whether the reading room would be large enough for all of them. "
) * 10
DENSE = "Ask anna.meyer@bank.test or call +49 30 901820 about card 4111 1111 1111 1111 and 10.20.30.40. " * 22
SIZE = 2048
ROUNDS, CALLS = 15, 200


def measure() -> list[Row]:
    classifier, matcher = Classifier(), Matcher([rule.pattern for rule in RULES])
    rows = []
    for name, text, calls, most in (
        ("2 KB of prose", PROSE[:SIZE], CALLS, 150.0),
        ("2 KB full of identifiers", DENSE[:SIZE], 10, None),
    ):
        data = text.encode()
        ours, limit = [], []
        for _ in range(ROUNDS):
            ours.append(_microseconds(lambda t=text: classifier.assess([t]), calls))
            limit.append(_microseconds(lambda d=data: matcher.hits(d), calls))
        rows.append(
            at_most(f"classifier, {name} (limit: re2.Set alone)", statistics.median(ours), "µs", statistics.median(limit), most)
        )
    return rows


def _microseconds(work, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls * 1e6
