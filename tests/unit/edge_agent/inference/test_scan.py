"""Hostile and damaged model files: each is refused by name before anything of it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_agent.inference import scan
from edge_agent.inference.generate import config
from edge_agent.inference.manifest import BadFolder
from tests.support.modelling import DECODERS

GOOD = (DECODERS / "llama-int4" / "model.onnx").read_bytes()


def file_of(*nodes: onnx.NodeProto, domains: tuple[str, ...] = (), **fields: object) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph(list(nodes) or [helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y], **fields)
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def external(location: str, *, offset: int = 0, length: int = 4) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def within(node: onnx.NodeProto, depth: int = 1) -> onnx.NodeProto:
    """The node in a branch of an If, so deep."""
    for _ in range(depth):
        graph = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)
    return node


def function_with(node: onnx.NodeProto) -> onnx.ModelProto:
    made = file_of()
    made.functions.append(helper.make_function("com.microsoft", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))
    return made


FOREIGN = helper.make_node("Run", ["x"], ["y"], domain="evil.corp")
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "an operator of a foreign domain": (lambda: file_of(FOREIGN), "evil.corp"),
    "a foreign domain that is only imported": (lambda: file_of(domains=("evil.corp",)), "evil.corp"),
    "a foreign operator within a branch": (lambda: file_of(within(FOREIGN)), "evil.corp"),
    "a foreign operator within branches within branches": (lambda: file_of(within(FOREIGN, 8)), "evil.corp"),
    "a foreign operator within a function": (lambda: function_with(FOREIGN), "evil.corp"),
    "a compiled binary": (lambda: file_of(helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")), "EPContext"),
    "Python": (lambda: file_of(helper.make_node("PyOp", ["x"], ["y"], domain="com.microsoft")), "PyOp"),
    "data above the folder": (lambda: file_of(initializer=[external("../secret")]), "../secret"),
    "data by an absolute path": (lambda: file_of(initializer=[external("/etc/passwd")]), "/etc/passwd"),
    "data in a folder and out again": (lambda: file_of(initializer=[external("sub/../../secret")]), "secret"),
    "data by a path of another system": (lambda: file_of(initializer=[external("..\\secret")]), "secret"),
    "data of the folder itself": (lambda: file_of(initializer=[external(".")]), "'.'"),
    "data that is not there": (lambda: file_of(initializer=[external("absent.data")]), "absent.data"),
    "data by a symbolic link": (lambda: file_of(initializer=[external("link.data")]), "link.data"),
    "data past the end of its file": (lambda: file_of(initializer=[external("there.data", length=9)]), "which has 8"),
    "data before the beginning": (lambda: file_of(initializer=[external("there.data", offset=-4)]), "bytes -4"),
    "data in an attribute": (
        lambda: file_of(helper.make_node("Constant", [], ["y"], value=external("../secret"))), "../secret"
    ),
    "data of a sparse tensor": (
        lambda: file_of(sparse_initializer=[onnx.SparseTensorProto(values=external("../secret"), dims=[1])]), "../secret"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_reaches_out_is_refused_by_name(tmp_path: Path, name: str) -> None:
    make, words = REFUSED[name]
    (tmp_path / "there.data").write_bytes(bytes(8))
    (tmp_path / "link.data").symlink_to("/etc/passwd")
    path = tmp_path / "model.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(BadFolder) as refused:
        scan.check(path)
    assert words in str(refused.value)


def test_what_reaches_nowhere_is_taken(tmp_path: Path) -> None:
    (tmp_path / "there.data").write_bytes(bytes(8))
    path = tmp_path / "model.onnx"
    made = file_of(within(helper.make_node("Relu", ["x"], ["y"])), initializer=[external("there.data", offset=4)])
    path.write_bytes(made.SerializeToString())
    report = scan.check(path)
    assert report.operators == {("", "If"), ("", "Relu")} and report.nodes == 3


@pytest.mark.parametrize("name", sorted(path.name for path in DECODERS.iterdir()))
def test_the_builders_own_files_are_taken(name: str) -> None:
    report = scan.check(DECODERS / name / "model.onnx")
    assert (("com.microsoft", "GroupQueryAttention") in report.operators) is (name != "llama-plain")
    assert report.window == (64 if name == "gemma2-int4" else 0)


DAMAGED = {
    "nothing": b"", "text": b"this is no model", "half a file": GOOD[: len(GOOD) // 2], "a tail": GOOD[1000:],
    "a length beyond the end": b"\x3a\xff\xff\xff\xff\x0f", "a number without an end": b"\x08" + b"\xff" * 20, "zeros": bytes(100),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.onnx").write_bytes(DAMAGED[name])
    with pytest.raises(BadFolder, match=r"damaged|no ONNX"):
        scan.check(tmp_path / "model.onnx")


def test_graphs_within_graphs_have_an_end(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(file_of(within(helper.make_node("Relu", ["x"], ["y"]), 12)).SerializeToString())
    assert scan.scan(path).nodes == 2**13 - 1
    inner = b""
    for _ in range(60):  # a node with an attribute with a graph, again and again
        attribute = b"\x32" + _size(inner) + inner
        node = b"\x2a" + _size(attribute) + attribute
        inner = b"\x0a" + _size(node) + node
    path.write_bytes(b"\x3a" + _size(inner) + inner)
    with pytest.raises(BadFolder):
        scan.scan(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_whatever_is_changed_in_a_file_it_is_read_or_refused(at: int, data: bytes) -> None:
    view = memoryview(GOOD[:at] + data + GOOD[at + len(data) :])
    try:
        scan._Walk(view, scan.Report()).model()
    except (ValueError, IndexError, UnicodeDecodeError):
        return


HOSTILE = {
    "foreign code": '{"model": {"decoder": {"session_options": {"custom_ops_library": "evil.so"}}}}',
    "a profile that is written": '{"model": {"decoder": {"session_options": {"enable_profiling": "/etc/cron.d/x"}}}}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_configuration_that_wants_code_or_files_is_refused_by_its_key(tmp_path: Path, name: str) -> None:
    (tmp_path / "genai_config.json").write_text(HOSTILE[name])
    with pytest.raises(BadFolder, match=r"custom_ops_library|enable_profiling"):
        config.refuse_hostile(tmp_path)


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(BadFolder):
        scan.check(tmp_path / "sub")
    with pytest.raises(BadFolder):
        scan.check(tmp_path / "absent.onnx")


def _size(data: bytes) -> bytes:
    """A length as a varint."""
    value, out = len(data), bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
