"""`ringfence classify` as its users run it: files, pipes, JSON lines, and what is none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from classifiers import cli
from classifiers.evaluation import __main__ as evaluation
from classifiers.evaluation import spans

ROOT = Path(__file__).parents[3]


def classify(*arguments: str, given: bytes = b"") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "classifiers", *arguments], input=given, cwd=ROOT, capture_output=True, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_text_is_shown_with_its_level_and_findings(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Anna, your card 4111 1111 1111 1111 was declined.\n")
    code, out, _ = classify(str(file), "--explain")
    assert code == 0
    assert "letter.txt: restricted" in out.replace("\n", "")
    assert "CREDIT" in out and "finance" in out
    code, out, _ = classify(given=b"What is the capital of France?")
    assert (code, out.splitlines()[0]) == (0, "standard input: public")


def test_lines_in_give_lines_out_in_their_order() -> None:
    lines = [{"id": n, "text": f"mail user{n}@bank.test"} for n in range(300)]
    code, out, _ = classify("--jsonl", given="\n".join(map(json.dumps, lines)).encode())
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [a["id"] for a in answers] == list(range(300))
    assert answers[7]["level"] == "internal"
    assert answers[7]["model"] == "ran"
    assert answers[7]["findings"][0] == {
        "start": 5,
        "end": 20,
        "type": "EMAIL_ADDRESS",
        "score": 0.95,
        "recognizer": "contact.email",
    }


def test_a_text_that_is_too_long_for_the_model_is_said_to_be_in_every_form(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("Nothing happened. " * 6_000)
    for options in ((), ("--explain",)):
        code, out, _ = classify(str(file), *options)
        assert code == 0 and "restricted" in out.splitlines()[0] and "over_budget: " in out
    _, out, _ = classify("--jsonl", given=json.dumps({"id": 1, "text": file.read_text()}).encode())
    assert (json.loads(out)["level"], json.loads(out)["model"]) == ("restricted", "over_budget")


def test_a_line_that_is_no_json_is_told_and_the_others_are_answered() -> None:
    code, out, err = classify(
        "--jsonl", given=b'{"id": 1, "text": "hi"}\n{oops\n\xff\xfe\n{"id": 2, "text": 3}\n{"id": 3, "text": "\\ud800 a@b.com"}\n'
    )
    answers = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (1, "")
    assert [a.get("line") for a in answers] == [None, 2, 3, 4, None]
    assert answers[-1]["findings"][0]["type"] == "EMAIL_ADDRESS"


def test_a_file_that_is_not_there_is_one_sentence() -> None:
    code, _, err = classify("/nowhere/at/all")
    assert (code, err) == (2, "The file /nowhere/at/all cannot be read (No such file or directory).\n")
    code, _, err = classify("--jsonl", "/nowhere/at/all")
    assert (code, err.count("\n")) == (2, 1)


def test_bytes_that_are_no_utf_8_are_read_all_the_same() -> None:
    code, out, _ = classify(given=b"\xff\xfe card 4111111111111111 \x80")
    assert code == 0
    assert "restricted" in out


RUN = CliRunner()


def command(function: Callable[..., None], *arguments: str, given: str = "") -> Result:
    app = typer.Typer()
    app.command()(function)
    return RUN.invoke(app, list(arguments), input=given)


def test_the_command_reads_several_files_and_needs_no_model(tmp_path: Path) -> None:
    for name, text in (("a.txt", "card 4111111111111111"), ("b.txt", "hello")):
        (tmp_path / name).write_text(text)
    done = command(cli.classify, str(tmp_path / "a.txt"), str(tmp_path / "b.txt"), "--no-model")
    assert done.exit_code == 0
    assert "a.txt: restricted" in done.output.replace("\n", "") and "b.txt: public" in done.output.replace("\n", "")
    done = command(cli.classify, "--explain", given="born 1984-03-12, patient with breast cancer")
    assert "whole" in done.output or "DATE" in done.output
    (tmp_path / "c.jsonl").write_text('{"id": "x", "text": "TLP:RED"}\n\n[]\n')
    done = command(cli.classify, "--jsonl", str(tmp_path / "c.jsonl"))
    assert done.exit_code == 1
    assert [json.loads(line).get("level") for line in done.output.splitlines()] == ["restricted", None]


def test_own_labelled_text_is_scored_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "mail a@b.com now", "spans": [[5, 12, "MAIL"]]}\n')
    (tmp_path / "map.json").write_text('{"MAIL": "EMAIL_ADDRESS"}')
    done = command(evaluation.main, "--jsonl", str(tmp_path / "a.jsonl"), "--labels", str(tmp_path / "map.json"), "--no-model")
    assert done.exit_code == 0, done.output
    assert "EMAIL_ADDRESS" in done.output and "F2 1.000" in done.output
    (tmp_path / "map.json").write_text("[1]")
    done = command(evaluation.main, "--jsonl", str(tmp_path / "a.jsonl"), "--labels", str(tmp_path / "map.json"))
    assert isinstance(done.exception, spans.BadSet)


def test_all_scores_are_told_with_their_targets() -> None:
    done = command(evaluation.main, "--wrong")
    assert done.exit_code == 0, done.output
    for name in evaluation.TARGETS:
        assert name in done.output
