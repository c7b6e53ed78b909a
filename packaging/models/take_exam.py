"""Asks the models that ship the questions that were held out of their training, through the agent's own engines.

    .venv/bin/python packaging/models/take_exam.py packaging/models/repository
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import dataset
import numpy as np
from edge_agent.inference.opening import Resources
from edge_agent.inference.port import Caller
from edge_agent.inference.repository.folder import ModelsFolder
from edge_agent.inference.repository.lifecycle import Loaded, Repository
from orchestrator.distribution import packages as distribution
from sync.crypto import signing
from sync.wire import tasks

EXAMINER = Caller("exam")


async def main(folder: Path) -> int:
    """Over a copy, signed by a hub that lives no longer than this."""
    hub = signing.Signer(signing.new_seed())
    with tempfile.TemporaryDirectory() as copy:
        models = Path(copy) / "models"
        shutil.copytree(folder, models)
        for path in models.glob("*/*/manifest.json"):
            distribution.sign(path.parent, hub)
        found = Repository(ModelsFolder(models), hub=hub.public_key, resources=Resources())
        found.scan()
        async with found.lease("guide") as guide, found.lease("guide-embed") as encoder:
            passed = await examine(guide, encoder)
        await found.close()
    return 0 if passed else 1


async def examine(guide: Loaded, encoder: Loaded) -> bool:
    answers = {pair.key: pair.answer for pair in dataset.pairs()}
    right = honest = 0
    for key, question in dataset.exam():
        asked = tasks.Generate(messages=(tasks.Message(tasks.Role.USER, question),), max_tokens=80)
        said = (await guide.engine.run(asked, None, EXAMINER)).text
        if said == answers[key]:
            right += key != dataset.OFF_TOPIC
            honest += key == dataset.OFF_TOPIC
        else:
            print(f"wrong: {question} -> {said}")
    asked = [row for row in dataset.exam() if row[0] != dataset.OFF_TOPIC]
    known = [(p.key, q) for p in dataset.pairs() if p.key != dataset.OFF_TOPIC for q in p.phrasings if "{" not in q]
    bank, queries = await _vectors(encoder, [q for _, q in known]), await _vectors(encoder, [q for _, q in asked])
    nearest = (queries @ bank.T).argmax(axis=1)
    near = sum(known[j][0] == asked[i][0] for i, j in enumerate(nearest))
    off = len(dataset.exam()) - len(asked)
    print(f"guide: {right} of {len(asked)} held-out questions right, {honest} of {off} off-topic ones answered honestly")
    print(f"guide-embed: the nearest known question is of the right pair for {near} of {len(asked)}")
    return right >= 54 and honest == off


async def _vectors(encoder: Loaded, texts: list[str]) -> np.ndarray:
    answer = (await encoder.engine.run(tasks.Embed(tuple(texts)), None, EXAMINER)).answer
    if not isinstance(answer, tasks.Embedded):
        raise TypeError(type(answer).__name__)
    return np.frombuffer(answer.vectors, dtype="<f4").reshape(len(texts), -1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
