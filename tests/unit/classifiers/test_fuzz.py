"""A short run of the coverage-guided fuzzer, where atheris is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_no_bytes_make_the_classifier_fail() -> None:
    pytest.importorskip("atheris")
    done = subprocess.run(
        [sys.executable, ROOT / "tests/fuzz/fuzz_classifier.py", "-runs=3000", "-max_len=600", "-seed=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
