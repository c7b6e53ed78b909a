"""The trained tagger as an ONNX file: its table of hash embeddings in eight bits, the rest in 32.

python -m classifiers.training.export --from OUT/tagger.pt --to classifiers/ner/tagger.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from classifiers.ner import features, tags
from classifiers.training.network import Tagger

OPSET = 17


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="source", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    model = Tagger().eval()
    model.load_state_dict(torch.load(options.source))
    hashes = torch.zeros((1, 5, features.HASHES), dtype=torch.int32)
    shapes = torch.zeros((1, 5), dtype=torch.int32)
    torch.onnx.export(
        model, (hashes, shapes), str(options.to), input_names=["hashes", "shapes"], output_names=["tags", "scores"], opset_version=OPSET, dynamo=False,
        dynamic_axes={"hashes": {0: "batch", 1: "words"}, "shapes": {0: "batch", 1: "words"}, "tags": {0: "batch", 1: "words"}, "scores": {0: "batch"}},
    )  # fmt: skip
    graph = eight_bits(onnx.load(options.to))
    graph.producer_name = "ringfence"
    for key, value in (("types", " ".join(tags.TYPES)), ("subjects", " ".join(tags.SUBJECTS))):
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(graph, options.to)
    print(f"{options.to}: {options.to.stat().st_size / 1e6:.1f} MB")


def eight_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the large embedding table in int8 and one scale: rows are gathered first and widened after."""
    graph = model.graph
    table = next(t for t in graph.initializer if list(t.dims)[:1] == [features.ROWS])
    values = numpy_helper.to_array(table)
    scale = np.float32(np.quantile(np.abs(values), 0.9999) / 127)
    packed = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
    print(f"largest error of an embedding {np.abs(packed * scale - values).max():.4f}, typical value {np.abs(values).mean():.4f}")
    table.CopyFrom(numpy_helper.from_array(packed, table.name))
    scale_name = "table.scale"
    graph.initializer.append(numpy_helper.from_array(np.array(scale), scale_name))
    for place, node in enumerate(graph.node):
        if node.op_type == "Gather" and node.input[0] == table.name:
            wide, output = f"{node.output[0]}.wide", node.output[0]
            node.output[0] = f"{output}.packed"
            graph.node.insert(place + 1, helper.make_node("Cast", [node.output[0]], [wide], to=onnx.TensorProto.FLOAT))
            graph.node.insert(place + 2, helper.make_node("Mul", [wide, scale_name], [output]))
            break
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    main()
