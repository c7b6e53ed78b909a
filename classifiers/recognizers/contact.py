"""Ways to reach a person: e-mail addresses and phone numbers. The door to phonenumbers."""

from __future__ import annotations

import re

import phonenumbers

from classifiers.context import Words
from classifiers.recognizers.rule import WORD, Rule

REGIONS = ("US", "GB", "DE", "FR")
"""Whose national forms are understood without a country code."""

_PHONE_WORDS = Words(
    "phone", "telephone", "tel", "mobile", "cell", "call", "fax", "sms", "whatsapp", "reach", "reached", "ring", "dial",
    "telefon", "handy", "portable", "contact", "number",
)  # fmt: skip
_DATE_OR_TIME = re.compile(rb"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d+(?:\.\d+){3}", re.ASCII)


def _email(text: bytes, start: int, end: int) -> int | None:
    local = text[start : text.index(b"@", start)]
    return None if local.startswith(b".") or local.endswith(b".") or b".." in local else end


def _phone(text: bytes, start: int, end: int) -> int | None:
    raw = text[start:end].decode("ascii")
    digits = sum(c.isdigit() for c in raw)
    if not 7 <= digits <= 15 or _DATE_OR_TIME.fullmatch(text[start:end]):
        return None
    if raw.startswith(("+", "00")):
        return end if _valid("+" + raw.lstrip("+0") if raw.startswith("00") else raw, None) else None
    # A national form is also what order numbers and ids look like: it needs a word that says so.
    if not _PHONE_WORDS.near(text, start, end):
        return None
    return end if any(_valid(raw, region) for region in REGIONS) else None


def _valid(raw: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(raw, region))
    except phonenumbers.NumberParseException:
        return False


RULES = (
    Rule(
        "contact.email", "EMAIL_ADDRESS", "pii",
        r"[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}", 0.95,
        matches=("write to anna.meyer@bank.test today", "x+y@sub.example.co.uk"),
        misses=("user@localhost", "@handle", "a@b"),
        check=_email, edges=WORD,
    ),
    Rule(
        "contact.phone", "PHONE_NUMBER", "pii", r"(?:\+|00)?\(?\d(?:[ ()./\-]{0,2}\d){6,14}", 0.8,
        matches=("call +49 30 901820", "phone (415) 555-2671", "tel 020 7946 0958", "+1 415-555-2671"),
        misses=("at 2024-01-15 12:30:45", "order 4155552671", "3.14159265358", "10.20.30.40", "build 20240115123045"),
        check=_phone, edges=WORD + b"+",
    ),
)  # fmt: skip
