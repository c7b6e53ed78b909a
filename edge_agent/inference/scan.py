"""Looks into an ONNX file without running anything of it: which operators it has, and which files it wants.

Reads the protobuf wire format (protobuf.dev, "Encoding") over a memory map with bounds everywhere, and only the fields of
onnx.proto that can do harm. A parsing library would build the whole model first, and those have had their own holes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from edge_agent.inference.manifest import BadFolder

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
REFUSED = frozenset({"EPContext", "PyOp", "PythonOp", "ATen"})
"""Operators that load binaries or run another language's code."""
MAX_DEPTH = 24
MAX_NODES = 2_000_000
MAX_NAME = 4096
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class External:
    """Data of a tensor in another file: where in it, in bytes. `length` 0: to its end."""

    location: str
    offset: int
    length: int


@dataclass(slots=True)
class Report:
    """What is in a model file."""

    operators: set[tuple[str, str]] = field(default_factory=set)
    domains: set[str] = field(default_factory=set)
    external: set[External] = field(default_factory=set)
    nodes: int = 0
    window: int = 0
    """The widest `local_window_size` of an attention operator: its cache must hold at least so many tokens."""


def scan(path: Path) -> Report:
    """What the file holds. Raises BadFolder where it is no ONNX file, or damaged."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            report = Report()
            with memoryview(data) as view:
                _Walk(view, report).model()
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise BadFolder(f"{path} is no ONNX model, or a damaged one.") from error
    except OSError as error:
        raise BadFolder(f"{path} cannot be read ({error.strerror}).") from error
    return report


def check(path: Path) -> Report:
    """Returns where nothing in the file reaches out of its folder or needs foreign code. Raises BadFolder naming what does."""
    report = scan(path)
    foreign = sorted((report.domains | {domain for domain, _ in report.operators}) - DOMAINS)
    if foreign:
        raise BadFolder(
            f"{path} uses operators of '{foreign[0][:100]}': only those of ONNX and com.microsoft are run, since others are "
            f"foreign code."
        )
    refused = sorted(name for _, name in report.operators if name in REFUSED)
    if refused:
        raise BadFolder(f"{path} uses the operator {refused[0]}, which runs code or binaries that cannot be checked.")
    for external in report.external:
        _check_external(path, external)
    return report


def _check_external(path: Path, external: External) -> None:
    told = external.location
    pure = PurePosixPath(told)
    if not told or "\\" in told or "\0" in told or pure.is_absolute() or len(pure.parts) != 1 or told in (".", ".."):
        raise BadFolder(f"{path} wants data from '{told[:200]}': only files beside it are taken.")
    target = path.parent / told
    if target.is_symlink() or not target.is_file():
        raise BadFolder(f"{path} wants data from '{told[:200]}', which is missing or not a plain file.")
    size = target.stat().st_size
    if external.offset < 0 or external.length < 0 or external.offset + external.length > size:
        raise BadFolder(
            f"{path} wants bytes {external.offset} to {external.offset + external.length} of '{told[:200]}', which has {size}."
        )


class _Walk:
    """One pass over a model."""

    def __init__(self, data: memoryview, report: Report) -> None:
        self._data = data
        self._report = report

    def model(self) -> None:
        found_graph = False
        for number, begin, end in self._messages(0, len(self._data)):
            match number:
                case 7:
                    found_graph = True
                    self._graph(begin, end, 0)
                case 8:
                    self._report.domains.add(self._text(begin, end, 1))
                case 20:
                    for inner, first, last in self._messages(begin, end):  # training_info: initialization and algorithm
                        if inner in (1, 2):
                            self._graph(first, last, 1)
                case 25:
                    self._function(begin, end)
        if not found_graph:
            raise ValueError("no graph")

    def _function(self, begin: int, end: int) -> None:
        for number, first, last in self._messages(begin, end):
            if number == 7:
                self._node(first, last, 1)
            elif number == 9:
                self._report.domains.add(self._text(first, last, 1))

    def _graph(self, begin: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("graphs within graphs")
        for number, first, last in self._messages(begin, end):
            if number == 1:
                self._node(first, last, depth)
            elif number == 5:
                self._tensor(first, last)
            elif number == 15:
                self._sparse(first, last)

    def _node(self, begin: int, end: int, depth: int) -> None:
        self._report.nodes += 1
        if self._report.nodes > MAX_NODES:
            raise ValueError("too many nodes")
        name = domain = ""
        for number, first, last in self._messages(begin, end):
            if number == 4:
                name = self._decoded(first, last)
            elif number == 7:
                domain = self._decoded(first, last)
            elif number == 5:
                self._attribute(first, last, depth)
        self._report.operators.add((domain, name))

    def _attribute(self, begin: int, end: int, depth: int) -> None:
        if self._text(begin, end, 1) == "local_window_size":
            for number, kind, value, _ in self._fields(begin, end):
                if number == 3 and kind == _VARINT and value < 1 << 63:
                    self._report.window = max(self._report.window, value)
        for number, first, last in self._messages(begin, end):
            if number in (5, 10):
                self._tensor(first, last)
            elif number in (6, 11):
                self._graph(first, last, depth + 1)
            elif number in (22, 23):
                self._sparse(first, last)

    def _sparse(self, begin: int, end: int) -> None:
        for number, first, last in self._messages(begin, end):
            if number in (1, 2):
                self._tensor(first, last)

    def _tensor(self, begin: int, end: int) -> None:
        entries: dict[str, str] = {}
        for number, first, last in self._messages(begin, end):
            if number == 13:
                entries[self._text(first, last, 1)] = self._text(first, last, 2)
        if entries:
            offset, length = (int(entries.get(name) or 0) for name in ("offset", "length"))
            self._report.external.add(External(entries.get("location", ""), offset, length))

    def _text(self, begin: int, end: int, wanted: int) -> str:
        """A text field of a small message, or an empty text."""
        found = ""
        for number, first, last in self._messages(begin, end):
            if number == wanted:
                found = self._decoded(first, last)
        return found

    def _decoded(self, begin: int, end: int) -> str:
        if end - begin > MAX_NAME:
            raise ValueError("a name too long")
        return bytes(self._data[begin:end]).decode()

    def _messages(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(field number, begin, end) of each length-delimited field between two places."""
        return ((number, first, last) for number, kind, first, last in self._fields(begin, end) if kind == _BYTES)

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """(field number, wire type, begin or value, end) of each field between two places."""
        while at < end:
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            if kind == _BYTES:
                size, at = self._varint(at, end)
                if size > end - at:
                    raise ValueError("a field reaches over its message")
                yield number, kind, at, at + size
                at += size
            elif kind == _VARINT:
                value, at = self._varint(at, end)
                yield number, kind, value, at
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            else:
                raise ValueError("groups are not of this format")
        if at != end:
            raise ValueError("a field reaches over its message")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            if at >= end or shift > 63:
                raise ValueError("a number without an end")
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
