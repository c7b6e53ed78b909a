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

from edge_agent.http.openai import told_of
from edge_agent.site.site import UNREAD, NotServedHere, Site
from sync.kit import errors
from sync.kit.ids import RequestId
from sync.policy import authorize
from sync.policy.authorize import UnknownModel
from sync.serving.api import answers, bodies, headers
from sync.serving.ask import Ask

TASK = "tensors"
MAX_BODY = 16 * 1024 * 1024


class Tensor(pydantic.BaseModel):
    """An input tensor; `data` in row-major order, flat or nested."""

    name: str
    shape: Annotated[list[int], pydantic.Field(max_length=16)]
    datatype: str
    data: list[Any]


class Wanted(pydantic.BaseModel):
    """An output that is asked for."""

    name: str


class InferBody(pydantic.BaseModel):
    """POST /v2/models/{name}/infer."""

    id: str = pydantic.Field("", max_length=200)
    inputs: Annotated[list[Tensor], pydantic.Field(min_length=1, max_length=64)]
    outputs: Annotated[list[Wanted], pydantic.Field(max_length=64)] = []


@dataclass(frozen=True, slots=True)
class OpenInference:
    """The handlers, over the site."""

    site: Site

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
        ready = self.site.guard.current.serial > 0
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def model(self, request: web.Request) -> web.Response:
        """The model's inputs and outputs. Loads it, where it is not."""
        async with self.site.repository.lease(self._folder(request)) as loaded:
            metadata = getattr(loaded.engine, "metadata", {})
            versions = self.site.repository.folder.versions(loaded.manifest.name)
        name = request.match_info["name"]
        return web.json_response({"name": name, "versions": versions, "platform": "onnxruntime_onnx", **metadata})

    async def model_ready(self, request: web.Request) -> web.Response:
        folder = self._folder(request)
        return web.json_response({"name": request.match_info["name"], "ready": folder in self.site.repository.names})

    async def infer(self, request: web.Request) -> web.Response:
        principal = self.site.authenticate(headers.api_key(request))
        self._folder(request)
        body = await bodies.read(request, InferBody, most=MAX_BODY)
        payload: dict[str, object] = {
            "inputs": [{**tensor.model_dump(), "data": _flat(tensor.data)} for tensor in body.inputs],
            "outputs": [wanted.name for wanted in body.outputs],
        }
        ask = Ask(
            request=RequestId(request[headers.REQUEST_ID]), task=TASK, model=request.match_info["name"], texts=(), payload=payload,
            declared=UNREAD, trace=headers.trace(request), no_store=True,
        )  # fmt: skip
        async with self.site.visit(principal, ask, headers.api_key(request)) as visit:
            await visit.finish()
            await self.site.deliver(visit)
        told = {"model_name": ask.model, "model_version": self.site.repository.manifest(self._folder(request)).version}
        return answers.respond(
            {**told, "id": body.id or ask.request, "outputs": visit.result.get("outputs", [])}, told_of(self.site, visit)
        )

    def _folder(self, request: web.Request) -> str:
        """The model's folder here. Raises InvalidKey, UnknownModel, Forbidden or NotServedHere."""
        principal = self.site.authenticate(headers.api_key(request))
        name, version = request.match_info["name"], request.match_info.get("version")
        folder = self.site.serves(authorize.model(self.site.guard.current, principal, name, TASK).deployments)
        if folder is None:
            raise NotServedHere(f"The model '{name[:100]}' is not at this site.")
        if version is not None and self.site.repository.manifest(folder).version != version:
            raise UnknownModel(f"The version '{version[:100]}' of '{name[:100]}' is not the one that is used.")
        return folder


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
