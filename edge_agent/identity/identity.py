"""Who this agent is: its keys, made here and never sent, the hub's admission of it, and its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sync.bus.nats import Login
from sync.crypto import authority, keyring, sealing
from sync.crypto.signing import PublicKey
from sync.kit import crashpoints, errors, files, ids
from sync.kit.ids import AgentId
from sync.wire import enrolment

KEYS = "agent-keys.json"
NAME = "agent-name"
ADMISSION = "admission.json"
CERTIFICATE = "certificate.pem"
NEXT_KEY = "certificate-next.key"
TRUSTED = "trusted.pem"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Identity:
    """An admitted agent. `state`: the folder of its certificate, which is renewed there."""

    id: AgentId
    keys: keyring.Keyring
    admission: enrolment.Admission
    state: Path

    @property
    def hub_key(self) -> PublicKey:
        return PublicKey(self.admission.hub_key)

    @property
    def certificate(self) -> Path:
        """Its key and its chain, in PEM."""
        return self.state / CERTIFICATE

    @property
    def trusted(self) -> Path:
        """The roots that the hub's servers are of, in PEM."""
        return self.state / TRUSTED

    @property
    def leaf_password(self) -> str:
        """By which it logs in at a leaf node on its own machine."""
        return sealing.derive(self.keys.at_rest, "leaf-password").hex()

    def login(self, url: str) -> Login:
        """As whom this agent logs in at the broker: at `url`, or where the admission says. Raises Misconfigured."""
        url = url or self.admission.broker_url
        parts = urlsplit(url)
        if parts.scheme == "nats":
            if parts.hostname not in LOOPBACK:
                raise errors.Misconfigured(
                    f"{url} is a line without TLS to another machine: use tls://, or a leaf node on this one.", code="plain_line"
                )
            return Login(url, self.id, password=self.leaf_password)
        return Login(url, self.id, self.certificate, self.trusted)


def request(state: Path, name: str = "", keys: Path | None = None) -> enrolment.Request:
    """The agent's request for admission; its keys are made on the first call. Raises Misconfigured where the name is none.

    `name`: where the agent may choose its own, for a person to approve; an invitation has its name.
    """
    if name and not ids.is_name(name):
        raise errors.Misconfigured(
            f"'{name}' cannot name an agent: use lower-case letters, digits, '-' and '_', at most 63.", code="bad_name"
        )
    files.make_private_folder(state)
    kept = state / NAME
    if name and kept.exists() and kept.read_text() != name:
        raise errors.Misconfigured(
            f"The state folder {state} is of the agent '{kept.read_text()}': use that name, or another folder.", code="other_agent"
        )
    own = keyring.load_or_create(keys or state / KEYS)
    if name:
        files.write_atomically(kept, name.encode())
    return enrolment.Request(name, own.signer.public_key, own.opener.public_key, authority.request(next_key(state)))


def next_key(state: Path) -> bytes:
    """The key that the next certificate will be for, in PEM: made once, so that who lost the hub's answer can ask again."""
    path = state / NEXT_KEY
    if not path.exists() or _is_in_use(state, files.read_private(path)):
        files.write_atomically(path, authority.new_key(), mode=files.PRIVATE)
    return files.read_private(path)


def _is_in_use(state: Path, key: bytes) -> bool:
    """Whether the last certificate is for this key: a power cut came before the key could be taken away."""
    return (state / CERTIFICATE).exists() and certificate(state)[0] == key


def keep_certificate(state: Path, chain: bytes, trusted: bytes) -> None:
    """Puts the certificate for the next key in place of the last one, with its key, in one step. Raises BadCertificate."""
    key = next_key(state)
    if authority.key_of_certificate(chain) != authority.key_of_request(authority.request(key)):
        raise authority.BadCertificate("The certificate is for another key than the one that was asked for.")
    authority.fingerprint(trusted)
    files.write_atomically(state / TRUSTED, trusted)
    crashpoints.reach("certificate.trusted")
    files.write_atomically(state / CERTIFICATE, key + chain, mode=files.PRIVATE)
    crashpoints.reach("certificate.kept")
    files.remove(state / NEXT_KEY)


def certificate(state: Path) -> tuple[bytes, bytes]:
    """The certificate's private key and its chain, both in PEM. Raises Misconfigured."""
    data = files.read_private(state / CERTIFICATE)
    end = data.find(_CERTIFICATE)
    if end < 0:
        raise errors.Misconfigured(f"{state / CERTIFICATE} is damaged: enrol this agent anew.", code="certificate_damaged")
    return data[:end], data[end:]


def chain(state: Path) -> bytes:
    """The certificate's chain in PEM."""
    return certificate(state)[1]


def accept(state: Path, admission: bytes, keys: Path | None = None) -> enrolment.Admission:
    """Keeps the hub's admission. Raises BadFile where it is not for this agent."""
    own = keyring.load(keys or state / KEYS)
    opened = enrolment.open_admission(admission, own.opener)
    kept = state / NAME
    if kept.exists() and opened.name != kept.read_text():
        raise enrolment.BadFile(f"The admission is for the agent '{opened.name}', and this is '{kept.read_text()}'.")
    keep_certificate(state, opened.certificate, opened.trusted)
    files.write_atomically(kept, opened.name.encode())
    files.write_atomically(state / ADMISSION, admission, mode=files.PRIVATE)
    return opened


def forget(state: Path, keys: Path | None = None) -> None:
    """Takes away what a request made, where the hub refused it."""
    for path in (*(state / name for name in (NAME, NEXT_KEY, CERTIFICATE, TRUSTED)), keys or state / KEYS):
        path.unlink(missing_ok=True)
    if not any(state.iterdir()):
        state.rmdir()


def is_admitted(state: Path) -> bool:
    return (state / ADMISSION).exists()


def _is_there(path: Path) -> bool:
    """Raises Misconfigured where this user may not even look."""
    try:
        return path.exists()
    except PermissionError as error:
        raise errors.Misconfigured(
            f"{path} cannot be read: run this as root, or as the agent's own user.", code="not_permitted"
        ) from error


def load(state: Path, keys: Path | None = None) -> Identity:
    """The identity in a state folder. Raises Misconfigured saying which step is missing."""
    if not _is_there(keys or state / KEYS):
        raise errors.Misconfigured(
            f"There is no agent in {state}: begin with the line that 'ringfence agents invite' prints at the hub.",
            code="no_identity",
        )
    if not is_admitted(state):
        raise errors.Misconfigured(
            f"The agent in {state} is not admitted yet: finish with 'ringfence-agent enrol', or bring its request to the hub "
            "('ringfence agents approve') and the answer to 'ringfence-agent enrol --response FILE'.",
            code="not_admitted",
        )
    own = keyring.load(keys or state / KEYS)
    admission = enrolment.open_admission(files.read_private(state / ADMISSION), own.opener)
    return Identity(AgentId(admission.name), own, admission, state)
