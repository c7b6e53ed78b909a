"""Decoders with random weights, for tests and benchmarks: the way of real models without one. Needs torch and transformers.

    make_decoders.py fixtures OUT              a very small one of each family, fp32 and int4, and one in Hugging Face's own export
    make_decoders.py encoder OUT               an encoder of all-MiniLM-L6's shape, fp32
    make_decoders.py shape tiny|qwen05 OUT     one of 4 million or 494 million parameters, int4 with a pruned head, as a model folder
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", ORT_DISABLE_TELEMETRY="1")

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
IDS = dict(bos_token_id=0, eos_token_id=2, pad_token_id=0)
SMALL = dict(
    vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, tie_word_embeddings=True, **IDS,
)
T = transformers
VOCABULARY = 32_000
"""The most tokens of a tokenizer that is made here: there is not text enough for more."""
FAMILIES = {
    "llama": (T.LlamaConfig, T.LlamaForCausalLM, {}),
    "mistral": (T.MistralConfig, T.MistralForCausalLM, {"head_dim": 16, "sliding_window": None}),
    "qwen2": (T.Qwen2Config, T.Qwen2ForCausalLM, {}),
    "qwen3": (T.Qwen3Config, T.Qwen3ForCausalLM, {"head_dim": 16}),
    "phi3": (T.Phi3Config, T.Phi3ForCausalLM, {"tie_word_embeddings": False, "original_max_position_embeddings": 512}),
    "gemma2": (T.Gemma2Config, T.Gemma2ForCausalLM, {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64}),
    "gemma": (T.GemmaConfig, T.GemmaForCausalLM, {"head_dim": 16}),
}
SHAPES = {
    "tiny": dict(vocab_size=4096, hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
                 max_position_embeddings=4096, tie_word_embeddings=True, **IDS),
    "qwen05": dict(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
                   max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True, **IDS),
}


def tokenizer(out: Path, size: int) -> None:
    """A byte-level BPE over the standard library's own source: permissive text that is on every machine."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    files = sorted(str(path) for path in Path(os.__file__).parent.glob("*.py"))
    made.train(files, trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    wrapped = T.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=["<|im_start|>"])
    wrapped.chat_template = CHATML
    wrapped.save_pretrained(out)


def random_weights(kind: str, settings: dict[str, object], out: Path) -> torch.nn.Module:
    configuration, model_type, own = FAMILIES[kind]
    torch.manual_seed(7)
    model = model_type(configuration(**{**settings, **own, "initializer_range": 0.2 if settings is SMALL else 0.02}))
    with torch.no_grad():
        model.get_input_embeddings().weight[VOCABULARY:] = 0  # the tokenizer has no more: such a token would have no text
    model.save_pretrained(out, safe_serialization=True)
    T.GenerationConfig(**IDS).save_pretrained(out)
    return model


def build(source: Path, out: Path, precision: str, *options: str) -> None:
    """By onnxruntime-genai's builder."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", out, "-p", precision, "-e", "cpu", "-c", out / "cache"]
    subprocess.run([*map(str, command), *(["--extra_options", *options] if options else [])], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(out / "cache", ignore_errors=True)


class Plain(torch.nn.Module):
    """A Llama's arithmetic in ONNX's own operators, its cache handed in and out: the form of Hugging Face's exports."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.m, self.c = model.model, model.config
        self.head = model.lm_head

    def forward(self, input_ids, attention_mask, position_ids, *past):
        c, h = self.c, self.m.embed_tokens(input_ids)
        b, s = input_ids.shape
        width = c.hidden_size // c.num_attention_heads
        frequency = 1.0 / (c.rope_parameters["rope_theta"] ** (torch.arange(0, width, 2).float() / width))
        angles = position_ids[:, :, None].float() * frequency
        cos, sin = (torch.cat([f(angles)] * 2, -1)[:, None] for f in (torch.cos, torch.sin))
        turn = lambda x: x * cos + torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1) * sin
        before = past[0].shape[2]
        allowed = torch.arange(before + s)[None] <= (torch.arange(s) + before)[:, None]
        mask = torch.where(allowed[None, None] & attention_mask[:, None, None].bool(), 0.0, -1e9)
        present = []
        for i, layer in enumerate(self.m.layers):
            x, a = layer.input_layernorm(h), layer.self_attn
            split = lambda y, n: y.view(b, s, n, width).transpose(1, 2)
            q, k, v = split(a.q_proj(x), c.num_attention_heads), split(a.k_proj(x), c.num_key_value_heads), split(a.v_proj(x), c.num_key_value_heads)
            k, v = torch.cat([past[2 * i], turn(k)], 2), torch.cat([past[2 * i + 1], v], 2)
            present += [k, v]
            times = c.num_attention_heads // c.num_key_value_heads
            scores = turn(q) @ k.repeat_interleave(times, 1).transpose(2, 3) / width**0.5 + mask
            h = h + a.o_proj((scores.softmax(-1) @ v.repeat_interleave(times, 1)).transpose(1, 2).reshape(b, s, -1))
            h = h + layer.mlp(layer.post_attention_layernorm(h))
        return self.head(self.m.norm(h)), *present


def plain_export(source: Path, model: torch.nn.Module, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    c = model.config
    names = [f"{i}.{part}" for i in range(c.num_hidden_layers) for part in ("key", "value")]
    past = [torch.zeros(2, c.num_key_value_heads, 3, c.hidden_size // c.num_attention_heads) for _ in names]
    example = (torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 7, dtype=torch.long), torch.arange(3, 7)[None].repeat(2, 1), *past)
    axes = {"input_ids": {0: "batch", 1: "s"}, "attention_mask": {0: "batch", 1: "total"}, "position_ids": {0: "batch", 1: "s"}, "logits": {0: "batch", 1: "s"}}
    axes |= {f"past_key_values.{n}": {0: "batch", 2: "past"} for n in names} | {f"present.{n}": {0: "batch", 2: "total"} for n in names}
    torch.onnx.export(
        Plain(model).eval(), example, str(out / "model.onnx"), dynamo=False, opset_version=17, dynamic_axes=axes,
        input_names=["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{n}" for n in names)],
        output_names=["logits", *(f"present.{n}" for n in names)])
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(source / name, out / name)


def fixtures(out: Path) -> None:
    work = out / "work"
    for kind in FAMILIES:
        source = work / kind
        model = random_weights(kind, SMALL, source)
        tokenizer(source, SMALL["vocab_size"])
        if kind == "llama":
            build(source, out / f"{kind}-fp32", "fp32")
        build(source, out / f"{kind}-int4", "int4", *(["prune_lm_head=true"] if kind == "qwen2" else []))
        if kind == "llama":
            plain_export(source, model, out / "llama-plain")
    shutil.rmtree(work)


def shape(name: str, out: Path) -> None:
    source = out.with_name(out.name + "-source")
    random_weights("qwen2", SHAPES[name], source)
    tokenizer(source, min(VOCABULARY, SHAPES[name]["vocab_size"]))
    build(source, out, "int4", "prune_lm_head=true", "block_size=128")


class Encoder(torch.nn.Module):
    """A BERT's token vectors."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def encoder(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    settings = T.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, vocab_size=4096)
    ids, axes = torch.ones(2, 8, dtype=torch.long), {0: "batch", 1: "sequence"}
    torch.onnx.export(
        Encoder(T.BertModel(settings, add_pooling_layer=False).eval()), (ids, ids), str(out / "model.onnx"), dynamo=False, opset_version=17,
        input_names=["input_ids", "attention_mask"], output_names=["hidden"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes})
    tokenizer(out, 4096)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fixtures", out]:
            fixtures(Path(out))
        case ["encoder", out]:
            encoder(Path(out))
        case ["shape", name, out]:
            shape(name, Path(out))
