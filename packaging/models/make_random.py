"""A Qwen2 with random weights and a tokenizer, as a Hugging Face folder: to try the way of a real model without one.

    python packaging/models/make_random.py TOKENIZER_FOLDER OUT           (needs torch and transformers)
    python -m onnxruntime_genai.models.builder -i OUT -o BUILT -p int4 -e cpu -c CACHE
    python packaging/models/make_random.py --reference BUILT "some prompt" 24      what onnxruntime-genai's own generator says
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", ORT_DISABLE_TELEMETRY="1")


def make(tokenizer: Path, out: Path) -> None:
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    special = dict(bos_token_id=0, eos_token_id=2, pad_token_id=0)
    Qwen2ForCausalLM(Qwen2Config(
        vocab_size=3072, hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=2,
        max_position_embeddings=4096, tie_word_embeddings=True, **special)).save_pretrained(out)
    GenerationConfig(**special).save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / name, out / name)


def reference(folder: Path, prompt: str, tokens: int) -> None:
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    tokenizer = og.Tokenizer(model)
    ids = tokenizer.encode(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + tokens, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(ids)
    while not generator.is_done():
        generator.generate_next_token()
    print(repr(tokenizer.decode(generator.get_sequence(0)[len(ids) :])))


if __name__ == "__main__":
    if sys.argv[1] == "--reference":
        reference(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        make(Path(sys.argv[1]), Path(sys.argv[2]))
