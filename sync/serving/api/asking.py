"""A body in the form that the older handlers take. It goes with them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from sync.kit.ids import RequestId
from sync.serving.api import headers
from sync.serving.ask import Ask
from sync.wire import codec, tasks


def of(request: web.Request, given: Any, cap: int) -> Ask:
    """Return the request of this body (see bodies.Body), with the payload as plain values."""
    made: tasks.Request = given.payload(cap)
    payload = codec.unpack(tasks.pack(made))
    return Ask(
        request=RequestId(request[headers.REQUEST_ID]),
        task=given.task,
        model=given.model,
        texts=_texts(made),
        payload={name: _plain(name, value) for name, value in payload.items()},
        stream=given.stream,
        max_tokens=given.wanted_tokens,
        declared=headers.declared_level(request),
        batch=given.batch,
        trace=headers.trace(request),
        subject=headers.subject(request),
        no_store="no-store" in request.headers.get("cache-control", "").lower(),
    )


def _texts(made: tasks.Request) -> tuple[str, ...]:
    if isinstance(made, tasks.Generate):
        return tuple(message.content for message in made.messages)
    return () if isinstance(made, tasks.Tensors) else made.input


def _plain(name: str, value: object) -> object:
    return list(value) if isinstance(value, tuple) and name != "input" else value
