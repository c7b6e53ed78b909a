"""Who does not come in: at the broker by its certificate, at the entrance by its token. As a table, with a real broker and a real hub."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import socket
import sqlite3
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from edge_agent.identity import identity
from orchestrator.authority import authority as authorities
from orchestrator.fleet import admission
from sync.bus.nats import Login, NatsBus
from sync.bus.port import BusUnavailable, Incoming
from sync.crypto import authority
from sync.kit import errors
from sync.kit.ids import AgentId
from sync.wire import enrolment, invitation, renewal, subjects
from sync.wire.levels import Zone
from tests.support import builders, natsd, system
from tests.support import running as support
from tests.support.hub import at_hub

REFUSED_S = 3.0
"""Seconds after which a line that is tried again and again counts as refused."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class Broker:
    """A real one, at which 'branch-1' and 'branch-2' are admitted."""

    server: natsd.NatsServer
    folder: Path

    def login(self, name: str, pem: bytes, *, trusted: bytes | None = None, scheme: str = "tls") -> Login:
        certificate, roots = self.folder / f"{name}.pem", self.folder / f"{name}-roots.pem"
        certificate.write_bytes(pem)
        roots.write_bytes(trusted or self.server.certificates.authority.trusted)
        if scheme == "nats":
            return Login(f"nats://127.0.0.1:{self.server.port}", name, password="")
        return Login(f"tls://127.0.0.1:{self.server.port}", name, certificate, roots)

    def certificate(self, name: str, *, made: authorities.Authority | None = None, at: float | None = None) -> bytes:
        key = authority.new_key()
        chain = (made or self.server.certificates.authority).certify_agent(
            AgentId(name), authority.request(key), at or time.time(), DAY_S
        )
        return key + chain


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    server = natsd.NatsServer(folder / "nats")
    nothing = admission.Certified(b"", b"", 0, 0)
    server.write([admission.Admitted(builders.agent(n, "dublin", Zone.ON_PREMISE), nothing) for n in ("branch-1", "branch-2")])
    server.start()
    yield Broker(server, folder)
    server.stop()


async def connected(login: Login) -> NatsBus:
    """A bus, or the refusal."""
    bus = NatsBus(login, login.user, agent=login.user)
    try:
        async with asyncio.timeout(REFUSED_S):
            await bus.connect()
    except BaseException:
        await bus.close()
        raise
    return bus


def _of_another_authority(broker: Broker) -> Login:
    other = authorities.load_or_create(broker.folder / "other.json", bytes(32), time.time())
    return broker.login("branch-1", broker.certificate("branch-1", made=other))


def _signed_by_itself(broker: Broker) -> Login:
    root = authority.new_root("Ringfence root 1", time.time())
    key = authority.new_key()
    issued = authority.issue(
        root, authority.request(key), authority.uri("agent", "branch-1"), now=time.time(), life_s=DAY_S
    )  # fmt: skip
    return broker.login("branch-1", key + issued + root.certificate)


def _a_servers_certificate(broker: Broker) -> Login:
    return broker.login("branch-1", broker.server.certificates.server.read_bytes())


AT_THE_BROKER: dict[str, Callable[[Broker], Login]] = {
    "of another authority": _of_another_authority,
    "signed by itself": _signed_by_itself,
    "expired": lambda broker: broker.login("branch-1", broker.certificate("branch-1", at=time.time() - 2 * DAY_S)),
    "not yet": lambda broker: broker.login("branch-1", broker.certificate("branch-1", at=time.time() + 2 * DAY_S)),
    "of nobody who is admitted": lambda broker: broker.login("stranger", broker.certificate("stranger")),
    "a server's own": _a_servers_certificate,
    "plain text": lambda broker: broker.login("branch-1", broker.certificate("branch-1"), scheme="nats"),
}


@pytest.mark.parametrize("name", AT_THE_BROKER)
async def test_the_broker_refuses_a_certificate(broker: Broker, name: str) -> None:
    with pytest.raises((errors.Misconfigured, BusUnavailable, TimeoutError)):
        await connected(AT_THE_BROKER[name](broker))


async def test_an_agent_does_not_talk_to_a_broker_of_another_authority(broker: Broker) -> None:
    other = authorities.load_or_create(broker.folder / "elsewhere.json", bytes(32), time.time())
    with pytest.raises((BusUnavailable, TimeoutError)):
        await connected(broker.login("branch-1", broker.certificate("branch-1"), trusted=other.trusted))


@pytest.mark.parametrize(
    ("version", "certified"), [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, False)], ids=["TLS 1.2", "no certificate"]
)
def test_the_broker_refuses_the_handshake(broker: Broker, version: ssl.TLSVersion, certified: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    login = broker.login("branch-1", broker.certificate("branch-1"))
    context.load_verify_locations(login.trusted)
    if certified:
        context.load_cert_chain(login.certificate)
    with socket.create_connection(("127.0.0.1", broker.server.port)) as line, pytest.raises((ssl.SSLError, ConnectionError)):
        line.settimeout(REFUSED_S)
        with context.wrap_socket(line, server_hostname="127.0.0.1") as tls:
            assert tls.recv(1)


async def test_an_agent_gets_and_says_nothing_under_anothers_name(broker: Broker) -> None:
    one = await connected(broker.login("branch-1", broker.certificate("branch-1")))
    two = await connected(broker.login("branch-2", broker.certificate("branch-2")))
    hub = NatsBus(broker.server.login, "hub-1")
    await hub.connect()
    heard: list[tuple[str, bytes]] = []
    try:

        async def note(incoming: Incoming) -> None:
            heard.append((incoming.subject, incoming.data))

        await hub.subscribe(subjects.BEAT_ALL, note)
        for subject in (subjects.run(AgentId("branch-1")), ">", "$SYS.>", "_INBOX.>"):
            await two.subscribe(subject, note)
        await two.publish(subjects.beat(AgentId("branch-1")), b"forged")
        await two.publish(subjects.run(AgentId("branch-1")), b"forged")
        await one.publish(subjects.beat(AgentId("branch-1")), b"true")
        await hub.publish(subjects.run(AgentId("branch-1")), b"work")
        await asyncio.to_thread(support.eventually, lambda: any(data == b"true" for _, data in heard), "the true one is heard")
        assert heard == [(subjects.beat(AgentId("branch-1")), b"true")]
    finally:
        for bus in (one, two, hub):
            await bus.close()


# --- the entrance


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[system.System]:
    folder = tmp_path_factory.mktemp("hub")
    made = system.System(folder / "run", [], support.models(folder / "models"), support.CONFIGURATION)
    asyncio.run(made.prepare("acme"))
    made.start_hub()
    asyncio.run(made.wait_for_hub())
    yield made
    made.stop_all()


def invite(hub: system.System, name: str, *options: object) -> tuple[str, str]:
    """The address and the token of a new invitation."""
    place = ("--site", "frankfurt", "--zone", "on_premise", "--name", name, "--quiet")
    line = shlex.split(at_hub(hub, "agents", "invite", *place, *options))
    return line[line.index("--hub") + 1], line[line.index("--token") + 1]


def enrol(state: Path, url: str, token: str, *, code: int = 2) -> str:
    done = support.command("ringfence-agent", "enrol", "--hub", url, "--token", token, "--state", state)
    assert done.returncode == code, done.stderr + done.stdout
    if code == 2:
        assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
        assert not (state / "agent-keys.json").exists(), "nothing is left behind"
    return done.stderr + done.stdout


class Impostor:
    """Answers at an address as a hub would, and keeps what it is told. By TLS with a certificate of its own authority, or without."""

    def __init__(
        self, folder: Path, roots: bytes, *, date: float | None = None, tls: bool = True, certificate: Path | None = None
    ) -> None:
        own = authorities.load_or_create(folder / "impostor.json", bytes(32), time.time())
        (folder / "impostor.pem").write_bytes(own.certify_server(["127.0.0.1"], time.time()))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate or folder / "impostor.pem")
        self._tls = tls
        self._roots = roots or own.trusted
        self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(date or time.time()))
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                self._answer(line)

    def _answer(self, line: socket.socket) -> None:
        line.settimeout(5)
        if self._tls:
            line = self.context.wrap_socket(line, server_side=True)
        with line:
            asked = b""
            while b"\r\n\r\n" not in asked:
                data = line.recv(65_536)
                asked += data
                self.heard += data
                if not data:
                    return
            while (more := _expected(asked)) > 0:
                data = line.recv(more)
                asked += data
                self.heard += data
            posted = asked.startswith(b"POST")
            status = "503 Service Unavailable" if posted else "200 OK"
            body = b'{"error": {"message": "The database cannot be written now."}}' if posted else self._roots
            head = f"HTTP/1.1 {status}\r\nDate: {self._date}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            line.sendall(head.encode() + body[:20])
            line.sendall(body[20:])


def _expected(asked: bytes) -> int:
    """How many bytes of the body are still to come."""
    head, _, body = asked.partition(b"\r\n\r\n")
    sizes = [int(row.split(b":")[1]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:")]
    return sum(sizes) - len(body)


@pytest.mark.parametrize("lends", [False, True], ids=["with roots of its own", "with the true roots"])
def test_another_hub_at_the_address_never_sees_the_secret(hub: system.System, tmp_path: Path, lends: bool) -> None:
    """It may even show the true root, which is no secret: it has no certificate of it."""
    _, token = invite(hub, f"pinned-{int(lends)}")
    roots = (hub.hub / "tls" / "trusted.pem").read_bytes() if lends else b""
    impostor = Impostor(tmp_path, roots)
    try:
        said = enrol(tmp_path / "state", impostor.url, token)
        assert ("no valid certificate of its hub" if lends else "the token's secret was not sent") in said
        assert b"GET /v1/enrol/authority" in impostor.heard, "it was asked who it is"
        assert invitation.parse(token).secret.encode() not in impostor.heard and b"POST" not in impostor.heard
    finally:
        impostor.close()


def test_a_clock_two_days_off_is_said_before_anything_is_sent(hub: system.System, tmp_path: Path) -> None:
    _, token = invite(hub, "late")
    impostor = Impostor(tmp_path, (hub.hub / "tls" / "trusted.pem").read_bytes(), date=time.time() + 2 * DAY_S)
    try:
        assert "clock differs from the hub's by -1727" in enrol(tmp_path / "state", impostor.url, token)
        assert invitation.parse(token).secret.encode() not in impostor.heard
    finally:
        impostor.close()


def test_a_hub_that_cannot_take_it_now_is_asked_again_with_the_same_keys(hub: system.System, tmp_path: Path) -> None:
    """It may have kept the agent before it failed: new keys would look like a stranger's, and lock it."""
    url, token = invite(hub, "patient")
    tls = hub.hub / "tls"
    failing = Impostor(tmp_path, (tls / "trusted.pem").read_bytes(), certificate=tls / "server.pem")
    state = tmp_path / "state"
    try:
        done = support.command("ringfence-agent", "enrol", "--hub", failing.url, "--token", token, "--state", state)
    finally:
        failing.close()
    assert done.returncode == 2 and "cannot be written now. Paste the line again" in done.stderr, done.stderr
    assert invitation.parse(token).secret.encode() in failing.heard, "it is the hub, so it was told"
    before = (state / "agent-keys.json").read_bytes()
    enrol(state, url, token, code=0)
    assert (state / "agent-keys.json").read_bytes() == before


def test_an_entrance_without_tls_is_refused(hub: system.System, tmp_path: Path) -> None:
    _, token = invite(hub, "plain")
    impostor = Impostor(tmp_path, b"", tls=False)
    try:
        assert "Nothing answers at" in enrol(tmp_path / "state", impostor.url, token)
        assert invitation.parse(token).secret.encode() not in impostor.heard
    finally:
        impostor.close()
    assert "is no address of a hub" in enrol(tmp_path / "state", impostor.url.replace("https", "http"), token)


def _expire(hub: system.System, token: str) -> None:
    with sqlite3.connect(hub.hub / "ringfence.db") as database:
        database.execute("update invitations set expires = ? where id = ?", (time.time() - 1, invitation.parse(token).id))


def _of_another_secret(token: str) -> str:
    known = invitation.parse(token)
    return invitation.Token(known.id, invitation.mint(known.pin).secret, known.pin).text


TOKENS: dict[str, tuple[Callable[[system.System, str], str], str]] = {
    "expired": (lambda hub, token: (_expire(hub, token), token)[1], "has expired: ask for a new one"),
    "cut off in pasting": (lambda hub, token: token[:-3], "is not whole"),
    "mistyped": (lambda hub, token: token.replace(token[20], "x" if token[20] != "x" else "y"), "is not whole"),
    "of another secret": (lambda hub, token: _of_another_secret(token), "knows no such invitation"),
    "of nobody": (lambda hub, token: invitation.mint(invitation.parse(token).pin).text, "knows no such invitation"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_is_refused_in_one_sentence(hub: system.System, tmp_path: Path, name: str) -> None:
    change, said = TOKENS[name]
    url, token = invite(hub, f"token-{list(TOKENS).index(name)}")
    assert said in enrol(tmp_path / "state", url, change(hub, token))


def test_an_invitation_is_seen_until_it_is_withdrawn(hub: system.System, tmp_path: Path) -> None:
    url, token = invite(hub, "regretted")
    assert "regretted" in at_hub(hub, "agents", "invitations") and token[16:40] not in at_hub(hub, "agents", "invitations")
    at_hub(hub, "agents", "uninvite", "regretted")
    assert "regretted" not in at_hub(hub, "agents", "invitations")
    assert "has expired" in enrol(tmp_path / "state", url, token)
    assert "no open invitation" in at_hub(hub, "agents", "uninvite", "regretted", code=2)


def test_a_host_at_which_nothing_answers_is_said(hub: system.System, tmp_path: Path) -> None:
    _, token = invite(hub, "wrong-host")
    assert "check the address, the firewall, and that the hub runs" in enrol(tmp_path / "state", "https://127.0.0.1:1", token)


def test_a_token_that_was_used_comes_back_as_an_alarm(hub: system.System, tmp_path: Path) -> None:
    url, token = invite(hub, "replayed")
    enrol(tmp_path / "one", url, token, code=0)
    assert "was used before, by other keys" in enrol(tmp_path / "two", url, token)
    locked = {row["id"]: row["locked"] for row in map(json.loads, at_hub(hub, "agents", "list", "--json").splitlines())}
    assert "shown again with other keys" in locked["replayed"]


def _naming(key: bytes, name: str) -> bytes:
    """A request for a certificate that asks for a name, and for the right to sign others."""
    loaded = serialization.load_pem_private_key(key, None)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hub")]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(loaded, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_what_a_request_claims_is_not_what_its_certificate_says(hub: system.System, tmp_path: Path) -> None:
    """A request under another agent's name, with another agent's URI in it: the invitation's name is what counts."""
    url, token = invite(hub, "honest")
    asked = identity.request(tmp_path / "state", "victim")
    foreign = _naming(identity.next_key(tmp_path / "state"), authority.uri("hub", "hub"))
    body = {
        "token": token,
        "request": enrolment.write_request(enrolment.Request("victim", asked.signing_key, asked.sealing_key, foreign)).decode(),
    }
    context = ssl.create_default_context(cafile=str(hub.hub / "tls" / "trusted.pem"))
    request = urllib.request.Request(f"{url}/v1/enrol", data=json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(request, context=context, timeout=10) as response:
        (tmp_path / "state" / "agent-name").unlink()
        got = identity.accept(tmp_path / "state", response.read())
    assert (got.name, got.zone, got.site) == ("honest", "on_premise", "frankfurt")
    told = authority.verify(got.certificate, got.trusted, now=time.time())
    assert told.uri == "spiffe://ringfence/agent/honest"


def test_the_entrance_takes_tls_1_3_alone(hub: system.System) -> None:
    context = ssl.create_default_context(cafile=str(hub.hub / "tls" / "trusted.pem"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(urllib.error.URLError, match=r"(?i)ssl"):
        urllib.request.urlopen(f"https://127.0.0.1:{hub.enrol_port}/v1/enrol/authority", context=context, timeout=10)


RENEWALS = {
    "of nobody": ("stranger", "agent_unknown"),
    "of a revoked agent": ("gone", "agent_revoked"),
    "by another agent's certificate": ("other", "certificate_foreign"),
}


@pytest.mark.parametrize("name", RENEWALS)
def test_a_renewal_is_refused_with_the_hubs_own_word(hub: system.System, tmp_path: Path, name: str) -> None:
    called, code = RENEWALS[name]
    url, token = invite(hub, called)
    state, keys_of = tmp_path / "state", tmp_path / "state"
    enrol(state, url, token, code=0)
    if code == "agent_revoked":
        at_hub(hub, "agents", "revoke", called)
    if code == "certificate_foreign":
        keys_of = tmp_path / "foreign"
        enrol(keys_of, *invite(hub, "another"), code=0)
    me = identity.load(state)
    key, chain = identity.certificate(keys_of)
    asked = authority.request(authority.new_key())
    frame = renewal.ask(AgentId("nobody") if code == "agent_unknown" else me.id, chain, key, asked, me.keys.signer)
    context = ssl.create_default_context(cafile=str(hub.hub / "tls" / "trusted.pem"))
    request = urllib.request.Request(f"{url}/v1/enrol/renew", data=frame, method="POST")
    with urllib.request.urlopen(request, context=context, timeout=10) as response, pytest.raises(errors.Refused) as refused:
        renewal.read_answer(response.read(), frame, me.hub_key)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"\x93\x01", b"{}", b"x" * 100_000], ids=["empty", "nonsense", "half", "json", "large"]
)
def test_the_entrance_answers_nonsense_with_an_error(hub: system.System, body: bytes) -> None:
    context = ssl.create_default_context(cafile=str(hub.hub / "tls" / "trusted.pem"))
    for path in ("/v1/enrol", "/v1/enrol/renew"):
        request = urllib.request.Request(f"https://127.0.0.1:{hub.enrol_port}{path}", data=body, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, context=context, timeout=10)
        assert 400 <= refused.value.code < 500
        assert json.loads(refused.value.read())["error"]["code"]
