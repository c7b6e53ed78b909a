"""The hub's certificate authority: its root, what issues below it, and the file that both are kept in.

The root's key is wrapped: by a passphrase or a key service that the hub itself does not have, or else by the hub's own key. The
issuer below it signs day by day. Everything is in one file, so that a rotation is done or not done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sync.crypto import archive, authority, sealing
from sync.crypto.authority import Pair
from sync.kit import errors, files
from sync.kit.ids import AgentId

AGENT, HUB, BROKER = "agent", "hub", "broker"
HUB_ID = authority.uri(HUB, "hub")
SERVER_S = 30 * 86_400.0
"""How long the certificates of the hub's own servers and of its own connection count; each start makes new ones."""
EARLY_S = 30 * 86_400.0
"""The issuer is followed by the next this long before its end."""
_CONTEXT = b"ringfence/v1/authority"


class StillOld(errors.Misconfigured):
    """A rotation cannot be finished yet."""

    code = "rotation_under_way"


class ByHub:
    """Wraps under the hub's own key: for a hub that nobody gave a passphrase."""

    name = "hub"

    def __init__(self, at_rest: bytes) -> None:
        self._box = sealing.Box(sealing.derive(at_rest, "authority"))

    def wrap(self, key: bytes) -> dict[str, str]:
        return {"key": self._box.seal(key, context=_CONTEXT).hex()}

    def unwrap(self, told: dict[str, str]) -> bytes:
        try:
            return self._box.open(bytes.fromhex(told["key"]), context=_CONTEXT)
        except (sealing.CannotOpen, ValueError, KeyError) as error:
            raise archive.CannotUnlock("The authority's key is of another hub.") from error


@dataclass(frozen=True, slots=True)
class _Kept:
    """The file. `root_key` and `issuer_key` are sealed; `wrapped` is the key that the root's is sealed under."""

    roots: tuple[str, ...]
    number: int
    wrapper: str
    wrapped: dict[str, str]
    root_key: str
    issuer: str
    issuer_key: str
    cross: str = ""


class Authority:
    """What the hub certifies with. Immutable: a rotation makes another."""

    def __init__(self, path: Path, kept: _Kept, own: ByHub) -> None:
        self._path = path
        self._kept = kept
        self._own = own
        self._issuer = Pair(kept.issuer.encode(), own.unwrap({"key": kept.issuer_key}))

    @property
    def trusted(self) -> bytes:
        """The roots that count, in PEM, the newest first."""
        return "".join(self._kept.roots).encode()

    @property
    def pin(self) -> bytes:
        """SHA-256 of the newest root."""
        return authority.fingerprint(self._kept.roots[0].encode())

    @property
    def issuer_expires(self) -> float:
        return authority.certificate_times(self._issuer.certificate)[1]

    @property
    def root_expires(self) -> float:
        return authority.certificate_times(self._kept.roots[0].encode())[1]

    @property
    def roots(self) -> int:
        """Two while a rotation overlaps."""
        return len(self._kept.roots)

    @property
    def rotated(self) -> float:
        """When the newest root was made, in seconds since 1970."""
        return authority.certificate_times(self._kept.roots[0].encode())[0]

    @property
    def wrapper(self) -> str:
        """By what the root's key is wrapped."""
        return self._kept.wrapper

    def certify_agent(self, agent: AgentId, asked: bytes, now: float, life_s: float) -> bytes:
        """The chain in PEM for an agent's request: its name is the hub's, whatever the request says."""
        return self._chain(authority.issue(self._issuer, asked, authority.uri(AGENT, agent), now=now, life_s=life_s))

    def certify_client(self, now: float) -> bytes:
        """A new key and its chain in PEM, for the hub's own connection to the broker."""
        key = authority.new_key()
        return key + self._chain(authority.issue(self._issuer, authority.request(key), HUB_ID, now=now, life_s=SERVER_S))

    def certify_server(self, hosts: Sequence[str], now: float) -> bytes:
        """A new key and its chain in PEM, for a server of the hub that is known by these hosts."""
        key = authority.new_key()
        name = authority.uri(BROKER, "hub")
        made = authority.issue(
            self._issuer, authority.request(key), name, now=now, life_s=SERVER_S, hosts=hosts, server=True
        )  # fmt: skip
        return key + self._chain(made)

    def rotate_issuer(self, now: float, wrapper: archive.Wrapper | None) -> Authority:
        """Another issuer below the same root. Raises CannotUnlock."""
        root = Pair(self._kept.roots[0].encode(), self._root_key(wrapper))
        issuer = authority.new_issuer(root, f"Ringfence issuer {self._kept.number + 1}", now)
        kept = replace(
            self._kept, number=self._kept.number + 1, issuer=issuer.certificate.decode(),
            issuer_key=self._own.wrap(issuer.key)["key"],
        )  # fmt: skip
        return self._keep(kept)

    def rotate_root(self, now: float, wrapper: archive.Wrapper | None) -> Authority:
        """Another root, which the old one vouches for until it is retired. Raises CannotUnlock, Misconfigured within an overlap."""
        if self.roots > 1:
            raise errors.Misconfigured(
                "A rotation of the root is under way: finish it with 'ringfence ca retire' once every agent has the new one.",
                code="rotation_under_way",
            )
        old = Pair(self._kept.roots[0].encode(), self._root_key(wrapper))
        made = _new(self._own, wrapper or self._own, self._kept.number + 1, now)
        cross = authority.cross_sign(old, made.roots[0].encode(), now).decode()
        return self._keep(replace(made, roots=(*made.roots, *self._kept.roots), cross=cross))

    def retire(self) -> Authority:
        """The old root counts no more."""
        if self.roots == 1:
            raise errors.Misconfigured("There is no old root: 'ringfence ca rotate --root' makes a new one.", code="no_rotation")
        return self._keep(replace(self._kept, roots=self._kept.roots[:1], cross=""))

    def _chain(self, certificate: bytes) -> bytes:
        return certificate + self._issuer.certificate + self._kept.cross.encode()

    def _root_key(self, wrapper: archive.Wrapper | None) -> bytes:
        used = wrapper or self._own
        if used.name != self._kept.wrapper:
            raise archive.CannotUnlock(f"The root's key is kept by a {self._kept.wrapper}: name it.")
        box = sealing.Box(used.unwrap(self._kept.wrapped))
        try:
            return box.open(bytes.fromhex(self._kept.root_key), context=_CONTEXT)
        except sealing.CannotOpen as error:
            raise archive.CannotUnlock(f"The {used.name} does not open the root's key.") from error

    def _keep(self, kept: _Kept) -> Authority:
        _write(self._path, kept)
        return Authority(self._path, kept, self._own)


def create(path: Path, at_rest: bytes, now: float, wrapper: archive.Wrapper | None = None) -> Authority:
    """A new authority in this file. Raises Misconfigured where there is one."""
    if path.exists():
        raise errors.Misconfigured(f"There is an authority in {path}: 'ringfence ca rotate' renews it.", code="authority_exists")
    own = ByHub(at_rest)
    kept = _new(own, wrapper or own, 1, now)
    _write(path, kept)
    return Authority(path, kept, own)


def load(path: Path, at_rest: bytes) -> Authority:
    """The authority in this file. Raises Misconfigured where it is missing, damaged, open to others, or another hub's."""
    try:
        fields = json.loads(files.read_private(path))
        return Authority(path, _Kept(**{**fields, "roots": tuple(fields["roots"])}), ByHub(at_rest))
    except (ValueError, KeyError, TypeError, authority.BadCertificate) as error:
        raise errors.Misconfigured(
            f"The authority in {path} is damaged: restore it from a backup.", code="authority_damaged"
        ) from error


def load_or_create(path: Path, at_rest: bytes, now: float) -> Authority:
    """The authority in this file, made on first use."""
    return load(path, at_rest) if path.exists() else create(path, at_rest, now)


def _new(own: ByHub, wrapper: archive.Wrapper, number: int, now: float) -> _Kept:
    root = authority.new_root(f"Ringfence root {number}", now)
    issuer = authority.new_issuer(root, f"Ringfence issuer {number}", now)
    key = sealing.new_key()
    return _Kept(
        roots=(root.certificate.decode(),), number=number, wrapper=wrapper.name, wrapped=wrapper.wrap(key),
        root_key=sealing.Box(key).seal(root.key, context=_CONTEXT).hex(), issuer=issuer.certificate.decode(),
        issuer_key=own.wrap(issuer.key)["key"],
    )  # fmt: skip


def _write(path: Path, kept: _Kept) -> None:
    files.write_atomically(path, json.dumps(asdict(kept), indent=1).encode(), mode=files.PRIVATE)
