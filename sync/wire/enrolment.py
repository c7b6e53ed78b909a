"""The two files by which an agent comes to belong to a hub: its request, and the hub's admission."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import pydantic

from sync.crypto import digest, sealing
from sync.kit import errors

MAX_FILE = 16 * 1024
_INFO = b"ringfence/v1/admission"


class BadFile(errors.Misconfigured):
    """The file is not a request or an admission, or is for another agent."""

    code = "bad_enrolment_file"


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent says of itself: its name and its public keys. Not where it is: that is for the hub to say."""

    name: str
    signing_key: bytes
    sealing_key: bytes

    @property
    def fingerprint(self) -> str:
        """Short words of the keys for two people to compare."""
        code = digest.of("agent-request", self.signing_key + self.sealing_key).hex()
        return "-".join(code[i : i + 4] for i in range(0, 24, 4))


@dataclass(frozen=True, slots=True)
class Admission:
    """What the hub tells a new agent. Site and zone are for people to read: they count only as the bundle has them."""

    name: str
    hub_key: bytes
    broker_url: str
    broker_password: str
    site: str
    zone: str


class _RequestFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    ringfence_agent_request: int
    name: str
    signing_key: pydantic.Base64Bytes
    sealing_key: pydantic.Base64Bytes


class _AdmissionFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    ringfence_agent_admission: int
    name: str
    sealed: pydantic.Base64Bytes


def write_request(request: Request) -> bytes:
    fields = {
        "ringfence_agent_request": 1,
        "name": request.name,
        "signing_key": base64.b64encode(request.signing_key).decode(),
        "sealing_key": base64.b64encode(request.sealing_key).decode(),
    }
    return json.dumps(fields, indent=1).encode() + b"\n"


def read_request(data: bytes) -> Request:
    """The request in a file's bytes. Raises BadFile."""
    try:
        file = _RequestFile.model_validate_json(data[:MAX_FILE])
    except pydantic.ValidationError as error:
        raise BadFile("This is no request of an agent: make one with 'ringfence-agent request'.") from error
    if len(file.signing_key) != 32 or len(file.sealing_key) != 32:
        raise BadFile("The keys in the request are not of 32 bytes.")
    return Request(file.name, file.signing_key, file.sealing_key)


def seal_admission(admission: Admission, key: sealing.SealingKey) -> bytes:
    """The admission file: only the agent itself can open it."""
    inner = {
        "name": admission.name,
        "hub_key": base64.b64encode(admission.hub_key).decode(),
        "broker_url": admission.broker_url,
        "broker_password": admission.broker_password,
        "site": admission.site,
        "zone": admission.zone,
    }
    sealed = sealing.seal_to(key, json.dumps(inner).encode(), info=_INFO)
    fields = {"ringfence_agent_admission": 1, "name": admission.name, "sealed": base64.b64encode(sealed).decode()}
    return json.dumps(fields, indent=1).encode() + b"\n"


def open_admission(data: bytes, opener: sealing.Opener) -> Admission:
    """The admission in a file's bytes. Raises BadFile where it is for another agent, or was changed."""
    try:
        file = _AdmissionFile.model_validate_json(data[:MAX_FILE])
        inner = json.loads(opener.open(file.sealed, info=_INFO))
        return Admission(
            name=str(inner["name"]),
            hub_key=base64.b64decode(inner["hub_key"]),
            broker_url=str(inner["broker_url"]),
            broker_password=str(inner["broker_password"]),
            site=str(inner["site"]),
            zone=str(inner["zone"]),
        )
    except (pydantic.ValidationError, sealing.CannotOpen, KeyError, ValueError) as error:
        raise BadFile(
            "This is no admission for this agent: it must answer the request that was made here, with these keys."
        ) from error
