"""Cases with known answers: cards, telephone numbers, evasions, secrets and look-alikes. Made anew each time from a fixed seed."""

from __future__ import annotations

import base64
import html
import random
import re
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from classifiers.checksums.common import luhn
from classifiers.recognizers import phone_plans, tokens


@dataclass(frozen=True, slots=True)
class Case:
    """A text, and what must be found in it: a type, or None where nothing of the types asked about may be. `value`: the span."""

    name: str
    text: str
    type: str | None
    value: str = ""


CARD_RANGES = (
    ("4", 13), ("4", 16), ("4", 19), ("51", 16), ("53", 16), ("55", 16), ("2221", 16), ("2300", 16), ("2720", 16), ("34", 15), ("37", 15), ("300", 14), ("305", 14),
    ("36", 14), ("38", 14), ("6011", 16), ("644", 16), ("65", 16), ("65", 19), ("3528", 16), ("3589", 16), ("2131", 15), ("1800", 15), ("62", 16), ("62", 19),
    ("5018", 12), ("5020", 13), ("5893", 14), ("6304", 15), ("6759", 16), ("6761", 18), ("6763", 19), ("2200", 16), ("9792", 16),
)  # fmt: skip
_CARD_SENTENCES = (
    "charge my card {} please",
    "card number: {}",
    "I paid with {} yesterday",
    "{}",
    "Visa or Maestro {} was declined, why?",
)


def cards(each: int = 10) -> Iterator[Case]:
    """Valid card numbers of every range, bare and in groups."""
    rng = random.Random(4)
    for prefix, length in CARD_RANGES:
        for n in range(each):
            body = prefix + "".join(rng.choices("0123456789", k=length - len(prefix) - 1))
            number = next(body + d for d in "0123456789" if luhn(body + d))
            shown = (
                number,
                " ".join(number[i : i + 4] for i in range(0, length, 4)),
                "-".join(number[i : i + 4] for i in range(0, length, 4)),
            )[n % 3]
            sentence = _CARD_SENTENCES[n % len(_CARD_SENTENCES)] if length > 12 else "card {}"
            yield Case(f"{prefix}/{length}", sentence.format(shown), "CREDIT_CARD", shown)


_PHONE_SENTENCES = (
    "Call me at {} after six.", "My phone number is {}.", "Tel. {}", "You can reach Anna on {}", "phone: {}, ask for Bob", "contact: {} or by mail", "Please ring {} tomorrow", "Mobile {}",
)  # fmt: skip
_NOT_PHONES = (
    "The job started at 2024-01-15 12:30:45 and ran for 20240115 ms.", "Order 4155552671 was shipped in 2023.", "trace 550e8400-e29b-41d4-a716-446655440000 failed",
    "commit 3f9a1c7e5b2d80463f9a1c7e5b2d80463f9a1c7e", "The total is 1,234,567.89 dollars for 12 items.", "pi is 3.14159265358979", "ISBN 978-3-16-148410-0 is out of print",
    "Version 10.20.30.40 of the driver", "Invoice 2024-000123 of 03/12/2024", "set timeout to 3000000 ms", "between 1990-1995 and 2001-2010", "coordinates 52.520008, 13.404954",
    "the score was 21-15 21-18", "for x in range(1000000000): pass", "serial 1234567890123456", "ticket #88213004 is open", "the year 1984, 1985 and 1986", "it costs 120 000 000 euros",
    "SKU 0012-3344-5566", "add 415 and 555 and 2671", "unix time 1700000000 or 1700000000000", "IP 192.168.001.001", "row 12 34 56 78 90", "page 123-456", "barcode 4006381333931",
)  # fmt: skip


def phones(each: int = 2) -> Iterator[Case]:
    """Numbers of all regions' plans in international form, and of the default regions as dialled there; and what is none."""
    rng = random.Random(5)
    for region, national, international in phone_plans.examples():
        for n in range(each):
            shown = international if n % 2 == 0 or national is None else national
            yield Case(
                f"{region} {'international' if shown is international else 'national'}",
                rng.choice(_PHONE_SENTENCES).format(shown),
                "PHONE_NUMBER",
                shown,
            )
    for text in _NOT_PHONES:
        yield Case("no phone", text, None)


def _spread(glue: str, number: str = "4111111111111111", every: int = 4) -> str:
    return glue.join(number[i : i + every] for i in range(0, len(number), every))


_FULL = str.maketrans("0123456789", "０１２３４５６７８９")
_ARABIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_DEVANAGARI = str.maketrans("0123456789", "०१२३४५६७८९")
_CIRCLED = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
_BOLD = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")
_SUPER = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
CARD, SSN, MAIL, IBAN = "4111 1111 1111 1111", "536-22-8726", "anna.meyer@bank.com", "DE89370400440532013000"


def evasions() -> list[Case]:
    """Forty ways to write something so that a pattern does not see it."""
    encoded: list[tuple[str, str, str]] = [
        ("full-width digits", CARD.translate(_FULL), "CREDIT_CARD"),
        ("arabic-indic digits", CARD.translate(_ARABIC), "CREDIT_CARD"),
        ("devanagari digits", CARD.translate(_DEVANAGARI), "CREDIT_CARD"),
        ("circled digits", CARD.replace(" ", "").translate(_CIRCLED), "CREDIT_CARD"),
        ("mathematical bold digits", CARD.translate(_BOLD), "CREDIT_CARD"),
        ("superscript digits", CARD.translate(_SUPER), "CREDIT_CARD"),
        ("zero-width space", _spread("\u200b"), "CREDIT_CARD"),
        ("zero-width joiner in each place", _spread("\u200d", every=1), "CREDIT_CARD"),
        ("no-break space", _spread("\u00a0"), "CREDIT_CARD"),
        ("thin space", _spread("\u2009"), "CREDIT_CARD"),
        ("en dash", _spread("–"), "CREDIT_CARD"),
        ("minus sign", _spread("−"), "CREDIT_CARD"),
        ("soft hyphen", _spread("\u00ad"), "CREDIT_CARD"),
        ("dots", _spread("."), "CREDIT_CARD"),
        ("underscores", _spread("_"), "CREDIT_CARD"),
        ("a space in each place", _spread(" ", every=1), "CREDIT_CARD"),
        ("a dash in each place", _spread("-", every=1), "CREDIT_CARD"),
        ("two spaces", _spread("  "), "CREDIT_CARD"),
        ("line break", "4111 1111\n1111 1111", "CREDIT_CARD"),
        ("bidirectional marks", "\u202e" + _spread("\u202c"), "CREDIT_CARD"),
        ("tag characters", _spread("\U000e0020"), "CREDIT_CARD"),
        ("combining marks", _spread("\u0336", every=1), "CREDIT_CARD"),
        ("base64", base64.b64encode(f"my card is {CARD}".encode()).decode(), "CREDIT_CARD"),
        ("base64 twice", base64.b64encode(base64.b64encode(f"my card is {CARD}".encode())).decode(), "CREDIT_CARD"),
        ("url-safe base64 of an ssn", base64.urlsafe_b64encode(f"ssn: {SSN} ???".encode()).decode(), "US_SSN"),
        ("hex", f"card {CARD}".encode().hex(), "CREDIT_CARD"),
        ("hex in pairs", CARD.replace(" ", "").encode().hex(" "), "CREDIT_CARD"),
        ("url-encoded e-mail", urllib.parse.quote(MAIL, safe=""), "EMAIL_ADDRESS"),
        ("every character url-encoded", "".join(f"%{ord(c):02X}" for c in CARD), "CREDIT_CARD"),
        ("html entities", "".join(f"&#{ord(c)};" for c in MAIL), "EMAIL_ADDRESS"),
        ("html entity of the at", html.escape(MAIL).replace("@", "&commat;"), "EMAIL_ADDRESS"),
        ("backslash escapes", "".join(f"\\x{ord(c):02x}" for c in CARD), "CREDIT_CARD"),
        ("unicode escapes", "".join(f"\\u{ord(c):04x}" for c in MAIL), "EMAIL_ADDRESS"),
        ("spelled e-mail", "anna.meyer [at] bank [dot] com", "EMAIL_ADDRESS"),
        ("spaced letters", " ".join(MAIL), "EMAIL_ADDRESS"),
        ("cyrillic letters", MAIL.replace("a", "а").replace("e", "е"), "EMAIL_ADDRESS"),
        ("full-width at", MAIL.replace("@", "＠"), "EMAIL_ADDRESS"),
        ("iban with zero-width spaces", _spread("\u200b", IBAN), "IBAN_CODE"),
        ("ssn with arabic digits", SSN.translate(_ARABIC), "US_SSN"),
        ("password with homoglyphs", "pаsswоrd: hunter2!xy", "PASSWORD"),
    ]
    return [Case(name, f"note: {text} ok" if "\n" not in text else text, kind) for name, text, kind in encoded]


_TAIL = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CONTEXTS = ("{}", "use {} for the demo", 'API_KEY="{}"', "curl -H 'X: {}'", "my key {} is rejected", "config:\n  token: {}\n")


def secrets(each: int = 3) -> Iterator[Case]:
    """Valid secrets of each kind, with fresh random tails; and look-alikes that are none."""
    rng = random.Random(6)
    for rule in tokens.RULES:
        for n in range(each):
            example = rule.matches[0].removeprefix("use ").removesuffix(" here")
            yield Case(rule.name, _CONTEXTS[(n + len(example)) % len(_CONTEXTS)].format(_fresh(example, rng)), "secret")
    for text in (
        "postgres://app:k3yz9Qw@db.example.com/main", "Server=db;User Id=sa;Password=Zx9kQ2pL;", "password: w8Kd!fQz", "the root password is Blue7Horse!", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ",
        "Authorization: Basic YWRtaW46c2VjcmV0MTIz", "aws_secret_access_key = 9drTJvcXLB89EXAMPLEY/LM8Kd2qWz0b1XyTgV3h", "secret_key = 'f83jd92kfla02kd8fj3k'", "DB_PASSWORD=Tq8#mPz2", "passphrase is 'gr8-horse-9'",
        "client_secret: 8Q~xK2fLm3pZ7wVb9cR4tY", "login: admin / S3rver!42", "token = 'b7e2c9a41f8d4e6c9d20'", "machine git.x login bob password h8Kd92kf", "https://bob:hunter22x@git.example.com/r.git",
    ):  # fmt: skip
        yield Case("stated", text, "secret")
    for text in (
        f"id {uuid.UUID(int=rng.getrandbits(128))}", "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "password: ********", "password = os.environ['DB_PASSWORD']",
        "api_key = YOUR_API_KEY", "token: <your token>", "pk_live_9aKfQ2mZ8xL4vB7cN1", "password is required", "forgot your password?", "the secret of good bread is time", "commit 3f9a1c7e5b2d80463f9a1c7e5b2d80463f9a1c7e",
        "export API_KEY=${API_KEY}", "secret: xxxxxxxxxxxxxxxxxxxx", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "password=password", "AKIA is the prefix of key ids", "ghp_ tokens have 36 characters", "token_type: bearer",
        "max_tokens = 2048", "key: value", "-----BEGIN PUBLIC KEY-----", "-----BEGIN CERTIFICATE-----", "https://example.com:8443/path", "mongodb://localhost:27017/db", "Authorization: Bearer $TOKEN",
        "the API key page is in settings", "def get_token(self): return self._token", "password_hash = bcrypt(password)", "integrity sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
        "css: .btn-primary-1234567890abcdef", "uuid 123e4567-e89b-12d3-a456-426614174000", "primary_key = user_id_0001", "the wifi password is on the fridge", "passport required", "secretary general", "cache_key = 'user:42:profile'",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUA", "nonce=4f1b2b0b822c", "AIzaSy is how Google keys begin", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7 bob@host", "keyboard: qwertz-105",
    ):  # fmt: skip
        yield Case("look-alike", text, None)


_RUN = re.compile(r"[A-Za-z0-9]{8,}")
_INVENTED = tuple(alphabet * 12 for alphabet in tokens.ALPHABETS)


def _fresh(example: str, rng: random.Random) -> str:
    """The example with its invented runs drawn anew, each character from its own class."""

    def drawn(match: re.Match[str]) -> str:
        run = match[0]
        for kept in range(min(6, len(run) - 7)):
            if any(run[kept:] in invented for invented in _INVENTED):
                return run[:kept] + "".join(_other(c, run[kept:], rng) for c in run[kept:])
        return run

    return _RUN.sub(drawn, example)


def _other(character: str, tail: str, rng: random.Random) -> str:
    if not character.isalnum():
        return character
    if all(c in "0123456789abcdef-" for c in tail):
        return rng.choice("0123456789abcdef")
    if character.isdigit():
        return rng.choice("23456789")
    letters = [c for c in _TAIL if c.isalpha() and c.isupper() == character.isupper()]
    return rng.choice(letters)
