"""Cards, bank accounts and account numbers."""

from __future__ import annotations

from classifiers import checksums
from classifiers.context import Words
from classifiers.recognizers.rule import DIGITS, WORD, Rule

MAX_CARD_DIGITS = 19


def _card(text: bytes, start: int, end: int) -> int | None:
    """The longest prefix of the candidate that is a card: two numbers may stand side by side."""
    digits = ""
    accepted = None
    for place in range(start, end):
        if text[place] in DIGITS:
            digits += chr(text[place])
            at_edge = place + 1 >= len(text) or text[place + 1] not in DIGITS
            if 13 <= len(digits) <= MAX_CARD_DIGITS and at_edge and checksums.card(digits):
                accepted = place + 1
    return accepted


def _iban(text: bytes, start: int, end: int) -> int | None:
    """The country's own length of the candidate: words may follow it without a break."""
    country = text[start : start + 2].decode("ascii").upper()
    length = checksums.iban_length(country)
    if length is None:
        return None
    kept = ""
    for place in range(start, end):
        if text[place] != 0x20:
            kept += chr(text[place])
        if len(kept) == length:
            return place + 1 if checksums.iban(kept.upper()) else None
    return None


RULES = (
    Rule(
        "finance.card", "CREDIT_CARD", "pci", r"\d(?:[ \-]?\d){12,18}", 1.0,
        matches=(
            "card 4111 1111 1111 1111", "5555-5555-5555-4444", "2221000000000009", "378282246310005", "6011111111111117",
            "3530111333300000", "30569309025904", "4222222222222", "2026 4111 1111 1111 1111", "6759649826438453",
        ),
        misses=("4111 1111 1111 1112", "1234567890123456", "0000000000000000", "id 41111111111111110000000"),
        check=_card, edges=DIGITS,
    ),
    Rule(
        "finance.iban", "IBAN_CODE", "financial", r"(?i)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,32}", 1.0,
        matches=("DE89 3704 0044 0532 0130 00", "to GB82WEST12345698765432 today", "nl91abna0417164300"),
        misses=("DE89 3704 0044 0532 0130 01", "XX89370400440532013000"),
        check=_iban, edges=WORD,
    ),
    Rule(
        "finance.account", "US_BANK_NUMBER", "financial", r"\d{6,17}", 0.7,
        matches=("account number 123456789", "acct 0012345678", "my bank account is 987654321"),
        misses=("order 123456789", "there are 1000000 people", "the account was opened in 2019"),
        edges=WORD + b".,-", needs=Words("account number", "account no", "acct", "acct no", "bank account", "kontonummer", "iban"),
    ),
)  # fmt: skip
