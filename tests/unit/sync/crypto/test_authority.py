"""The small authority, and what stands on it: invitations' tokens, renewals, signed releases."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.crypto import authority, releases, signing
from sync.crypto.authority import BadCertificate, Pair
from sync.kit import errors
from sync.kit.ids import AgentId
from sync.wire import invitation, renewal
from tests.support import builders

NOW = 1_800_000_000.0
DAY_S = 86_400.0
ROOT = authority.new_root("Ringfence root 1", NOW)
ISSUER = authority.new_issuer(ROOT, "Ringfence issuer 1", NOW)
KEY = authority.new_key()
NAME = authority.uri("agent", "branch-1")


def issued(issuer: Pair = ISSUER, key: bytes = KEY, *, at: float = NOW, server: bool = False) -> bytes:
    hosts = ("127.0.0.1", "hub.example") if server else ()
    return (
        authority.issue(issuer, authority.request(key), NAME, now=at, life_s=DAY_S, server=server, hosts=hosts) + issuer.certificate
    )


def test_a_certificate_says_what_the_authority_gave_it() -> None:
    told = authority.verify(issued(), ROOT.certificate, now=NOW)
    assert (told.uri, told.issued, told.expires) == ("spiffe://ringfence/agent/branch-1", NOW, NOW + DAY_S)
    assert told.key == authority.key_of_request(authority.request(KEY)) == authority.key_of_certificate(issued())
    assert "PRIVATE" not in repr(ROOT)


REFUSED = {
    "of another root": (issued(), authority.new_root("other", NOW).certificate, NOW, 0.0),
    "expired": (issued(), ROOT.certificate, NOW + 2 * DAY_S, 0.0),
    "expired past its grace": (issued(), ROOT.certificate, NOW + 9 * DAY_S, 7 * DAY_S),
    "not yet": (issued(at=NOW + 2 * DAY_S), ROOT.certificate, NOW, 0.0),
    "a server's": (issued(server=True), ROOT.certificate, NOW, 0.0),
    "without its issuer": (
        issued().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n",
        ROOT.certificate,
        NOW,
        0.0,
    ),
    "nonsense": (b"nonsense", ROOT.certificate, NOW, 0.0),
    "an issuer's own": (ISSUER.certificate, ROOT.certificate, NOW, 0.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_certificate_is_refused(name: str) -> None:
    chain, roots, now, grace_s = REFUSED[name]
    with pytest.raises(BadCertificate):
        authority.verify(chain, roots, now=now, grace_s=grace_s)


def test_within_its_grace_an_ended_certificate_still_says_who_it_was() -> None:
    assert authority.verify(issued(), ROOT.certificate, now=NOW + 6 * DAY_S, grace_s=7 * DAY_S).uri == NAME


def test_whoever_trusts_the_old_root_verifies_what_the_new_one_issues() -> None:
    root = authority.new_root("Ringfence root 2", NOW)
    issuer = authority.new_issuer(root, "Ringfence issuer 2", NOW)
    cross = authority.cross_sign(ROOT, root.certificate, NOW)
    chain = issued(issuer) + cross
    for trusted in (ROOT.certificate, root.certificate, root.certificate + ROOT.certificate):
        assert authority.verify(chain, trusted, now=NOW).uri == NAME
    assert authority.split(root.certificate + ROOT.certificate) == [root.certificate, ROOT.certificate]
    with pytest.raises(BadCertificate):
        authority.verify(issued(issuer), ROOT.certificate, now=NOW)


def test_what_is_no_key_request_or_certificate_is_told_so() -> None:
    changed = bytearray(authority.request(KEY))
    changed[100] = ord("A") if changed[100] != ord("A") else ord("B")
    for attempt in (
        lambda: authority.key_of_request(b"nonsense"), lambda: authority.key_of_request(bytes(changed)),
        lambda: authority.fingerprint(b"nonsense"), lambda: authority.split(b"nonsense"), lambda: authority.request(b"nonsense"),
        lambda: authority.request(releases.new_key()[0]), lambda: authority.check_proof(issued(), b"data", authority.prove(authority.new_key(), b"data")),
    ):  # fmt: skip
        with pytest.raises(BadCertificate):
            attempt()
    authority.check_proof(issued(), b"data", authority.prove(KEY, b"data"))


# --- tokens


def test_a_token_is_what_was_minted() -> None:
    token = invitation.mint(authority.fingerprint(ROOT.certificate))
    assert invitation.parse(f" {token.text}\n") == token
    assert token.secret not in repr(token)


@given(at=st.integers(0, 130), letter=st.sampled_from("aZ0_ é"))
def test_a_token_with_a_wrong_letter_is_no_token(at: int, letter: str) -> None:
    text = invitation.mint(bytes(32)).text
    wrong = text[:at] + letter + text[at + 1 :]
    if wrong.strip() == text:
        return
    with pytest.raises(invitation.BadToken):
        invitation.parse(wrong)


# --- renewals

AGENT, HUB = signing.Signer(signing.new_seed()), signing.Signer(signing.new_seed())
ASKED = authority.request(authority.new_key())
FRAME = renewal.ask(AgentId("branch-1"), issued(), KEY, ASKED, AGENT)
GRANTED = renewal.Renewed(b"chain", b"roots", "", "", b"")


def test_a_renewal_is_asked_by_both_keys_and_answered_by_the_hub() -> None:
    asked = renewal.read(FRAME)
    renewal.check(asked, AGENT.public_key)
    told = renewal.read_answer(renewal.answer(FRAME, GRANTED, HUB), FRAME, HUB.public_key)
    assert (told.certificate, told.trusted) == (b"chain", b"roots")
    refused = renewal.Renewed(b"", b"", "agent_revoked", "It is revoked.", b"")
    with pytest.raises(errors.Refused, match="It is revoked") as error:
        renewal.read_answer(renewal.answer(FRAME, refused, HUB), FRAME, HUB.public_key)
    assert error.value.code == "agent_revoked"


FORGED = {
    "of another agent": builders.replaced(renewal.read(FRAME), agent=AgentId("branch-2")),
    "for another request": builders.replaced(renewal.read(FRAME), request=authority.request(authority.new_key())),
    "with another certificate": builders.replaced(renewal.read(FRAME), certificate=issued(key=authority.new_key())),
    "without the old key": renewal.read(renewal.ask(AgentId("branch-1"), issued(), authority.new_key(), ASKED, AGENT)),
    "by another signer": renewal.read(renewal.ask(AgentId("branch-1"), issued(), KEY, ASKED, HUB)),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_renewal_that_not_both_keys_ask_for_is_refused(name: str) -> None:
    with pytest.raises(errors.Corrupt):
        renewal.check(FORGED[name], AGENT.public_key)


def test_an_answer_of_another_or_to_another_request_is_refused() -> None:
    other = renewal.ask(AgentId("branch-1"), issued(), KEY, authority.request(authority.new_key()), AGENT)
    for answer, frame in ((renewal.answer(FRAME, GRANTED, AGENT), FRAME), (renewal.answer(FRAME, GRANTED, HUB), other)):
        with pytest.raises(errors.Corrupt):
            renewal.read_answer(answer, frame, HUB.public_key)


# --- releases


def test_a_release_is_checked_by_its_digests_and_its_signature(tmp_path: Path) -> None:
    private, public = releases.new_key()
    (tmp_path / "models").mkdir()
    (tmp_path / "a.deb").write_bytes(b"a")
    (tmp_path / "models/m.onnx").write_bytes(b"m")
    told = releases.sums(tmp_path)
    assert told.decode().splitlines()[1].endswith("  models/m.onnx")
    with pytest.raises(releases.NotSigned, match="is not signed"):
        releases.check(tmp_path / "a.deb", public)
    (tmp_path / releases.SUMS).write_bytes(told)
    (tmp_path / releases.SIGNATURE).write_bytes(releases.sign(told, private))
    releases.check(tmp_path / "a.deb", public)
    (tmp_path / "b.deb").write_bytes(b"b")
    with pytest.raises(releases.NotSigned, match="does not name"):
        releases.check(tmp_path / "b.deb", public)
    with pytest.raises(releases.NotSigned, match="somebody has changed it"):
        releases.check(tmp_path / "a.deb", releases.new_key()[1])
    for wrong in (b"nonsense", authority.new_key()):
        with pytest.raises(errors.Misconfigured):
            releases.sign(told, wrong)
    with pytest.raises(releases.NotSigned):
        releases.check(tmp_path / "a.deb", b"nonsense")
    (tmp_path / "a.deb").write_bytes(b"changed")
    with pytest.raises(releases.NotSigned, match="SHA-256 differs"):
        releases.check(tmp_path / "a.deb", public)
