"""The classifier's time and memory: against RE2's set alone, which only says which patterns occur; and beside Presidio, where it is
installed in a venv of its own (`make peer`)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench import ROOT, Row, at_most

from classifiers import hidden
from classifiers.engine import Classifier, load
from classifiers.evaluation import cases
from classifiers.matching import Re2
from classifiers.recognizers.catalogue import RULES

PROSE = (
    "The committee met on Tuesday to talk about the plans for the new library, which is to open in the spring of next year. "
    "Several members asked how many readers were expected, and whether the reading room would be large enough for all of them. "
) * 100
DENSE = (
    "Please update the record of our member: write to anna.meyer@bank.test or call +49 30 901820 before 12/03/2024. "
    "The card 4111 1111 1111 1111 was declined, so use the account DE89 3704 0044 0532 0130 00 and tell 415-555-2671. "
    "Logins from 10.20.30.40 and 93.184.216.34 were seen; her social security number is 536-22-8726 and the VIN 1M8GDM9AXKP042788. "
    "Ship it to 742 Evergreen Terrace, see https://shop.example.com/orders/8841 for the rest of the story and its end. "
) * 6
PEER = ROOT / ".venv-presidio" / "bin" / "python"
KIB2, KIB20 = 2048, 20_480
ROUNDS = 15
START = """
import time; began = time.perf_counter()
rss = lambda: int(open("/proc/self/statm").read().split()[1]) * 4 / 1024
bare = rss()
from classifiers.engine import load
load().assess(["My name is Anna Meyer."])
print((time.perf_counter() - began) * 1000, rss() - bare)
"""


def measure() -> list[Row]:
    patterns, model = Classifier(), load()
    which = Re2().which([*(rule.trigger or rule.pattern for rule in RULES), *hidden.SIGNALS])
    rows = []
    for name, text, classifier, calls, most in (
        ("2 KB of prose, patterns", PROSE[:KIB2], patterns, 100, 60.0),
        ("2 KB full of identifiers, patterns", DENSE[:KIB2], patterns, 30, 300.0),
        ("20 KB of prose, patterns", PROSE[:KIB20], patterns, 20, 1_500.0),
        ("2 KB of prose, with the model", PROSE[:KIB2], model, 3, 12_000.0),
        ("128 words, with the model", " ".join(PROSE.split()[:110]), model, 6, 3_000.0),
    ):
        data = text.encode()
        ours, limit = [], []
        for _ in range(ROUNDS):
            ours.append(_microseconds(lambda t=text, c=classifier: c.assess([t]), calls))
            limit.append(_microseconds(lambda d=data: which(d), calls))
        rows.append(at_most(f"{name} (limit: re2.Set alone)", statistics.median(ours), "µs", statistics.median(limit), most))
    return [*rows, *_start(), *_peer(patterns)]


def _start() -> list[Row]:
    """From the first import to the first answer, model and all; the limit is the import of onnxruntime and numpy alone."""
    ours = [_run(START) for _ in range(5)]
    bare = [
        _run(
            START.replace("from classifiers.engine import load", "import numpy, onnxruntime").replace(
                'load().assess(["My name is Anna Meyer."])', ""
            )
        )
        for _ in range(5)
    ]
    middle = [statistics.median(values) for values in zip(*ours, strict=True)]
    limit = [statistics.median(values) for values in zip(*bare, strict=True)]
    return [
        at_most("start-up to the first answer (limit: importing onnxruntime)", middle[0], "ms", limit[0], 150.0),
        at_most("memory, with the model (limit: importing onnxruntime)", middle[1], "MB", limit[1], 60.0),
    ]


def _run(code: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    return float(first), float(second)


def _peer(patterns: Classifier) -> list[Row]:
    """Presidio on the same texts in the same run: its time over ours, and what it finds of our cases."""
    if not PEER.exists():
        return []
    texts = {"2 KB of prose": PROSE[:KIB2], "2 KB full of identifiers": DENSE[:KIB2], "20 KB of prose": PROSE[:KIB20]}
    sets = {"cards": list(cases.cards(3)), "telephone numbers": [c for c in cases.phones() if c.type], "evasions": cases.evasions()}
    asked = {"time": texts, "find": [case.text for part in sets.values() for case in part]}
    done = subprocess.run(
        [PEER, Path(__file__).with_name("presidio_peer.py")], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for name, text in texts.items():
        ours = statistics.median(_microseconds(lambda t=text: patterns.assess([t]), 10) for _ in range(ROUNDS))
        rows.append(
            Row(f"{name}: Presidio's time, over our patterns'", answer["time"][name], "µs", ours, answer["time"][name] / ours)
        )
    rows.append(Row("Presidio's start-up", answer["start_ms"], "ms"))
    rows.append(Row("Presidio's memory", answer["rss_mb"], "MB"))
    found = iter(answer["find"])
    for name, part in sets.items():
        share = sum(any(kind == case.type for _, _, kind in next(found)) for case in part) / len(part)
        mine = sum(any(f.type == case.type for f in patterns.assess([case.text]).findings) for case in part) / len(part)
        rows.append(Row(f"{name}: found by Presidio (limit: by our patterns)", share, "share", mine, share / mine))
    return rows


def _microseconds(work, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls * 1e6
