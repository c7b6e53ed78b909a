"""The Open Inference Protocol, version 2 (KServe, Triton, OpenVINO): models of any kind by their tensors.

A tensor's numbers cannot be read as text is, so such a request counts as restricted: it runs where restricted requests may, or
not at all.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from aiohttp import web

from edge_agent.inference.repository.lifecycle import Repository
from edge_agent.site.executor import NotServedHere, SiteExecutor
from edge_agent.work.guard import Guard
from sync.kit import errors
from sync.policy import authorize
from sync.policy.authorize import UnknownModel
from sync.serving.api import answers, bodies, headers, outgoing
from sync.serving.api.errors import BadRequest
from sync.serving.api.handlers import SEEN, Surface
from sync.serving.ask import Ask
from sync.serving.outcome import Outcome
from sync.wire import tasks, types

TASK = "tensors"
MAX_BODY = 16 * 1024 * 1024


class Tensor(pydantic.BaseModel):
    """An input tensor; `data` in row-major order, flat or nested."""

    name: str = pydantic.Field(max_length=types.MAX_WORD)
    shape: Annotated[list[int], pydantic.Field(max_length=16)]
    datatype: str = pydantic.Field(max_length=64)
    data: list[Any]


class Wanted(pydantic.BaseModel):
    """An output that is asked for."""

    name: str = pydantic.Field(max_length=types.MAX_WORD)


class InferBody(pydantic.BaseModel):
    """POST /v2/models/{name}/infer."""

    id: str = pydantic.Field("", max_length=200)
    inputs: Annotated[list[Tensor], pydantic.Field(min_length=1, max_length=64)]
    outputs: Annotated[list[Wanted], pydantic.Field(max_length=64)] = []


@dataclass(frozen=True, slots=True)
class OpenInference:
    """The handlers, over the site."""

    surface: Surface
    site: SiteExecutor
    guard: Guard
    repository: Repository

    def routes(self) -> list[web.RouteDef]:
        one = "/v2/models/{name}"
        versioned = one + "/versions/{version}"
        return [
            web.get("/v2", self.server),
            web.get("/v2/health/live", self.live),
            web.get("/v2/health/ready", self.ready),
            *(web.get(path, self.model) for path in (one, versioned)),
            *(web.get(path + "/ready", self.model_ready) for path in (one, versioned)),
            *(web.post(path + "/infer", self.infer) for path in (one, versioned)),
        ]

    async def server(self, request: web.Request) -> web.Response:
        return web.json_response({"name": "ringfence-agent", "version": importlib.metadata.version("ringfence"), "extensions": []})

    async def live(self, request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether the site can decide: it has a bundle."""
        ready = self.guard.current.serial > 0
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def model(self, request: web.Request) -> web.Response:
        """The model's inputs and outputs. Loads it, where it is not."""
        async with self.repository.lease(self._folder(request)) as loaded:
            metadata = getattr(loaded.engine, "metadata", {})
            versions = self.repository.folder.versions(loaded.manifest.name)
        name = request.match_info["name"]
        return web.json_response({"name": name, "versions": versions, "platform": "onnxruntime_onnx", **metadata})

    async def model_ready(self, request: web.Request) -> web.Response:
        folder = self._folder(request)
        return web.json_response({"name": request.match_info["name"], "ready": folder in self.repository.names})

    async def infer(self, request: web.Request) -> web.Response:
        """Run a model by its tensors. They cannot be read as text, so they count as restricted."""
        call = self.surface.call(request)
        request[SEEN].task, request[SEEN].model = TASK, request.match_info["name"]
        folder = self._folder(request)
        body = await bodies.read(request, InferBody, most=MAX_BODY)
        ask = Ask(
            request=call.id,
            payload=_payload(body),
            model=request.match_info["name"],
            trace=headers.trace(request),
            subject=headers.subject(request),
            no_store=True,
            unread=True,
        )
        told = {
            "model_name": ask.model,
            "model_version": self.repository.manifest(folder).version,
            "id": body.id or ask.request,
        }
        async with self.surface.enter(call, ask) as exchange:
            data = await exchange.complete(lambda outcome: answers.encoded({**told, "outputs": _outputs(outcome)}))
            return answers.respond(data, outgoing.headers(self.surface.parts, exchange))

    def _folder(self, request: web.Request) -> str:
        """The model's folder here. Raises InvalidKey, UnknownModel, Forbidden or NotServedHere."""
        principal = self.surface.call(request).principal
        name, version = request.match_info["name"], request.match_info.get("version")
        folder = self.site.here(authorize.model(self.guard.current, principal, name, TASK).deployments)
        if folder is None:
            raise NotServedHere(f"The model '{name[:100]}' is not at this site.")
        if version is not None and self.repository.manifest(folder).version != version:
            raise UnknownModel(f"The version '{version[:100]}' of '{name[:100]}' is not the one that is used.")
        return folder


def _outputs(outcome: Outcome) -> list[Any]:
    result = outcome.result
    return [types.plain(tensor) for tensor in result.outputs] if isinstance(result, tasks.Inferred) else []


def _payload(body: InferBody) -> tasks.Tensors:
    """Return the request for an engine. Raises Refused where a tensor's data are nested unevenly."""
    inputs = tuple(
        tasks.Tensor(tensor.name, tensor.datatype, tuple(tensor.shape), tuple(_flat(tensor.data))) for tensor in body.inputs
    )
    made = tasks.Tensors(inputs, tuple(wanted.name for wanted in body.outputs))
    try:
        tasks.read_request(TASK, tasks.pack(made))
    except (errors.Corrupt, OverflowError, TypeError) as error:
        raise BadRequest("inputs: a name is too long, or an element is not a number, a text or a boolean in range.") from error
    return made


def _flat(data: list[Any]) -> list[Any]:
    """Row-major elements of a nested list. Raises Refused where it is nested too deeply."""
    for _ in range(16):
        if not data or not isinstance(data[0], list):
            return data
        try:
            data = [element for row in data for element in row]
        except TypeError:
            break
    raise errors.Refused("inputs: data is nested unevenly, or too deeply.", code="invalid_request")
