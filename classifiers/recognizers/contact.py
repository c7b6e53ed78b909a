"""Ways to reach a person: e-mail addresses, telephone numbers, postal addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence

from classifiers.context import Words
from classifiers.recognizers import phone_plans
from classifiers.recognizers.rule import WORD, Rule

REGIONS = ("US", "GB", "DE", "FR", "ES")
"""Whose national forms are understood where a tenant names no regions."""

_PHONE_WORDS = Words(
    "phone", "telephone", "tel", "tel.", "tel:", "phone:", "mobile", "cell", "cellphone", "call", "called", "calling", "fax", "sms", "text", "whatsapp", "reach", "reached", "ring", "dial",
    "telefon", "handy", "mobil", "portable", "contact", "contacts", "hotline", "landline", "extension", "phone number", "phone no", "tel no", "t\u00e9l", "telefono", "tel\u00e9fono", "m\u00f3vil",
    "llame", "appelez", "anrufen", "telefoonnummer", "telephone number", "voicemail", "helpline", "ph", "mob", "number is", "numbers", "callback", "dialed", "phones", "telefax", "signal",
    "telefonnummer", "rufnummer", "num\u00e9ro", "ph:", "call back",
)  # fmt: skip
_NUMBER_WORDS = Words(
    "my number",
    "your number",
    "his number",
    "her number",
    "new number",
    "our number",
    "home",
    "office",
    "customer service",
    "support",
    "me at",
    "us at",
    "him at",
    "her at",
    "leave a message",
    "reception",
    "emergency",
    "toll free",
)
_DATE_OR_VERSION = re.compile(
    rb"(?:19|20)\d{2}[-/. ]\d{1,2}[-/. ]\d{1,2}(?:[ T]\d.*)?|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)\d{2}|\d{1,3}(?:\.\d{1,3}){3}|\d{4}-\d{4}|(?:19|20)\d{2}[ \-](?:19|20)\d{2}.*|\d+\.\d{3,}", re.ASCII
)  # fmt: skip
_NOT_DIGITS = re.compile(rb"[^0-9]", re.ASCII)
_EXTENSION = re.compile(rb"(?i:[ ,;]{0,2}(?:ext\.?|x|extension|#|durchwahl|poste)[ .:]{0,2}\d{1,6})", re.ASCII)
_GROUPED = re.compile(rb"\(\d{2,5}\)[ .\-]?\d{2,5}[ .\-]?\d{2,5}(?:[ .\-]?\d{1,5})?|\d{3}[-. ]\d{3}[-. ]\d{4}|1[-. ]\d{3}[-. ]\d{3}[-. ]\d{4}|0\d{1,4}[ \-/]\d{2,4}[ \-]\d{2,4}(?:[ \-]\d{2,4}){0,3}", re.ASCII)  # fmt: skip
MAX_LOCAL, MAX_DOMAIN = 64, 253
DOT = 0x2E


def _email(text: bytes, start: int, end: int) -> int | None:
    """RFC 5321's lengths, and no dot or hyphen where none may be."""
    address = text[start:end]
    local, _, domain = address.partition(b"@")
    if len(local) > MAX_LOCAL or len(domain) > MAX_DOMAIN or local[0] == DOT or local[-1] == DOT:
        return None
    return None if b".." in address or b".-" in domain or b"-." in domain else end


def _digits(text: bytes, start: int, end: int) -> str:
    return _NOT_DIGITS.sub(b"", text[start:end]).decode("ascii")


def _with_extension(text: bytes, end: int) -> int:
    found = _EXTENSION.match(text, end)
    return found.end() if found else end


def _international(text: bytes, start: int, end: int) -> int | None:
    digits = _digits(text, start, end)
    if text[start] == 0x2B:
        return _with_extension(text, end) if _possible_international(digits) else None
    digits = digits.removeprefix("00") if digits.startswith("00") else digits[3:]
    return _with_extension(text, end) if 8 <= len(digits) <= 15 and phone_plans.is_international(digits) else None


def _possible_international(digits: str) -> bool:
    return 8 <= len(digits) <= 15 and digits[0] != "0"


class National:
    """Checks for numbers as dialled inside some regions."""

    def __init__(self, regions: Sequence[str] = REGIONS) -> None:
        self._regions = tuple(regions)

    def grouped(self, text: bytes, start: int, end: int) -> int | None:
        """A valid number in the groups that people write it in."""
        if not _GROUPED.fullmatch(text, start, end) or self.plain(text, start, end) is None:
            return None
        return _with_extension(text, end)

    def plain(self, text: bytes, start: int, end: int) -> int | None:
        """A valid number in whatever groups."""
        if _DATE_OR_VERSION.fullmatch(text, start, end):
            return None
        digits = _digits(text, start, end)
        return _with_extension(text, end) if any(phone_plans.is_national(digits, region) for region in self._regions) else None


def _stated(text: bytes, start: int, end: int) -> int | None:
    """What a word calls a telephone number is one, valid in a plan or not: people mistype, and examples invent."""
    digits = _digits(text, start, end)
    if not 7 <= len(digits) <= 15 or _DATE_OR_VERSION.fullmatch(text, start, end) or len(set(digits)) < 3:
        return None
    return _with_extension(text, end)


_DIALLED = re.compile(
    r"\+[\d ().\-/]{7,20}|\(?0[\d ().\-/]{6,18}|\(\d{2,5}\)[\d .\-]{5,14}|\d{2,4}(?:[ .\-]\d{2,4}){2,5}|\d{3,4}[ .\-]\d{5,7}",
    re.ASCII,
)
_TAIL = re.compile(r"(?i)[ ,;]{0,2}(?:ext\.?|x|extension|#)[ .:]{0,2}\d{1,6}$", re.ASCII)


def looks_dialled(surface: str) -> bool:
    """Whether the model's guess has the form of a telephone number: a + or a 0 in front, or groups; and is no date and no address."""
    bare = _TAIL.sub("", surface.strip())
    raw = bare.encode("utf-8", "replace")
    return (
        7 <= sum(c.isdigit() for c in bare) <= 15 and _DIALLED.fullmatch(bare) is not None and not _DATE_OR_VERSION.fullmatch(raw)
    )


_EDGES = WORD + b"+"
_LOOSE = r"\(?\d(?:[ ()./\-\n]{0,2}\d){6,13}"


def phone_rules(regions: Sequence[str] = REGIONS) -> tuple[Rule, ...]:
    """The rules for telephone numbers, for the national forms of these regions."""
    national = National(regions)
    return (
        Rule(
            "contact.phone_international", "PHONE_NUMBER", "pii", r"(?:\+|00|011[ \-.]?)[ ]?\(?\d(?:[ ()./\-\n]{0,3}\d){6,14}", 0.9,
            matches=("call +49 30 901820", "+1 415-555-2671", "0049 30 901820", "+44 (0)20 7946 0958", "011 44 20 7946 0958", "+1 (618) 726-7634 x12"),
            misses=("+12", "1+4155552671345", "00000000000"), check=_international, edges=WORD + b"+",
        ),
        Rule(
            "contact.phone_grouped", "PHONE_NUMBER", "pii",
            r"\(\d{2,5}\)[ .\-]?\d{2,5}[ .\-]?\d{2,5}(?:[ .\-]?\d{1,5})?|(?:1[\-. ])?\d{3}[\-. ]\d{3}[\-. ]\d{4}|0\d{1,4}[ \-/]\d{2,4}[ \-]\d{2,4}(?:[ \-]\d{2,4}){0,3}", 0.75,
            matches=("(415) 555-2671", "415-555-2671", "020 7946 0958", "212.555.0187"),
            misses=("2024-01-15 12:30:45", "123-456-7890123", "012-34-5678", "build 111-222-3333"), check=national.grouped, edges=WORD + b"+-",
        ),
        Rule(
            "contact.phone_national", "PHONE_NUMBER", "pii", _LOOSE, 0.85,
            matches=("phone 4155552671", "tel 02079460958", "reach me on 07700 900123", "Call 030 901820", "fax: 06 12 34 56 78"),
            misses=("at 2024-01-15 12:30:45", "order 4155552671", "3.14159265358", "10.20.30.40", "build 20240115123045", "call of 2024-01-15", "id 550e8400-e29b-41d4-a716-446655440000"),
            check=_stated, edges=_EDGES + b"-", needs=_PHONE_WORDS,
        ),
        Rule(
            "contact.phone_number_word", "PHONE_NUMBER", "pii", _LOOSE, 0.7,
            matches=("my number 07700 900123", "office 030 901820"), misses=("my number 1234567", "order no 5551234567890", "order number 4155552671"), check=national.plain, edges=_EDGES + b"-",
            needs=_NUMBER_WORDS,
        ),
    )  # fmt: skip


_DOMAIN = r"[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff.\-]*\.[A-Za-z\x80-\xff]{2,24}"
_STREET = r"Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Terrace|Ter|Way|Square|Sq|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Trail|Trl|Crescent|Close|Plaza|Row|Alley"
RULES = (
    Rule(
        "contact.email", "EMAIL_ADDRESS", "pii", r"[A-Za-z0-9._%+\-'\x80-\xff]+@" + _DOMAIN, 0.95,
        matches=("write to anna.meyer@bank.test today", "x+y@sub.example.co.uk", "j\u00f6rg@m\u00fcller.de", "o'brien@firm.ie"),
        misses=("user@localhost", "@handle", "a@b"), check=_email, edges=WORD, trigger="@",
    ),
    Rule(
        "contact.email_spelled", "EMAIL_ADDRESS", "pii",
        r"(?i:[a-z0-9._%+\-]{1,64}\s{0,2}(?:[\[({<]\s?at\s?[\])}>]|\sat\s)\s{0,2}[a-z0-9\-]{1,63}(?:\s{0,2}(?:[\[({<]\s?(?:dot|\.)\s?[\])}>]|\sdot\s|\.)\s{0,2}[a-z0-9\-]{2,63}){1,4})", 0.85,
        matches=("bob [at] test [dot] org", "mail me: bob (at) example.com", "anna at bank dot com"),
        misses=("meet at noon. then go", "look at example. it works", "at the dot", "we arrive at example.com"),
        check=lambda text, start, end: end if re.search(rb"(?i)[\[({<]\s?at\s?[\])}>]|\sat\s.*(?:\sdot\s|[\[({<]\s?dot)", text[start:end]) else None, edges=WORD,
        trigger=r"(?i)\bat\b",
    ),
    Rule(
        "contact.street_address", "STREET_ADDRESS", "pii",
        rf"\d{{1,5}}[A-Za-z]?,? (?:[NSEW]\.? |North |South |East |West )?(?:[A-Z][A-Za-z'\-]{{1,20}} ){{1,3}}(?:{_STREET})\.?(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|#)\.? ?[A-Za-z0-9\-]{{1,6}})?"
        r"(?:,? [A-Z][a-z]{2,20}(?: [A-Z][a-z]{2,20})?,? [A-Z]{2} \d{5}(?:-\d{4})?)?", 0.8,
        matches=("live at 742 Evergreen Terrace", "12 North Main Street, Apt 4B", "1600 Pennsylvania Ave, Washington, DC 20500"), misses=("in 2024 Main results", "the street is long", "5 Star Way more"),
        edges=WORD, check=lambda text, start, end: None if text[end : end + 6].lower() == b" more " or text[end : end + 5].lower() == b" more" else end,
    ),
    Rule(
        "contact.po_box", "STREET_ADDRESS", "pii", r"(?i:P\.? ?O\.? ?Box|Postfach|Apartado|Bo\xc3\xaete postale|BP) \d{1,7}", 0.8,
        matches=("P.O. Box 1234", "Postfach 10 02 03"), misses=("box 1234", "the PO box"), edges=WORD,
    ),
    Rule(
        "contact.street_german", "STREET_ADDRESS", "pii",
        r"(?:[A-Z\xc3][A-Za-z\x80-\xff\-]{2,30}(?:stra\xc3\x9fe|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer)|(?:Am|An der|Auf der|Unter den|Im) [A-Z][A-Za-z\x80-\xff\-]{2,30}) \d{1,4} ?[a-z]?(?:, ?\d{5} [A-Z][A-Za-z\x80-\xff\-]{2,30})?", 0.8,
        matches=("Hauptstra\u00dfe 12, 10115 Berlin", "Lindenweg 5"), misses=("Hauptstra\u00dfe", "der Weg 5"), edges=WORD,
    ),
    Rule(
        "contact.street_romance", "STREET_ADDRESS", "pii",
        r"(?i:(?:\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|all\xc3\xa9e|quai|impasse|cours)|(?:calle|c/|avenida|avda\.?|plaza|paseo|via|viale|piazza|corso|rua)) (?:d[aeiou]s? |de la |de los |l'|d'|del |della )?)[A-Z\xc3][A-Za-z\x80-\xff'\-]{2,30}(?: [A-Z\xc3][A-Za-z\x80-\xff'\-]{1,30}){0,3}(?:,? (?:n\xc2\xba ?)?\d{1,4})?", 0.75,
        matches=("12 rue de la Paix", "Calle Mayor 12", "Via Roma 5"), misses=("via email", "rue the day"), edges=WORD,
        check=lambda text, start, end: end if any(48 <= c <= 57 for c in text[start:end]) else None,
    ),
    Rule(
        "contact.zip", "ZIP_CODE", "quasi_identifier", r"\d{5}(?:-\d{4})?", 0.7,
        matches=("zip code 90210", "ZIP: 12345-6789", "PLZ 10115", "Springfield, IL 62704"), misses=("error 90210", "90210 people"), edges=WORD + b"-.",
        needs=Words("zip", "zip code", "zipcode", "postal code", "postcode", "plz", "code postal", "c\u00f3digo postal", "cp", *(
            ["al", "ak", "az", "ar", "ca", "co", "ct", "de", "fl", "ga", "hi", "id", "il", "ia", "ks", "ky", "la", "md", "mi", "mn", "ms", "mo", "mt", "ne", "nv", "nh", "nj", "nm", "ny", "nc", "nd", "oh", "pa", "ri", "sc", "sd", "tn", "tx", "ut", "vt", "va", "wa", "wv", "wi", "wy"]), before=12, after=0),
    ),
)  # fmt: skip
