"""Trains `guide`, the demonstration decoder (about 4 M parameters), and leaves a Hugging Face folder for the builder.

    python packaging/models/train_guide.py OUT --minutes 30
    python -m onnxruntime_genai.models.builder -i OUT -o OUT-int8 -p int8 -e cpu -c CACHE

Needs torch and transformers, which nothing else of Ringfence does.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", ORT_DISABLE_TELEMETRY="1")
sys.path.insert(0, str(Path(__file__).parent))

import dataset  # noqa: E402 - a script: its folder comes first on the path
import torch  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM  # noqa: E402

VOCABULARY = 3072
END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
# guide answers one question at a time, so its template shows it the last one only.
TEMPLATE = (
    "{% set last = (messages | selectattr('role', 'equalto', 'user') | list | last) %}"
    "{{ '<|im_start|>user\n' + last['content'] + '<|im_end|>\n<|im_start|>assistant\n' }}"
)


def tokenizer(out: Path) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the questions and answers, written to `out`."""
    rng = random.Random(1)
    texts = [p.answer for p in dataset.pairs()] * 3
    texts += [dataset.vary(q, rng) for p in dataset.pairs() for q in p.phrasings for _ in range(6)]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    special = [PAD, START, END]
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tok = PreTrainedTokenizerFast(tokenizer_object=t, eos_token=END, pad_token=PAD, bos_token=None, additional_special_tokens=[START])
    tok.chat_template = TEMPLATE
    tok.save_pretrained(out)
    return tok


def rows(tok: PreTrainedTokenizerFast, rng: random.Random) -> list[tuple[list[int], list[int]]]:
    """One epoch: each phrasing varied two to six times. (question ids, answer ids) each."""
    found = []
    for pair in dataset.pairs():
        answer = tok.encode(pair.answer + END, add_special_tokens=False)
        # What everybody asks first, and what is shown with many values, is learnt more often.
        times = 6 if pair.key == "what-is" else 4 if "{" in "".join(pair.phrasings[:2]) else 3 if pair.key == dataset.OFF_TOPIC else 2
        for phrasing in pair.phrasings:
            for _ in range(times):
                question = f"{START}user\n{dataset.vary(phrasing, rng)}{END}\n{START}assistant\n"
                ids = tok.encode(question, add_special_tokens=False)
                # A short question has no word to spare: without it, it would be another question.
                found.append((blurred(ids, len(tok), rng) if phrasing.count(" ") >= 4 else ids, answer))
    rng.shuffle(found)
    found.sort(key=lambda r: (len(r[0]) + len(r[1])) // 12)
    return found


def blurred(ids: list[int], vocabulary: int, rng: random.Random) -> list[int]:
    """The question with some of its tokens lost or replaced, so that no single word decides the answer."""
    kept = []
    for place, i in enumerate(ids):
        chance = rng.random()
        if 3 <= place < len(ids) - 5 and chance < 0.14:
            if chance < 0.07:
                kept.append(rng.randrange(3, vocabulary))
            continue
        kept.append(i)
    return kept


def batches(found, size, rng):
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    rng.shuffle(groups)
    for group in groups:
        width = max(len(q) + len(a) for q, a in group)
        ids = torch.zeros(len(group), width, dtype=torch.long)
        labels = torch.full((len(group), width), -100)
        mask = torch.zeros(len(group), width, dtype=torch.long)
        for i, (q, a) in enumerate(group):
            n = len(q) + len(a)
            ids[i, :n] = torch.tensor(q + a)
            labels[i, len(q) : n] = torch.tensor(a)
            mask[i, :n] = 1
        yield ids, mask, labels


@torch.no_grad()
def score(model, tok) -> tuple[int, int, list[str]]:
    """(right on topic, honest off topic, the wrong ones) over the exam, greedy."""
    answers = {p.key: p.answer for p in dataset.pairs()}
    model.eval()
    right = honest = 0
    wrong = []
    for key, question in dataset.exam():
        ids = tok(f"{START}user\n{question}{END}\n{START}assistant\n", return_tensors="pt", add_special_tokens=False).input_ids
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=80, do_sample=False, pad_token_id=0, eos_token_id=2)
        said = tok.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        if said == answers[key]:
            right += key != dataset.OFF_TOPIC
            honest += key == dataset.OFF_TOPIC
        else:
            wrong.append(f"{question} -> {said[:70]}")
    model.train()
    return right, honest, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--start", type=Path, help="a folder of an earlier run to go on from")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="the highest learning rate")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    rng = random.Random(0)
    if args.start:
        tok = PreTrainedTokenizerFast.from_pretrained(args.start)
        tok.save_pretrained(args.out)
    else:
        tok = tokenizer(args.out)
    model = Qwen2ForCausalLM.from_pretrained(args.start) if args.start else Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tok), hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True, attention_dropout=0.1,
        bos_token_id=0, eos_token_id=2, pad_token_id=0))
    print(f"{len(dataset.pairs())} pairs, vocabulary {len(tok)}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.05)
    began, step, epoch = time.monotonic(), 0, 0
    budget = args.minutes * 60
    while (spent := time.monotonic() - began) < budget:
        total, count = 0.0, 0
        for ids, mask, labels in batches(rows(tok, rng), 48, rng):
            done = min(1.0, (time.monotonic() - began) / budget)
            warm = min(1.0, (step + 1) / 100)
            for group in optimizer.param_groups:
                group["lr"] = args.rate * warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * done)))
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total, count, step = total + loss.item(), count + 1, step + 1
            if done >= 1.0:
                break
        epoch += 1
        right, honest, wrong = score(model, tok) if epoch % 6 == 0 else (0, 0, [])
        print(f"epoch {epoch} step {step} {spent:.0f} s loss {total / count:.4f} exam {right}/60 honest {honest}/10", *wrong, sep="\n  ", flush=True)
    right, honest, wrong = score(model, tok)
    print(f"exam {right}/60, honest {honest}/10", *wrong, sep="\n", flush=True)
    model.save_pretrained(args.out, safe_serialization=True)
    GenerationConfig(bos_token_id=0, eos_token_id=2, pad_token_id=0).save_pretrained(args.out)


if __name__ == "__main__":
    main()
