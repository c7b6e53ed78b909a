"""Frames: what goes in comes out, and nothing else does."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.kit.ids import RequestId
from sync.wire import codec, types
from sync.wire.codec import BadFrame
from sync.wire.levels import Level, Zone
from sync.wire.messages import Accepted, Beat, Chunk, Done, Failed, Run
from tests.support import builders

TEXT = st.text(max_size=200)
CODE = st.from_regex(r"\A[a-z0-9_]{0,64}\Z")
ID = st.from_regex(r"\A[A-Za-z0-9_-]{1,128}\Z")
MESSAGES = st.one_of(
    st.builds(Chunk, ID, st.integers(0, 2**53), TEXT),
    st.builds(
        Done,
        request=ID,
        result=st.binary(max_size=300),
        prompt_tokens=st.integers(0, types.MAX_TOKENS),
        completion_tokens=st.integers(0, types.MAX_TOKENS),
        finish=CODE,
        cached=st.booleans(),
        chunks=st.integers(0, 2**53),
        compute_ms=st.floats(0, 1e9),
        digest=st.binary(max_size=32),
    ),
    st.builds(Failed, ID, CODE, TEXT, st.booleans(), st.floats(0, 1e3)),
)


@given(MESSAGES)
def test_what_encode_made_decode_gives_back_equal(message: codec.Message) -> None:
    assert codec.decode(codec.encode(message), Chunk, Done, Failed) == message


def test_a_run_with_its_ticket_comes_back_equal() -> None:
    run = builders.run()
    again = codec.decode(codec.encode(run), Run)
    assert again == run
    assert isinstance(again.ticket.level, Level)
    assert isinstance(again.ticket.zones[0], Zone)


WRONG = {
    "empty": (b"", "not an array"),
    "noise": (b"\xc1\xff\x00", "not an array"),
    "no array": (codec.pack({"a": 1}), "not an array"),
    "short array": (codec.pack([1, "accepted"]), "not an array"),
    "unknown version": (codec.pack([9, "accepted", {"request": "r"}]), "version 9"),
    "unknown kind": (codec.pack([1, "other", {}]), "'other'"),
    "kind of another place": (codec.pack([1, "chunk", {}]), "'chunk'"),
    "missing field": (codec.pack([1, "accepted", {}]), "missing required field `request`"),
    "unknown field": (codec.pack([1, "accepted", {"request": "r", "more": 1}]), "unknown field `more`"),
    "wrong type": (codec.pack([1, "accepted", {"request": 5}]), r"wrong: .*\$.request"),
    "deeply nested": (b"\x91" * 1000, "not an array"),
    "trailing bytes": (codec.pack([1, "accepted", {"request": "r"}]) + b"\x00", "not an array"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_frame_is_refused_with_a_sentence(name: str) -> None:
    data, said = WRONG[name]
    with pytest.raises(BadFrame, match=said):
        codec.decode(data, Accepted)


def test_a_frame_over_the_cap_of_its_kind_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(BadFrame, match="over the cap"):
        codec.decode(b"\xc1" * (Accepted.CAP + 1), Accepted)
    frame = codec.pack([1, "accepted", {"request": "r" * 2000}])
    with pytest.raises(BadFrame, match="over its cap"):
        codec.decode(frame, Accepted, Done)
    with pytest.raises(BadFrame, match="over its cap"):
        codec.encode(Accepted(RequestId("r" * 2000)))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_decoder_do_anything_but_refuse(data: bytes) -> None:
    with contextlib.suppress(BadFrame):
        codec.decode(data, Run, Beat, Done)
