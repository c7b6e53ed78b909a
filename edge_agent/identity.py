"""Who this agent is: its keys, made here and never sent, and the hub's admission of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sync.bus.nats import Login
from sync.crypto import keyring
from sync.crypto.signing import PublicKey
from sync.kit import errors, files, ids
from sync.kit.ids import AgentId
from sync.wire import enrolment

KEYS = "agent-keys.json"
NAME = "agent-name"
ADMISSION = "admission.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """An admitted agent."""

    id: AgentId
    keys: keyring.Keyring
    admission: enrolment.Admission

    @property
    def hub_key(self) -> PublicKey:
        return PublicKey(self.admission.hub_key)

    def login(self, url: str, ca: Path | None) -> Login:
        """As whom this agent logs in at the broker: at `url`, or where the admission says."""
        return Login(url or self.admission.broker_url, self.id, self.admission.broker_password, ca)


def request(state: Path, name: str) -> enrolment.Request:
    """The agent's request for admission; its keys are made on the first call. Raises Misconfigured where the name is none."""
    if not ids.is_name(name):
        raise errors.Misconfigured(
            f"'{name}' cannot name an agent: use lower-case letters, digits, '-' and '_', at most 63.", code="bad_name"
        )
    files.make_private_folder(state)
    kept = state / NAME
    if kept.exists() and kept.read_text() != name:
        raise errors.Misconfigured(
            f"The state folder {state} is of the agent '{kept.read_text()}': use that name, or another folder.", code="other_agent"
        )
    keys = keyring.load_or_create(state / KEYS)
    files.write_atomically(kept, name.encode())
    return enrolment.Request(name, keys.signer.public_key, keys.opener.public_key)


def accept(state: Path, admission: bytes) -> enrolment.Admission:
    """Keeps the hub's admission. Raises BadFile where it is not for this agent."""
    keys = keyring.load(state / KEYS)
    opened = enrolment.open_admission(admission, keys.opener)
    if opened.name != _name(state):
        raise enrolment.BadFile(f"The admission is for the agent '{opened.name}', and this is '{_name(state)}'.")
    files.write_atomically(state / ADMISSION, admission, mode=files.PRIVATE)
    return opened


def load(state: Path) -> Identity:
    """The identity in a state folder. Raises Misconfigured saying which step is missing."""
    if not (state / KEYS).exists():
        raise errors.Misconfigured(
            f"There is no agent in {state}: begin with 'ringfence-agent request --name NAME --state {state}'.", code="no_identity"
        )
    if not (state / ADMISSION).exists():
        raise errors.Misconfigured(
            f"The agent in {state} is not admitted yet: give its request to the hub ('ringfence agents admit'), and the answer to "
            "'ringfence-agent accept'.",
            code="not_admitted",
        )
    keys = keyring.load(state / KEYS)
    admission = enrolment.open_admission(files.read_private(state / ADMISSION), keys.opener)
    return Identity(AgentId(admission.name), keys, admission)


def _name(state: Path) -> str:
    return (state / NAME).read_text()
