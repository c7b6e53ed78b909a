"""Who a person is by the state's numbers, and when they were born."""

from __future__ import annotations

from classifiers import checksums
from classifiers.context import Words
from classifiers.recognizers.rule import WORD, Rule

_SSN_WORDS = Words("ssn", "social security", "social security number", "ss number", "social")
_MONTHS = (
    "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|"
    "Nov(?:ember)?|Dec(?:ember)?"
)
_DATE = (
    r"(?i)(?:(?:19|20)\d{2}-\d{1,2}-\d{1,2}|\d{1,2}[./\-]\d{1,2}[./\-](?:(?:19|20)\d{2}|\d{2})"
    rf"|\d{{1,2}}\.? (?:{_MONTHS})\.?,? (?:19|20)\d{{2}}|(?:{_MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d{{2}})"
)


def _ssn(text: bytes, start: int, end: int) -> int | None:
    raw = text[start:end].decode("ascii")
    digits = raw.replace("-", "").replace(" ", "")
    if not checksums.us_ssn(digits):
        return None
    separators = {c for c in raw if not c.isdigit()}
    if separators == {"-"} or _SSN_WORDS.near(text, start, end):
        return end
    return None


RULES = (
    Rule(
        "identity.us_ssn", "US_SSN", "government_id", r"\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}|\d{9}", 0.95,
        matches=("ssn 536-22-8726", "536-22-8726", "social security number 536228726", "SSN: 536 22 8726"),
        misses=("000-12-3456", "666-12-3456", "900-12-3456", "536-00-8726", "order 536228726", "536 22 8726"),
        check=_ssn, edges=WORD + b"-",
    ),
    Rule(
        "identity.date_of_birth", "DATE_OF_BIRTH", "pii", _DATE, 0.9,
        matches=("born 1984-03-12", "DOB: 03/12/1984", "date of birth: 12 March 1984", "geboren am 12.03.1984", "birthday May 4, 1990"),
        misses=("the meeting on 2024-03-12", "invoice of 03/12/2024"),
        edges=WORD, needs=Words("born", "dob", "d.o.b", "date of birth", "birth date", "birthdate", "birthday", "geboren", "geburtsdatum"),
    ),
)  # fmt: skip
