"""A small certificate authority (X.509, RFC 5280): a root, an issuer below it, and the certificates of processes.

Invariants, each with a test of its words:
- nothing of a request is copied but its public key, whose possession it proves: names, rights and times are the authority's own;
- whoever trusts the old root of a rotation verifies what the new one issues, by the new root as the old one signed it;
- a certificate for a client is none for a server, and the other way round.

Keys are on P-256 (SP 800-186), signatures ECDSA with SHA-256. A process is named by a URI (SPIFFE's form), and by that alone.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sync.crypto import digest
from sync.kit import errors

BACKDATE_S = 300.0
"""Seconds before its making from which a certificate counts: clocks differ."""
ROOT_S = 10 * 365 * 86_400.0
ISSUER_S = 365 * 86_400.0
MAX_PEM = 16 * 1024
_DOMAIN = "ringfence"


class BadCertificate(errors.Corrupt):
    """A certificate, a request for one or a key that is not what it should be."""

    code = "bad_certificate"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both in PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Pair({fingerprint(self.certificate).hex()[:16]})"


@dataclass(frozen=True, slots=True)
class Told:
    """What a verified certificate says. Times are seconds since 1970; `key`: the digest of its public key."""

    uri: str
    serial: int
    issued: float
    expires: float
    key: bytes


def uri(kind: str, name: str) -> str:
    """The name of a process in its certificate: spiffe://ringfence/agent/NAME."""
    return f"spiffe://{_DOMAIN}/{kind}/{name}"


def new_key() -> bytes:
    """A private key in PEM (PKCS #8)."""
    return _pem_of(ec.generate_private_key(ec.SECP256R1()))


def new_root(label: str, now: float) -> Pair:
    """A root that signs itself."""
    key = new_key()
    return Pair(_authority(label, _private(key).public_key(), None, key, now, ROOT_S, below=2), key)


def new_issuer(root: Pair, label: str, now: float) -> Pair:
    """What signs certificates day by day, below a root that may then be put away."""
    key = new_key()
    return Pair(_authority(label, _private(key).public_key(), root.certificate, root.key, now, ISSUER_S, below=0), key)


def cross_sign(old: Pair, new_root: bytes, now: float) -> bytes:
    """The new root as the old one vouches for it: for those who know only the old one yet."""
    certificate = _certificate(new_root)
    left = min(ROOT_S, certificate_times(old.certificate)[1] - now)
    label = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    return _authority(label, _ec_key(certificate.public_key()), old.certificate, old.key, now, left, below=1)


def request(key: bytes) -> bytes:
    """A request for a certificate (PKCS #10, RFC 2986), in PEM: the public key, and the proof that its owner asks."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(_private(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_of_request(data: bytes) -> bytes:
    """The digest of the public key in a request. Raises BadCertificate where the request does not prove that its owner asks."""
    return _key_digest(_request(data).public_key())


def issue(
    issuer: Pair, asked: bytes, name: str, *, now: float, life_s: float, hosts: Sequence[str] = (), server: bool = False
) -> bytes:
    """A certificate in PEM for the key in a request, under the URI `name`. A server's has `hosts`: DNS names and addresses."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(name), *map(_host, hosts)]
    parent = _certificate(issuer.certificate)
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    key = _ec_key(_request(asked).public_key())
    builder = _builder(name.rsplit("/", 1)[-1], key, parent.subject, now, life_s)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(_authority_key(parent), critical=False)
    )
    return builder.sign(_private(issuer.key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def verify(chain: bytes, roots: bytes, *, now: float, grace_s: float = 0.0) -> Told:
    """What a client's certificate says, the first of a chain in PEM, where the chain leads to one of the roots.

    `grace_s`: how long ago it may have expired. Raises BadCertificate.
    """
    try:
        first, *others = x509.load_pem_x509_certificates(chain[:MAX_PEM])
        issued, expires = certificate_times(chain)
        at = min(now, expires) if now - expires <= grace_s else now
        # Whoever signed it may have been replaced meanwhile: as of the certificate's own time it was in force.
        store = x509.verification.Store(x509.load_pem_x509_certificates(roots[:MAX_PEM]))
        verifier = x509.verification.PolicyBuilder().store(store).time(_moment(at)).max_chain_depth(4).build_client_verifier()
        verifier.verify(first, others)
        found = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = found.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.verification.VerificationError, x509.ExtensionNotFound, UnsupportedAlgorithm) as error:
        raise BadCertificate("The certificate is expired, or of another authority.") from error
    return Told(name, first.serial_number, issued, expires, _key_digest(first.public_key()))


def certificate_times(pem: bytes) -> tuple[float, float]:
    """When the first certificate was issued, and when it ends, in seconds since 1970."""
    certificate = _certificate(pem)
    return certificate.not_valid_before_utc.timestamp() + BACKDATE_S, certificate.not_valid_after_utc.timestamp()


def key_of_certificate(pem: bytes) -> bytes:
    """The digest of the public key in the first certificate."""
    return _key_digest(_certificate(pem).public_key())


def fingerprint(pem: bytes) -> bytes:
    """SHA-256 of the first certificate's DER: 32 bytes, by which people and tokens name it."""
    return digest.sha256(_certificate(pem).public_bytes(serialization.Encoding.DER))


def split(pem: bytes) -> list[bytes]:
    """Each certificate by itself. Raises BadCertificate."""
    try:
        found = x509.load_pem_x509_certificates(pem[:MAX_PEM])
    except ValueError as error:
        raise BadCertificate("These are no certificates.") from error
    return [certificate.public_bytes(serialization.Encoding.PEM) for certificate in found]


def prove(key: bytes, data: bytes) -> bytes:
    """A signature by a private key in PEM."""
    return _private(key).sign(data, ec.ECDSA(hashes.SHA256()))


def check_proof(certificate: bytes, data: bytes, signature: bytes) -> None:
    """Returns where the certificate's own key made the signature. Raises BadCertificate."""
    try:
        _ec_key(_certificate(certificate).public_key()).verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise BadCertificate("Who asks does not hold the certificate's key.") from error


def _authority(
    label: str, key: ec.EllipticCurvePublicKey, parent: bytes | None, signing_key: bytes, now: float, life_s: float, *, below: int
) -> bytes:
    above = _certificate(parent) if parent else None
    builder = _builder(label, key, above.subject if above else None, now, life_s)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=below), critical=True).add_extension(
        _usage(signs_certificates=True), critical=True
    )
    if above is not None:
        builder = builder.add_extension(_authority_key(above), critical=False)
    return builder.sign(_private(signing_key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _builder(
    label: str, key: ec.EllipticCurvePublicKey, parent: x509.Name | None, now: float, life_s: float
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now - BACKDATE_S))
        .not_valid_after(_moment(now + life_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _authority_key(parent: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    known = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _request(data: bytes) -> x509.CertificateSigningRequest:
    try:
        found = x509.load_pem_x509_csr(data[:MAX_PEM])
        _ec_key(found.public_key())
        proven = found.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCertificate("This is no request for a certificate.") from error
    if not proven:
        raise BadCertificate("The request for a certificate does not prove that its key's owner asks.")
    return found


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem[:MAX_PEM])
    except ValueError as error:
        raise BadCertificate("This is no certificate.") from error


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise BadCertificate("This is no private key.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadCertificate("The private key is not on P-256.")
    return key


def _ec_key(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate("The key is not on P-256.")
    return key


def _key_digest(key: object) -> bytes:
    spki = _ec_key(key).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return digest.of("certificate-key", spki)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
