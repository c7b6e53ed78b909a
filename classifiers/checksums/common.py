"""The algorithms that many numbers share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

_LUHN_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_VERHOEFF_D = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_P = ("0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258")


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    raw = digits.encode()
    return (sum(raw[-1::-2]) + sum(raw[-2::-2].translate(_LUHN_DOUBLED)) - 48 * len(raw)) % 10 == 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digits times weights."""
    return sum((ord(digit) - 48) * weight for digit, weight in zip(digits, weights, strict=False))


def verhoeff(digits: str) -> bool:
    """Verhoeff 1969, the dihedral group D5."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[place % 8][int(digit)])])
    return check == 0


def mod_11_10(digits: str) -> bool:
    """ISO/IEC 7064, hybrid system MOD 11,10."""
    product = 10
    for digit in digits[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def icao(text: str, check: str) -> bool:
    """The check digit of machine-readable documents: ICAO Doc 9303, weights 7 3 1."""
    total = sum((0 if c == "<" else int(c, 36)) * (7, 3, 1)[i % 3] for i, c in enumerate(text))
    return str(total % 10) == check


def is_date(year: int, month: int, day: int) -> bool:
    """Whether there is such a day."""
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def short_date(yy: str, mm: str, dd: str) -> bool:
    """Whether two digits of a year, a month and a day can be a date, in this century or the last."""
    return is_date(2000 + int(yy), int(mm), int(dd)) or is_date(1900 + int(yy), int(mm), int(dd))


def varied(digits: str) -> bool:
    """Whether not all characters are the same: 000000000 passes many checks."""
    return len(set(digits)) > 1
