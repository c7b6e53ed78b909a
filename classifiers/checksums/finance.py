"""Cards, bank accounts, routing numbers and wallets."""

from __future__ import annotations

from classifiers.checksums.common import luhn

_MAESTRO = (12, 13, 14, 15, 16, 17, 18, 19)
_CARD_RANGES = (  # (first, last, lengths), prefixes of equal length: ISO/IEC 7812 as the schemes publish theirs
    ("4", "4", (13, 16, 19)), ("51", "55", (16,)), ("2221", "2720", (16,)), ("34", "34", (15,)), ("37", "37", (15,)),
    ("300", "305", (14, 16, 17, 18, 19)), ("36", "36", (14, 15, 16, 17, 18, 19)), ("38", "39", (14, 16, 17, 18, 19)),
    ("6011", "6011", (16, 17, 18, 19)), ("644", "649", (16, 17, 18, 19)), ("65", "65", (16, 17, 18, 19)),
    ("3528", "3589", (16, 17, 18, 19)), ("2131", "2131", (15,)), ("1800", "1800", (15,)), ("62", "62", (16, 17, 18, 19)),
    ("50", "50", _MAESTRO), ("56", "58", _MAESTRO),
    ("60", "60", _MAESTRO), ("61", "61", _MAESTRO),
    ("63", "63", _MAESTRO), ("66", "69", _MAESTRO), ("81", "82", (16, 17, 18, 19)),
    ("2200", "2204", (16, 17, 18, 19)), ("9792", "9792", (16,)),
)  # fmt: skip

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24,
    "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26,
    "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip  # SWIFT IBAN registry

_BY_FIRST: dict[str, list[tuple[str, str, tuple[int, ...]]]] = {}
for _range in _CARD_RANGES:
    for _digit in range(int(_range[0][0]), int(_range[1][0]) + 1):
        _BY_FIRST.setdefault(str(_digit), []).append(_range)


def card(digits: str) -> bool:
    """Whether these 12 to 19 digits are a card number: of a scheme's range and length, and right by Luhn."""
    if not luhn(digits) or len(set(digits)) < 2:
        return False
    count = len(digits)
    return any(count in lengths and first <= digits[: len(first)] <= last for first, last, lengths in _BY_FIRST.get(digits[0], ()))


def iban_length(country: str) -> int | None:
    """How many characters an IBAN of this country has, or None where it has none."""
    return _IBAN_LENGTHS.get(country)


_BASE36 = {character: str(value) for value, character in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")}


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and ISO 7064 mod 97-10. Upper case, no spaces."""
    if len(text) != _IBAN_LENGTHS.get(text[:2]):
        return False
    return int("".join(map(_BASE36.__getitem__, text[4:] + text[:4]))) % 97 == 1


def aba(digits: str) -> bool:
    """A routing number of the American Bankers Association: nine digits, weights 3 7 1, and a Federal Reserve district in front."""
    district = int(digits[:2])
    if not (1 <= district <= 12 or 21 <= district <= 32 or 61 <= district <= 72 or district == 80):
        return False
    return sum(int(d) * w for d, w in zip(digits, (3, 7, 1) * 3, strict=True)) % 10 == 0


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def base58check(text: str) -> bool:
    """A Bitcoin address in Base58Check: a version, 20 bytes, and four bytes of their double SHA-256."""
    value = 0
    for character in text:
        place = _BASE58.find(character)
        if place < 0:
            return False
        value = value * 58 + place
    try:
        raw = value.to_bytes(25, "big")
    except OverflowError:
        return False
    import hashlib  # noqa: PLC0415 - it brings OpenSSL along, 4 MB that few texts need

    return raw[0] in (0, 5) and hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def bech32(text: str) -> bool:
    """A Bitcoin address of BIP 173 or BIP 350 (bech32, bech32m)."""
    text = text.lower()
    prefix, _, data = text.rpartition("1")
    if prefix not in ("bc", "tb") or any(c not in _BECH32 for c in data):
        return False
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + [_BECH32.index(c) for c in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> i & 1 else 0
    return check in (1, 0x2BC830A3)


def ethereum(text: str) -> bool:
    """An Ethereum address: 40 hexadecimal digits, and the capitals of EIP-55 where it has both cases."""
    body = text[2:]
    if body == body.lower() or body == body.upper():
        return len(set(body.lower())) > 4
    digest = keccak256(body.lower().encode()).hex()
    return all(not c.isalpha() or c.isupper() == (int(digest[i], 16) >= 8) for i, c in enumerate(body))


def keccak256(message: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (the submission of 2011; FIPS 202 changed the padding), for messages of up to 134 bytes: one block."""
    block = message + b"\x01" + bytes(134 - len(message)) + b"\x80"
    lanes = [[0] * 5 for _ in range(5)]
    for i in range(17):
        lanes[i % 5][i // 5] = int.from_bytes(block[8 * i : 8 * i + 8], "little")
    register = 1
    for _ in range(24):
        lanes, register = _keccak_round(lanes, register)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def _keccak_round(a: list[list[int]], register: int) -> tuple[list[list[int]], int]:
    c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
    d = [c[(x + 4) % 5] ^ _rotated(c[(x + 1) % 5], 1) for x in range(5)]
    a = [[a[x][y] ^ d[x] for y in range(5)] for x in range(5)]
    x, y, current = 1, 0, a[1][0]
    for t in range(24):
        x, y = y, (2 * x + 3 * y) % 5
        current, a[x][y] = a[x][y], _rotated(current, (t + 1) * (t + 2) // 2)
    a = [[a[x][y] ^ (~a[(x + 1) % 5][y] & a[(x + 2) % 5][y]) for y in range(5)] for x in range(5)]
    for j in range(7):
        register = (register << 1 ^ (register >> 7) * 0x71) % 256
        if register & 2:
            a[0][0] ^= 1 << ((1 << j) - 1)
    return a, register


def _rotated(lane: int, by: int) -> int:
    by %= 64
    return (lane << by | lane >> (64 - by)) & 0xFFFFFFFFFFFFFFFF
