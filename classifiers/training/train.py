"""Trains the tagger: fresh generated text each epoch beside the corpora, scores on what was held out, a checkpoint each epoch.

python -m classifiers.training.train --data DATA --out OUT [--epochs N] [--size N]
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classifiers.ner import features, tags
from classifiers.training import corpora, generate
from classifiers.training.entities import Entities
from classifiers.training.network import Tagger

IGNORED = -1
LONGEST = 256
"""Words of an example; a longer one is cut."""
BATCH_WORDS = 5_000
MOST_NOISE = 0.25
AVERAGED = 0.998
"""What is kept is a moving average of the weights."""
REPEATS = {"btc": 1, "wikigold": 2, "wnut17": 2, "sec": 1, "meddocan": 1, "pii-anon": 1}
"""How often a corpus is read in an epoch."""


@dataclass(slots=True)
class Row:
    """An example as the network reads it. `open`: the types that its plain text may hold all the same, as tag numbers."""

    hashes: Any
    shapes: Any
    tags: Any
    open: tuple[int, ...]
    level: int


def row(example: generate.Example, unmarked: frozenset[str] = frozenset()) -> Row:
    """The features and tags of an example."""
    spans = features.words(example.text)[:LONGEST]
    hashes, shapes = features.encode(example.text, spans)
    labels = np.zeros(len(spans), dtype=np.int64)
    starts = [start for start, _ in spans]
    for start, end, label in example.spans:
        first = int(np.searchsorted(starts, start))
        inside = [i for i in range(first, len(spans)) if spans[i][0] < end]
        for place, i in enumerate(inside):
            if label == generate.UNKNOWN:
                labels[i] = IGNORED
            else:
                kind = tags.TYPES.index(label)
                labels[i] = tags.begin(kind) if place == 0 else tags.inside(kind)
    opened = tuple(
        t for name in sorted(unmarked) for t in (tags.begin(tags.TYPES.index(name)), tags.inside(tags.TYPES.index(name)))
    )
    return Row(hashes, shapes, labels, opened, IGNORED if example.level is None else example.level)


def batches(rows: Sequence[Row], rng: random.Random) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """(hashes, shapes, tags, open, levels, mask), rows of like length together, in random order."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].tags) + rng.random() * 4, rng.random()))
    groups: list[list[int]] = [[]]
    for i in order:
        if groups[-1] and (len(groups[-1]) + 1) * len(rows[i].tags) > BATCH_WORDS:
            groups.append([])
        groups[-1].append(i)
    rng.shuffle(groups)
    for group in groups:
        yield padded([rows[i] for i in group])


def padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One batch, filled on the right."""
    width, count = max(1, *(len(r.tags) for r in rows)), len(rows)
    hashes = np.zeros((count, width, features.HASHES), np.int64)
    shapes = np.zeros((count, width), np.int64)
    labels = np.full((count, width), IGNORED, np.int64)
    opened = np.zeros((count, tags.COUNT), np.float32)
    mask = np.zeros((count, width, 1), np.float32)
    for i, r in enumerate(rows):
        n = len(r.tags)
        hashes[i, :n], shapes[i, :n], labels[i, :n], mask[i, :n] = r.hashes, r.shapes, r.tags, 1
        opened[i, list(r.open)] = 1
    levels = np.array([r.level for r in rows])
    return tuple(torch.from_numpy(a) for a in (hashes, shapes, labels, opened, levels, mask))  # type: ignore[return-value]


def noisy(hashes: Tensor) -> Tensor:
    """The words with some of them, up to a quarter, spelled at random: what a text is about must not hang on single words."""
    chosen = torch.rand(hashes.shape[:2]) < torch.rand(hashes.shape[0], 1) * MOST_NOISE
    noise = torch.randint(0, features.ROWS, (int(chosen.sum()), features.HASHES))
    hashes = hashes.clone()
    hashes[chosen] = noise
    return hashes


def losses(logits: Tensor, scores: Tensor, labels: Tensor, opened: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """(tag loss, level loss). Plain words of a corpus that does not mark a type may be of it: their loss is the negative log of the
    sum over all allowed tags (marginal likelihood of partial labels)."""
    likely = functional.log_softmax(logits.float(), -1)
    known = labels != IGNORED
    chosen = likely.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    allowed = opened.clone()
    allowed[:, tags.OUTSIDE] = 1
    plain = torch.logsumexp(likely + torch.log(allowed + 1e-9)[:, None], -1)
    by_word = torch.where(labels == tags.OUTSIDE, plain, chosen)
    weight = torch.where(labels > 0, 1.5, 1.0) * known
    tag_loss = -(by_word * weight).sum() / weight.sum().clamp(min=1)
    scored = levels >= 0
    if not scored.any():
        return tag_loss, tag_loss * 0
    wanted = (levels[scored, None] > torch.arange(len(tags.SUBJECTS))[None]).float() * 0.98 + 0.01
    return tag_loss, functional.binary_cross_entropy_with_logits(scores.float()[scored], wanted)


def decoded(labels: Iterable[int]) -> set[tuple[int, int, int]]:
    """Spans (first word, last word + 1, type) of BIO tags; an inside without its begin begins."""
    found = set()
    start, kind = 0, -1
    for i, tag in enumerate(itertools.chain(labels, (tags.OUTSIDE,))):
        now = (tag - 1) // 2 if tag > 0 else -1
        begins = tag > 0 and (tag - 1) % 2 == 0
        if kind >= 0 and (now != kind or begins):
            found.add((start, i, kind))
            kind = -1
        if now >= 0 and kind < 0:
            start, kind = i, now
    return found


@torch.no_grad()
def scores(model: Tagger, rows: Sequence[Row], only: frozenset[str]) -> dict[str, float]:
    """Exact-span F1 by type and for all, and the level's accuracy."""
    model.eval()
    hit, made, gold = (dict.fromkeys(tags.TYPES, 0) for _ in range(3))
    right = graded = 0
    for at in range(0, len(rows), 64):
        part = rows[at : at + 64]
        hashes, shapes, labels, _, _, mask = padded(part)
        logits, subject = model(hashes, shapes, mask)
        best = logits.argmax(-1)
        predicted_levels = (subject > 0).sum(-1)
        for i, r in enumerate(part):
            n = len(r.tags)
            ignored = {k for k in range(n) if r.tags[k] == IGNORED}
            want = decoded([max(0, int(t)) for t in labels[i, :n]])
            have = {s for s in decoded([int(t) for t in best[i, :n]]) if not ignored & set(range(s[0], s[1]))}
            for name, spans in ((tags.TYPES[s[2]], s) for s in have):
                if name in only:
                    made[name] += 1
                    hit[name] += spans in want
            for s in want:
                gold[tags.TYPES[s[2]]] += tags.TYPES[s[2]] in only
            if r.level >= 0:
                graded += 1
                right += int(predicted_levels[i]) == r.level
    model.train()
    result = {n: 2 * hit[n] / (made[n] + gold[n]) for n in tags.TYPES if gold[n]}
    result["all"] = 2 * sum(hit.values()) / max(1, sum(made.values()) + sum(gold.values()))
    if graded:
        result["level"] = right / graded
    return {name: round(value, 3) for name, value in result.items()}


def fresh(root: Path, seed: int, size: int, entities: Entities, rng: random.Random) -> list[Row]:
    """An epoch's rows."""
    entities.rng.seed(seed)
    rows = [row(example) for example in generate.examples(size, entities)]
    for name, times in REPEATS.items():
        unmarked = corpora.unmarked(name)
        for example in corpora.read(root, name, evaluating=False):
            for turn in range(times):
                rows.append(row(example if turn == 0 else generate.untidy(example, rng), unmarked))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=160_000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--from", dest="start", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    rng = random.Random(1)
    extra = {"gazetteer": corpora.gazetteer(options.data), "wiki": corpora.sentences(options.data)}
    entities = Entities(11, **extra)  # type: ignore[arg-type]
    unseen = Entities(12, evaluating=True)
    tests = {
        name: [row(e) for e in corpora.read(options.data, name, evaluating=True)][:1500] for name in ("wikigold", "wnut17", "btc")
    }
    generated = [row(e) for e in generate.examples(3_000, unseen, evaluating=True)]
    model = Tagger()
    if options.start:
        model.load_state_dict(torch.load(options.start))
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), options.rate, weight_decay=0.01)
    began, step = time.time(), 0
    for epoch in range(options.epochs):
        rows = fresh(options.data, 1000 + epoch + int(options.rate * 1e6), options.size, entities, rng)
        total = level_total = 0.0
        for count, (hashes, shapes, labels, opened, levels, mask) in enumerate(batches(rows, rng), 1):
            step += 1
            done = (epoch + count * BATCH_WORDS / max(1, sum(len(r.tags) for r in rows[:2000]) / 2000 * len(rows))) / options.epochs
            done = max(done, (time.time() - began) / 60 / options.minutes)
            for group in optimizer.param_groups:
                group["lr"] = options.rate * min(1, step / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, done))))
            with torch.autocast("cpu", torch.bfloat16):
                logits, subject = model(noisy(hashes), shapes, mask)
            tag_loss, level_loss = losses(logits, subject, labels, opened, levels)
            optimizer.zero_grad()
            (tag_loss + 0.3 * level_loss).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                for kept, now in zip(average.parameters(), model.parameters(), strict=True):
                    kept.lerp_(now, 1 - AVERAGED)
            total, level_total = total + float(tag_loss.detach()), level_total + float(level_loss.detach())
        torch.save(average.state_dict(), options.out / "tagger.pt")
        names = frozenset({"PERSON", "ORGANIZATION", "LOCATION"})
        told = {name: scores(average, part, names) for name, part in tests.items()}
        print(f"epoch {epoch} {time.time() - began:.0f} s loss {total / count:.4f} level {level_total / count:.4f}", flush=True)
        print("  generated", scores(average, generated, frozenset(tags.TYPES)), flush=True)
        print("  ", told, flush=True)
        if done >= 1:
            break


if __name__ == "__main__":
    main()
