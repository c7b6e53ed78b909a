"""Cards, bank accounts, wallets, pay."""

from __future__ import annotations

import re

from classifiers.checksums import common, finance
from classifiers.context import Words
from classifiers.recognizers.rule import DIGITS, WORD, Rule

_IBAN_SEPARATORS = b" -\r\n."
_SEPARATORS = b" -.\r\n\t_/*|~()"
_DIGIT = frozenset(bytes((d,)) for d in DIGITS)
MIN_CARD_DIGITS, MAX_CARD_DIGITS = 12, 19
_CARD_WORDS = re.compile(rb"(?i)card|maestro|visa|master|credit|debit|karte|carte|tarjeta|carta|kreditkarte|pan\b", re.ASCII)
_ISO_STAMP = re.compile(rb"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?\d*", re.ASCII)
_UNIX_MILLISECONDS = re.compile(rb"1[4-9]\d{11}", re.ASCII)
_BIC_COUNTRIES = frozenset(
    [
        "AD",
        "AE",
        "AL",
        "AM",
        "AR",
        "AT",
        "AU",
        "AZ",
        "BA",
        "BE",
        "BG",
        "BH",
        "BR",
        "BY",
        "CA",
        "CH",
        "CL",
        "CN",
        "CO",
        "CR",
        "CY",
        "CZ",
        "DE",
        "DK",
        "DO",
        "EE",
        "EG",
        "ES",
        "FI",
        "FR",
        "GB",
        "GE",
        "GI",
        "GR",
        "GT",
        "HK",
        "HR",
        "HU",
        "ID",
        "IE",
        "IL",
        "IN",
        "IS",
        "IT",
        "JO",
        "JP",
        "KE",
        "KR",
        "KW",
        "KZ",
        "LB",
        "LI",
        "LT",
        "LU",
        "LV",
        "MA",
        "MC",
        "MD",
        "ME",
        "MK",
        "MT",
        "MU",
        "MX",
        "MY",
        "NG",
        "NL",
        "NO",
        "NZ",
        "OM",
        "PA",
        "PE",
        "PH",
        "PK",
        "PL",
        "PS",
        "PT",
        "QA",
        "RO",
        "RS",
        "RU",
        "SA",
        "SE",
        "SG",
        "SI",
        "SK",
        "SM",
        "TH",
        "TN",
        "TR",
        "TW",
        "UA",
        "US",
        "UY",
        "VA",
        "VE",
        "VN",
        "XK",
        "ZA",
    ]
)


def _card(text: bytes, start: int, end: int) -> int | None:
    """The longest prefix of the candidate that is a card: two numbers may stand side by side. One line break at most."""
    raw = text[start:end]
    whole = raw.translate(None, _SEPARATORS).decode("ascii")
    if (
        len(whole) <= MAX_CARD_DIGITS
        and finance.card(whole)
        and text[end : end + 1] not in _DIGIT
        and raw.count(b"\n") <= 1
        and _is_card(text, start, end, whole)
    ):
        return end
    digits = ""
    accepted = None
    breaks = 0
    for place in range(start, end):
        if text[place] == 0x0A:
            breaks += 1
            if breaks > 1:
                break
        if text[place] in DIGITS:
            digits += chr(text[place])
            at_edge = place + 1 >= len(text) or text[place + 1] not in DIGITS
            if (
                MIN_CARD_DIGITS <= len(digits) <= MAX_CARD_DIGITS
                and at_edge
                and finance.card(digits)
                and _is_card(text, start, place + 1, digits)
            ):
                accepted = place + 1
            if len(digits) == MAX_CARD_DIGITS:
                break
    return accepted


def _is_card(text: bytes, start: int, end: int, digits: str) -> bool:
    """Short Maestro numbers and what may be a time stamp need a word that says card."""
    raw = text[start:end]
    if len(digits) == MIN_CARD_DIGITS or _ISO_STAMP.fullmatch(raw) or _UNIX_MILLISECONDS.fullmatch(raw):
        return _CARD_WORDS.search(text, max(0, start - 64), min(len(text), end + 32)) is not None
    return True


def _iban(text: bytes, start: int, end: int) -> int | None:
    """The country's own length of the candidate: words may follow it without a break."""
    country = text[start : start + 2].decode("ascii").upper()
    length = finance.iban_length(country)
    if length is None:
        return None
    compact = text[start:end].translate(None, _IBAN_SEPARATORS)[:length].decode("ascii").upper()
    if len(compact) < length or not finance.iban(compact):
        return None
    place, left = start, length
    while left:
        left -= text[place] not in _IBAN_SEPARATORS
        place += 1
    return place if text.count(b"\n", start, place) <= 1 else None


def _bic(text: bytes, start: int, end: int) -> int | None:
    return end if text[start + 4 : start + 6].decode("ascii") in _BIC_COUNTRIES else None


def _track(text: bytes, start: int, end: int) -> int | None:
    found = re.search(rb"\d{12,19}", text[start:end])
    return end if found and common.luhn(found[0].decode()) else None


_ACCOUNT_WORDS = Words(
    "account number", "account no", "account", "acct", "acct no", "a/c", "a/c no", "bank account", "kontonummer", "konto", "checking", "savings account", "beneficiary", "iban", "num\u00e9ro de compte",
    "cuenta", "n\u00famero de cuenta", "deposit account", "account #", "acc no", "giro", "sort code",
)  # fmt: skip
RULES = (
    Rule(
        "finance.iban", "IBAN_CODE", "financial", r"(?i:[A-Z]{2}\d{2}(?:[ \-\r\n]{0,2}[A-Z0-9]){11,32})", 1.0,
        matches=("DE89 3704 0044 0532 0130 00", "to GB82WEST12345698765432 today", "nl91abna0417164300", "DE89-3704-0044-0532-0130-00"),
        misses=("DE89 3704 0044 0532 0130 01", "XX89370400440532013000"), check=_iban, edges=WORD, trigger=r"(?i:[A-Z]{2}\d{2}(?:[ \-\r\n]{0,2}[A-Z0-9]){11})",
    ),
    Rule(
        "finance.card", "CREDIT_CARD", "pci", r"\d(?:[ \-.\r\n\t_/*|~()]{0,2}\d){11,22}", 1.0,
        matches=(
            "card 4111 1111 1111 1111", "5555-5555-5555-4444", "2221000000000009", "378282246310005", "6011111111111117", "4111 1111\n1111 1111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "3530111333300000", "30569309025904", "4222222222222", "2026 4111 1111 1111 1111", "6759649826438453", "4111.1111.1111.1111",
        ),
        misses=("4111 1111 1111 1112", "1234567890123456", "0000000000000000", "id 41111111111111110000000", "at 1700000000000 ms", "4111\n1111\n1111\n1111"),
        check=_card, edges=DIGITS, trigger=r"\d(?:[ \-.\r\n\t_/*|~()]{0,2}\d){11}",
    ),
    Rule(
        "finance.bic", "SWIFT_CODE", "quasi_identifier", r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?", 0.85,
        matches=("BIC DEUTDEFF", "SWIFT code: COBADEFF370"), misses=("DEUTDEFF", "BIC INTERNET"), check=_bic, edges=WORD,
        needs=Words("bic", "swift", "swift code", "bic code", "iban", "bank"),
    ),
    Rule(
        "finance.account", "US_BANK_NUMBER", "financial", r"\d(?:[ \-]?\d){5,16}", 0.7,
        matches=("account number 123456789", "acct 0012345678", "my bank account is 987654321", "account no. 12-3456-789"),
        misses=("order 123456789", "there are 1000000 people", "the account was opened in 2019"), edges=WORD + b".,-", needs=_ACCOUNT_WORDS,
    ),
    Rule(
        "finance.sort_code", "UK_SORT_CODE", "financial", r"\d{2}-\d{2}-\d{2}", 0.8, matches=("sort code 20-00-00",), misses=("on 20-01-24",), edges=WORD + b"-",
        needs=Words("sort code", "sortcode", before=40, after=10),
    ),
    Rule(
        "finance.track", "CARD_TRACK", "pci", r"%B\d{12,19}\^[^^\n]{2,26}\^\d{4}[0-9=?;]{3,40}|;\d{12,19}=\d{7,24}", 1.0,
        matches=("%B4111111111111111^DOE/JOHN^25121010000000000?", ";4111111111111111=25121010000000000"), misses=(";1234=5",), check=_track, trigger=r"%B\d|;\d{12}",
    ),
    Rule(
        "finance.cvv", "CVV", "pci", r"\d{3,4}", 0.9, matches=("CVV 123", "cvc: 4321", "security code is 999"), misses=("room 123", "the cvv is on the back, in 2024 cases"),
        edges=WORD + b".,-/", needs=Words("cvv", "cvv2", "cvc", "cvc2", "cid", "security code", "card verification", "pr\u00fcfziffer", before=24, after=0),
        check=lambda text, start, end: None if text[start:end] in (b"2023", b"2024", b"2025", b"2026") else end,
    ),
    Rule(
        "finance.pin", "PIN", "credential", r"\d{4,6}", 0.85, matches=("PIN: 4921", "my pin is 123987", "card pin 0042"), misses=("pin the note to 2024", "4921 pins"),
        edges=WORD + b".,-/", needs=Words("pin", "pin code", "pin number", "pincode", before=16, after=0),
        check=lambda text, start, end: end if re.search(rb"(?i)\bpin(?: ?(?:code|number|no))?\s{0,2}(?:is|was|:|=|#|)\s{0,2}$", text[max(0, start - 24) : start]) else None,
    ),
    Rule(
        "finance.card_expiry", "CARD_EXPIRY", "quasi_identifier", r"(?:0[1-9]|1[0-2])[/\-](?:20)?[2-4]\d", 0.8,
        matches=("exp 09/27", "valid thru 12/2028"), misses=("on 09/27", "13/27"), edges=WORD + b"/-",
        needs=Words("exp", "expires", "expiry", "expiration", "valid thru", "valid until", "g\u00fcltig bis", before=32, after=4),
    ),
    Rule(
        "finance.swift_message", "SWIFT_MESSAGE", "financial", r"\{1:F\d{2}[A-Z0-9]{12}\d{10}\}|:(?:50[AFK]|59[AF]?|32A|20):[A-Z0-9/]{3}", 0.95,
        matches=("{1:F01BANKBEBBA0012222123456}", ":50K:/12345678"), misses=("20:15",), trigger=r"\{1:F|:\d{2}[A-Z]?:",
    ),
    Rule(
        "finance.salary", "SALARY", "confidential_detail",
        r"(?i:(?:salary|wage|compensation|annual pay|base pay|gehalt|salario|salaire|bonus)[a-z ]{0,24}?(?: of| is| was| to|:| from|=)\s{0,2}(?:(?:usd|eur|gbp|chf|\$|\xe2\x82\xac|\xc2\xa3)\s?\d[\d.,' ]{2,12}\d|\d[\d.,']{3,12}\s?(?:usd|eur|gbp|chf|euros?|dollars?|k\b|per (?:year|month))))", 0.8,
        matches=("her salary is $84,000", "Salary: EUR 72.000", "a base pay of 55,000 euros"), misses=("the salary is fair", "what is the average salary in 2024"), trigger=r"(?i:salary|wage|compensation|pay|gehalt|salario|salaire|bonus)",
        check=lambda text, start, end: None if re.search(rb"(?i)average|typical|median|minimum", text[max(0, start - 20) : start]) else end,
    ),
    Rule(
        "finance.bitcoin", "CRYPTO", "financial", r"[13][a-km-zA-HJ-NP-Z1-9]{25,34}", 1.0,
        matches=("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",), misses=("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",),
        check=lambda text, start, end: end if finance.base58check(text[start:end].decode()) else None, edges=WORD,
    ),
    Rule(
        "finance.bitcoin_bech32", "CRYPTO", "financial", r"(?i:(?:bc|tb)1[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{25,71})", 1.0,
        matches=("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",), misses=("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",),
        check=lambda text, start, end: end if finance.bech32(text[start:end].decode()) else None, edges=WORD, trigger=r"(?i:(?:bc|tb)1[qp])",
    ),
    Rule(
        "finance.ethereum", "CRYPTO", "financial", r"0x[0-9a-fA-F]{40}", 0.95,
        matches=("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x52908400098527886e0f7030069857d2e4169ee7"), misses=("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "0x0000000000000000000000000000000000000000"),
        check=lambda text, start, end: end if finance.ethereum(text[start:end].decode()) else None, edges=WORD, trigger="0x[0-9a-fA-F]{8}",
    ),
)  # fmt: skip
