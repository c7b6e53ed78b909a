"""The two letters by which an agent comes to belong to a hub: its request, and the hub's admission.

The same bytes travel over HTTPS with an invitation's token, or as files on a stick.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

import pydantic

from sync.crypto import digest, sealing
from sync.kit import errors

MAX_FILE = 64 * 1024
_INFO = b"ringfence/v1/admission"


class BadFile(errors.Misconfigured):
    """The file is not a request or an admission, or is for another agent."""

    code = "bad_enrolment_file"


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent says of itself: public keys, and a name if it may choose one. Not where it is: that is for the hub to say.

    `certificate_request`: in PEM (PKCS #10).
    """

    name: str
    signing_key: bytes
    sealing_key: bytes
    certificate_request: bytes

    @property
    def fingerprint(self) -> str:
        """Short words of the keys for two people to compare."""
        return shown(digest.of("agent-request", self.signing_key + self.sealing_key + self.certificate_request))


@dataclass(frozen=True, slots=True)
class Admission:
    """What the hub tells a new agent. Its place and tenants are for people to read: they count only as the bundle has them.

    `certificate`: the chain in PEM, the agent's own first; `trusted`: the roots that the hub's servers are of, in PEM.
    """

    name: str
    hub_key: bytes
    broker_url: str
    enrol_url: str
    site: str
    zone: str
    region: str
    tenants: tuple[str, ...]
    certificate: bytes
    trusted: bytes


class _RequestFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    ringfence_agent_request: int
    name: str
    signing_key: pydantic.Base64Bytes
    sealing_key: pydantic.Base64Bytes
    certificate_request: str


class _AdmissionFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    ringfence_agent_admission: int
    name: str
    sealed: pydantic.Base64Bytes


def shown(code: bytes) -> str:
    """The beginning of a digest as people read it out: six groups of four."""
    return "-".join(code.hex()[i : i + 4] for i in range(0, 24, 4))


def write_request(request: Request) -> bytes:
    fields = {
        "ringfence_agent_request": 2,
        "name": request.name,
        "signing_key": base64.b64encode(request.signing_key).decode(),
        "sealing_key": base64.b64encode(request.sealing_key).decode(),
        "certificate_request": request.certificate_request.decode(),
    }
    return json.dumps(fields, indent=1).encode() + b"\n"


def read_request(data: bytes) -> Request:
    """The request in a file's bytes. Raises BadFile."""
    try:
        file = _RequestFile.model_validate_json(data[:MAX_FILE])
    except pydantic.ValidationError as error:
        raise BadFile("This is no request of an agent: make one with 'ringfence-agent enrol --request FILE'.") from error
    if len(file.signing_key) != 32 or len(file.sealing_key) != 32:
        raise BadFile("The keys in the request are not of 32 bytes.")
    return Request(file.name, file.signing_key, file.sealing_key, file.certificate_request.encode())


def seal_admission(admission: Admission, key: sealing.SealingKey) -> bytes:
    """The admission file: only the agent itself can open it."""
    inner = {
        "name": admission.name,
        "hub_key": base64.b64encode(admission.hub_key).decode(),
        "broker_url": admission.broker_url,
        "enrol_url": admission.enrol_url,
        "site": admission.site,
        "zone": admission.zone,
        "region": admission.region,
        "tenants": admission.tenants,
        "certificate": admission.certificate.decode(),
        "trusted": admission.trusted.decode(),
    }
    sealed = sealing.seal_to(key, json.dumps(inner).encode(), info=_INFO)
    fields = {"ringfence_agent_admission": 2, "name": admission.name, "sealed": base64.b64encode(sealed).decode()}
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
            enrol_url=str(inner["enrol_url"]),
            site=str(inner["site"]),
            zone=str(inner["zone"]),
            region=str(inner["region"]),
            tenants=tuple(map(str, inner["tenants"])),
            certificate=str(inner["certificate"]).encode(),
            trusted=str(inner["trusted"]).encode(),
        )
    except (pydantic.ValidationError, sealing.CannotOpen, KeyError, TypeError, ValueError) as error:
        raise BadFile(
            "This is no admission for this agent: it must answer the request that was made here, with these keys."
        ) from error
