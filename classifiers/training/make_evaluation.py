"""Writes the labelled set `classifiers/evaluation/generated.jsonl`: the evaluation's own templates, filled with names held out of training.

python -m classifiers.training.make_evaluation [--count 900]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from classifiers.training import generate
from classifiers.training.entities import Entities

HERE = Path(__file__).parents[1] / "evaluation"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=900)
    options = parser.parse_args()
    lines = [line for line in (HERE / "templates.txt").read_text(encoding="utf-8").splitlines() if line and line[0] not in "#@"]
    entities = Entities(77, evaluating=True)
    with (HERE / "generated.jsonl").open("w", encoding="utf-8") as out:
        for n in range(options.count):
            template = generate.Template(lines[n % len(lines)].replace("\\n", "\n").replace("\\t", "\t"), None)
            example = generate.render(template, entities)
            if n % 9 == 8:
                example = generate.Example(
                    example.text.lower() if len(example.text.lower()) == len(example.text) else example.text, example.spans, None
                )
            out.write(json.dumps({"text": example.text, "spans": example.spans}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
