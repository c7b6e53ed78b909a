"""Trains `guide-embed`, the small sentence encoder (about 1.7 M parameters), and exports it to ONNX in int8.

    python packaging/models/train_embed.py TOKENIZER_FOLDER OUT --minutes 10

Contrastive (InfoNCE with in-batch negatives, van den Oord 2018): two phrasings of one question, or a phrasing and its
answer, are near; everything else in the batch is far. Prints the retrieval accuracy on the exam's questions: how often
the nearest training phrasing belongs to the right pair.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", ORT_DISABLE_TELEMETRY="1")
sys.path.insert(0, str(Path(__file__).parent))

import dataset  # noqa: E402 - a script: its folder comes first on the path
import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402
import torch  # noqa: E402
from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers import BertConfig, BertModel  # noqa: E402

WIDTH = 128


class Encoder(torch.nn.Module):
    """BERT-like; token vectors out, pooled by the reader as the manifest says."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bert = BertModel(BertConfig(
            vocab_size=vocabulary, hidden_size=192, num_hidden_layers=3, num_attention_heads=6, intermediate_size=576,
            max_position_embeddings=512, pad_token_id=0, attn_implementation="eager"), add_pooling_layer=False)

    def forward(self, input_ids, attention_mask):
        return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def encode(tok: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = [e.ids[:WIDTH] for e in tok.encode_batch(texts)]
    width = max(map(len, encoded))
    ids = torch.tensor([e + [0] * (width - len(e)) for e in encoded])
    mask = torch.tensor([[1] * len(e) + [0] * (width - len(e)) for e in encoded])
    return ids, mask


def pool(hidden, mask):
    m = mask.unsqueeze(-1).float()
    return torch.nn.functional.normalize((hidden * m).sum(1) / m.sum(1), dim=-1)


def accuracy(vectors) -> float:
    """Share of the exam's on-topic questions whose nearest training phrasing belongs to the right pair."""
    known = [(p.key, q) for p in dataset.pairs() if p.key != dataset.OFF_TOPIC for q in p.phrasings if "{" not in q]
    asked = [(k, q) for k, q in dataset.exam() if k != dataset.OFF_TOPIC]
    bank, query = vectors([q for _, q in known]), vectors([q for _, q in asked])
    nearest = (query @ bank.T).argmax(1)
    return float(np.mean([known[j][0] == asked[i][0] for i, j in enumerate(nearest)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    rng = random.Random(0)
    tok = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    model = Encoder(tok.get_vocab_size())
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.02)
    found = [p for p in dataset.pairs() if len(p.phrasings) > 1 and p.key != dataset.OFF_TOPIC]
    began, step, budget = time.monotonic(), 0, args.minutes * 60
    while (spent := time.monotonic() - began) < budget:
        group = rng.sample(found, 96)
        left, right = [], []
        for p in group:
            a, b = rng.sample(p.phrasings, 2)
            left.append(dataset.vary(a, rng))
            right.append(p.answer if rng.random() < 0.3 else dataset.vary(b, rng))
        for g in optimizer.param_groups:
            g["lr"] = 6e-4 * min(1, (step + 1) / 50) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * spent / budget)))
        ids, mask = encode(tok, left + right)
        v = pool(model(ids, mask), mask)
        sims = v[: len(group)] @ v[len(group) :].T / 0.06
        target = torch.arange(len(group))
        loss = (torch.nn.functional.cross_entropy(sims, target) + torch.nn.functional.cross_entropy(sims.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step} {spent:.0f} s loss {loss.item():.4f}", flush=True)
    model.eval()

    def by_torch(texts: list[str]) -> np.ndarray:
        with torch.no_grad():
            ids, mask = encode(tok, texts)
            return pool(model(ids, mask), mask).numpy()

    print(f"retrieval accuracy, torch: {accuracy(by_torch):.3f}")
    ids, mask = encode(tok, ["what is a zone", "what is the hub of ringfence"])
    axes = {0: "batch", 1: "sequence"}
    torch.onnx.export(model, (ids, mask), str(args.out / "fp32.onnx"), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["last_hidden_state"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "last_hidden_state": axes})
    quantize_dynamic(str(args.out / "fp32.onnx"), str(args.out / "model.onnx"), per_channel=True, weight_type=QuantType.QInt8)
    session = ort.InferenceSession(str(args.out / "model.onnx"), providers=["CPUExecutionProvider"])

    def by_onnx(texts: list[str]) -> np.ndarray:
        ids, mask = encode(tok, texts)
        (hidden,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})
        return pool(torch.from_numpy(hidden), mask).numpy()

    print(f"retrieval accuracy, int8 ONNX: {accuracy(by_onnx):.3f}")
    (args.out / "fp32.onnx").unlink()
    shutil.copy(args.tokenizer / "tokenizer.json", args.out / "tokenizer.json")


if __name__ == "__main__":
    main()
