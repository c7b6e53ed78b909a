"""Invented values that look like the real ones: same form, same kind of check digit, nobody's."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable

from classifiers.checksums import finance, identity

_FIRST = [
    "Alex",
    "Robin",
    "Sam",
    "Kim",
    "Noa",
    "Jules",
    "Rene",
    "Toni",
    "Sascha",
    "Andrea",
    "Chris",
    "Dana",
    "Eli",
    "Finley",
    "Jamie",
    "Jordan",
    "Kai",
    "Lee",
    "Lou",
    "Morgan",
]
_LAST = [
    "Archer",
    "Barlow",
    "Calder",
    "Dalton",
    "Ellery",
    "Farrow",
    "Garrick",
    "Hadley",
    "Ingram",
    "Jarrow",
    "Kendrick",
    "Larkin",
    "Mercer",
    "Norwood",
    "Oakley",
    "Prescott",
    "Quimby",
    "Radley",
    "Selwyn",
    "Thorne",
]
_STREETS = [
    "Alder",
    "Birch",
    "Cedar",
    "Dogwood",
    "Elm",
    "Fir",
    "Hazel",
    "Juniper",
    "Linden",
    "Maple",
    "Oak",
    "Pine",
    "Rowan",
    "Spruce",
    "Willow",
]
_CHECKS = {
    "CREDIT_CARD": finance.card, "US_SSN": identity.us_ssn, "UK_NHS": identity.uk_nhs, "CA_SIN": identity.ca_sin, "DE_TAX_ID": identity.de_tax_id,
    "NL_BSN": identity.nl_bsn, "PL_PESEL": identity.pl_pesel, "BR_CPF": identity.br_cpf, "IN_AADHAAR": identity.in_aadhaar, "US_NPI": identity.us_npi,
    "ABA_ROUTING_NUMBER": finance.aba, "AU_TFN": identity.au_tfn, "CH_AHV": identity.ch_ahv, "IMEI": identity.imei, "ES_NIF": identity.es_nif,
    "IT_FISCAL_CODE": identity.it_fiscal_code, "FR_NIR": identity.fr_nir,
}  # fmt: skip
_KEPT_IN_FRONT = {"CREDIT_CARD": 4, "CH_AHV": 3, "PHONE_NUMBER": 3, "FR_NIR": 1}
"""Characters that say which scheme or country it is, and stay."""
TRIES = 400
"""A check of one digit passes one time in ten, one of two in a hundred."""


def of(kind: str, value: str) -> str:
    """A surrogate for a value of this entity type; where no valid one is found, one of the same form."""
    match kind:
        case "PERSON":
            count = len(value.split())
            return secrets.choice(_FIRST) if count == 1 else f"{secrets.choice(_FIRST)} {secrets.choice(_LAST)}"
        case "EMAIL_ADDRESS":
            return f"{secrets.choice(_FIRST).lower()}.{secrets.choice(_LAST).lower()}{secrets.randbelow(90) + 10}@example.com"
        case "STREET_ADDRESS":
            return f"{secrets.randbelow(900) + 10} {secrets.choice(_STREETS)} Street"
        case "IBAN_CODE":
            return _iban(value)
    valid = _CHECKS.get(kind)
    kept = _KEPT_IN_FRONT.get(kind, 0)
    made = _shaped(value, kept)
    for _ in range(TRIES):
        if valid is None or _passes(valid, made):
            break
        made = _shaped(value, kept)
    return made


def _passes(valid: Callable[[str], bool], made: str) -> bool:
    bare = "".join(c for c in made.upper() if c.isalnum())
    try:
        return valid(bare)
    except (ValueError, IndexError, KeyError):
        return False


def _shaped(value: str, kept: int) -> str:
    """Another value of the same form: digits for digits, letters for letters, the rest as it is."""
    out = []
    for character in value:
        if character.isalnum() and kept > 0:
            kept -= 1
            out.append(character)
        elif character.isdecimal():
            out.append(secrets.choice(string.digits))
        elif character.isalpha():
            out.append(secrets.choice(string.ascii_uppercase if character.isupper() else string.ascii_lowercase))
        else:
            out.append(character)
    return "".join(out)


def _iban(value: str) -> str:
    """The same country and grouping, other digits, the right check digits (ISO 7064 mod 97-10)."""
    bare = "".join(c for c in value.upper() if c.isalnum())
    body = _shaped(bare[4:], 0)
    check = 98 - int("".join(str(int(c, 36)) for c in body + bare[:2] + "00")) % 97
    fresh = iter(f"{bare[:2]}{check:02}{body}")
    return "".join(next(fresh) if c.isalnum() else c for c in value)
