"""A file for llama.cpp of the same shape as make_decoders.py's models, with random weights in Q4_0: for make bench. Needs gguf and torch.

    make_gguf.py SOURCE OUT.gguf      SOURCE: the Hugging Face folder that make_decoders.py has left beside its model
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def target(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def main(source: Path, out: Path) -> None:
    c = json.loads((source / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "qwen2")
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_freq_base(c.get("rope_theta") or c.get("rope_parameters", {}).get("rope_theta", 10000.0))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    byid = {i: t for t, i in tokens.items()}
    writer.add_token_list([byid.get(i, f"<unused{i}>") for i in range(c["vocab_size"])])
    writer.add_token_types([1] * c["vocab_size"])
    writer.add_token_merges(["Ġ t"])
    writer.add_eos_token_id(2)
    with safe_open(source / "model.safetensors", "np") as file:
        for name in file.keys():
            array = file.get_tensor(name).astype(np.float32)
            if array.ndim == 2:
                packed = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q4_0)
                writer.add_tensor(target(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
            else:
                writer.add_tensor(target(name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
