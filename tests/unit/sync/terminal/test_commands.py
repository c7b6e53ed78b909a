"""What a command line says where it fails, and with which exit code."""

from __future__ import annotations

import pytest

from sync.kit import errors
from sync.terminal import commands


def _refuses() -> None:
    raise errors.Misconfigured("The file x is missing: make it.")


def _breaks() -> None:
    raise ValueError("the prompt was: my secret")


def test_what_is_refused_is_one_sentence_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(_refuses)
    assert ended.value.code == 2 and capsys.readouterr().err == "The file x is missing: make it.\n"


def test_a_fault_of_ours_says_its_kind_and_place_and_nothing_of_what_it_was_about(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(_breaks)
    told = capsys.readouterr().err
    assert ended.value.code == 70 and "ValueError at test_commands.py:" in told
    assert "secret" not in told and "Traceback" not in told


def test_a_person_may_see_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(commands.SHOW, "1")
    with pytest.raises(ValueError, match="my secret"):
        commands.main(_breaks)
