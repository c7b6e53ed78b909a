"""Whether digits are a telephone number of some country, by the numbering plans of phonenumbers. The door to phonenumbers.

The library's own `parse` and `is_valid_number` take 130 µs a number; its metadata, asked directly, take two. A plan's patterns are
compiled when a number of it is first seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

TYPES = ("fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan", "voicemail")
MAX_CODE_DIGITS = 3


@lru_cache(maxsize=1)
def _library() -> Any:
    """phonenumbers, imported when the first candidate is looked at: it takes longer than all the rest of the classifier."""
    import phonenumbers  # noqa: PLC0415 - see above

    return phonenumbers


@lru_cache(maxsize=512)
def _plan(region: str) -> tuple[re.Pattern[str], re.Pattern[str] | None] | None:
    """(national numbers, what stands before one inside the country), or None for a region that is not in the plans."""
    metadata = _library().PhoneMetadata.metadata_for_region(region, None)
    if metadata is None:
        metadata = _library().PhoneMetadata.metadata_for_nongeo_region(int(region), None) if region.isdigit() else None
    if metadata is None:
        return None
    kinds = (getattr(metadata, name) for name in TYPES)
    patterns = [kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern]
    prefix = metadata.national_prefix_for_parsing
    return re.compile("|".join(f"(?:{p})" for p in patterns)), re.compile(prefix) if prefix else None


@lru_cache(maxsize=512)
def _regions(code: int) -> tuple[str, ...]:
    regions = tuple(_library().COUNTRY_CODE_TO_REGION_CODE.get(code, ()))
    return (str(code),) if regions == ("001",) else regions


def is_international(digits: str) -> bool:
    """Whether the digits after a + are a number of the country whose code they begin with."""
    for length in range(1, MAX_CODE_DIGITS + 1):
        regions = _regions(int(digits[:length]))
        if regions:
            national = digits[length:]
            return any(
                _is_of(region, national) or (national.startswith("0") and _is_of(region, national[1:])) for region in regions
            )
    return False


def is_national(digits: str, region: str) -> bool:
    """Whether the digits, as dialled inside the region, are a number of it."""
    return _is_of(region, digits)


def _is_of(region: str, digits: str) -> bool:
    plan = _plan(region)
    if plan is None:
        return False
    numbers, prefix = plan
    if numbers.fullmatch(digits):
        return True
    found = prefix.match(digits) if prefix is not None else None
    return found is not None and bool(found.end()) and numbers.fullmatch(digits[found.end() :]) is not None


def known(region: str) -> bool:
    """Whether the plans have a region of this code (ISO 3166-1 alpha-2, such as GB)."""
    return region in _library().SUPPORTED_REGIONS


def examples() -> Iterator[tuple[str, str | None, str]]:
    """(region, national form or None, international form) of an example number of each kind of each region."""
    phonenumbers = _library()
    formats = phonenumbers.PhoneNumberFormat
    kinds = (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE)
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in kinds:
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                national = (
                    phonenumbers.format_number(number, formats.NATIONAL) if region in ("US", "GB", "DE", "FR", "ES") else None
                )
                yield region, national, phonenumbers.format_number(number, formats.INTERNATIONAL)
