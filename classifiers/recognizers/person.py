"""What describes a person or an event without naming anyone: dates, ages, titles, nationalities, and the vehicles and devices people own."""

from __future__ import annotations

import re

from classifiers.checksums import common, identity
from classifiers.context import Words
from classifiers.matching import Check
from classifiers.recognizers.rule import WORD, Rule, alone, of_digits, of_letters

_MONTHS = (
    r"Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?"
    r"|Januar|Februar|M\xc3\xa4rz|Mai|Juni|Juli|Oktober|Dezember|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    r"|janvier|f\xc3\xa9vrier|mars|avril|juin|juillet|ao\xc3\xbbt|septembre|octobre|novembre|d\xc3\xa9cembre"
)
_NUMERIC = r"(?:19|20)\d{2}[\-/.]\d{1,2}[\-/.]\d{1,2}|\d{1,2}[./\-]\d{1,2}[./\-](?:(?:19|20)\d{2}|\d{2})"
_NAMED = (
    rf"\d{{1,2}}(?:st|nd|rd|th)?\.?(?: de| of)? (?:{_MONTHS})\.?(?:,?(?: de)? (?:19|20)\d{{2}})?|(?:{_MONTHS})\.? \d{{1,2}}(?:st|nd|rd|th)?(?:,? (?:19|20)\d{{2}})?"
    rf"|(?:{_MONTHS})\.?,? (?:19|20)\d{{2}}"
)
_BIRTH_WORDS = Words(
    "born", "born on", "dob", "d.o.b", "date of birth", "birth date", "birthdate", "birthday", "birth", "geboren", "geburtsdatum", "geb", "geb.", "fecha de nacimiento", "naci\u00f3", "nacido",
    "nacida", "date de naissance", "n\u00e9 le", "n\u00e9e le", "data di nascita", "nato il", "geboortedatum",
)  # fmt: skip


def _date(text: bytes, start: int, end: int) -> int | None:
    parts = [int(p) for p in re.findall(rb"\d+", text[start:end])]
    year, rest = (parts[0], parts[1:]) if parts[0] > 31 else (parts[2], parts[:2])
    year = year if year > 99 else 2000 + year
    return end if common.is_date(year, rest[0], rest[1]) or common.is_date(year, rest[1], rest[0]) else None


def _age(low: int, high: int) -> Check:
    def check(text: bytes, start: int, end: int) -> int | None:
        found = re.search(rb"\d{1,3}", text[start:end])
        return end if found and low <= int(found[0]) <= high else None

    return check


_AGE = (
    r"(?i:\b(?:aged?|age:|age is|alter:?|edad:?|[\xc3\xa2a]ge:?)[ :]{0,2}(?:of )?\d{1,3}|\d{1,3}[ \-](?:years?|yrs?|year)[ \-]olds?|\d{1,3}[ \-]?(?:y/?o|yo)\b|\d{1,3} years of age|"
    r"\d{1,3} (?:Jahre|ans|a\xc3\xb1os)(?: alt| de edad)?|\d{1,3}-j\xc3\xa4hrige[rn]?|(?:I'?m|I am|he is|she is|he's|she's|turned|turns|turning) \d{1,2}(?: now| today|,|\.| and)?)"
)
_NOT_AGE = Words("%", "percent", "km", "minutes", "hours", "ago", "euros", "dollars", "experience", before=0, after=14)
RULES = (
    Rule(
        "person.date_of_birth", "DATE_OF_BIRTH", "pii", rf"(?i:{_NUMERIC}|{_NAMED})", 0.9,
        matches=("born 1984-03-12", "DOB: 03/12/1984", "date of birth: 12 March 1984", "geboren am 12.03.1984", "birthday May 4, 1990", "fecha de nacimiento: 01/01/1979"),
        misses=("the meeting on 2024-03-12", "invoice of 03/12/2024"), edges=WORD, needs=_BIRTH_WORDS,
    ),
    Rule(
        "person.date", "DATE_TIME", "quasi_identifier", _NUMERIC, 0.7,
        matches=("on 2024-03-12", "03/12/1984", "12.03.84"), misses=("version 1.2.30.4", "99/99/9999", "1984/2"), check=_date, edges=WORD + b"./-",
    ),
    Rule(
        "person.date_named", "DATE_TIME", "quasi_identifier", rf"(?i:{_NAMED})", 0.7,
        matches=("on 12 March 1984", "May 4th", "Oct 3, 2019"), misses=("may 500", "march on"), edges=WORD, trigger=rf"(?i:(?:\d|st|nd|rd|th)\.?(?: de| of)? (?:{_MONTHS})|(?:{_MONTHS})\.?,? \d)",
    ),
    Rule(
        "person.timestamp", "DATE_TIME", "quasi_identifier", r"(?:19|20)\d{2}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?:Z|[+\-]\d{2}:?\d{2})?", 0.8,
        matches=("2024-01-15T12:30:45Z", "2024-01-15 12:30:45.123"), misses=("2024-01-15T",), edges=WORD, trigger=r"\d{2}-\d{2}[T ]\d{2}:\d{2}",
    ),
    Rule(
        "person.age", "AGE", "quasi_identifier", _AGE, 0.75,
        matches=("a 37-year-old man", "aged 54", "she is 42 years old", "Age: 61", "29 y/o female"), misses=("page 37", "a 400-year-old oak", "I'm 100% sure"), edges=WORD + b"%",
        check=_age(0, 89), trigger=r"(?i:\d[ \-]?(?:y|jahr|j\xc3\xa4hr|ans|a\xc3\xb1os)|\bage|alter|edad|turn|\bi'?m \d|\bam \d|is \d|'s \d)",
    ),
    Rule(
        "person.age_over_89", "AGE", "pii", _AGE, 0.85, matches=("a 93-year-old man", "aged 101"), misses=("aged 54", "I am 100% sure"), edges=WORD + b"%",
        check=_age(90, 120), trigger=r"(?i:\d[ \-]?(?:y|jahr|j\xc3\xa4hr|ans|a\xc3\xb1os)|\bage|alter|edad|turn|\bi'?m \d|\bam \d|is \d|'s \d)",
    ),
    Rule(
        "person.vin", "VIN", "pii", r"[A-HJ-NPR-Z0-9]{17}", 0.85, matches=("VIN 1M8GDM9AXKP042788",), misses=("1M8GDM9AXKP042789", "VIN 1M8GDM9AXKP04278"),
        check=of_letters(identity.vin), edges=WORD, needs=Words("vin", "vehicle", "chassis", "car", "fahrgestellnummer", "fin"),
    ),
    Rule(
        "person.imei", "IMEI", "pii", r"\d{2}-?\d{6}-?\d{6}-?\d", 0.85, matches=("IMEI 490154203237518", "imei: 49-015420-323751-8"), misses=("490154203237518", "IMEI 490154203237519"),
        check=of_digits(identity.imei), edges=WORD, needs=Words("imei", "device", "handset", "imei number"),
    ),
    Rule(
        "person.licence_plate", "LICENSE_PLATE", "pii", r"[A-Z0-9]{1,4}[ \-][A-Z0-9]{1,4}(?:[ \-][A-Z0-9]{1,4})?", 0.7,
        matches=("license plate 7ABC-123", "Kennzeichen B-XY 1234", "plate number AB12 CDE"), misses=("gate A-12", "plate of food"), edges=WORD + b"-",
        needs=Words("license plate", "licence plate", "number plate", "plate number", "registration number", "kennzeichen", "matr\u00edcula", "plaque d'immatriculation", "vehicle registration", before=32, after=0),
        check=lambda text, start, end: end if any(48 <= c <= 57 for c in text[start:end]) else None,
    ),
    Rule(
        "person.coordinates", "COORDINATES", "pii", r"[\-+]?\d{1,2}\.\d{4,8},\s?[\-+]?\d{1,3}\.\d{4,8}|\d{1,2}\xc2\xb0 ?\d{1,2}['\xe2]", 0.8,
        matches=("52.520008, 13.404954", "at -33.8688197,151.2092955"), misses=("1.5, 2.5", "99.1234567, 2.1"), edges=WORD + b".",
        check=lambda text, start, end: end if b"," not in text[start:end] or all(abs(float(p)) <= m for p, m in zip(text[start:end].split(b","), (90, 180), strict=True)) else None,
    ),
    Rule(
        "person.employee_id", "EMPLOYEE_ID", "pii", r"[A-Z]{0,4}[\-#]?\d{3,10}", 0.7, matches=("employee ID E-10442", "staff number 88213", "Personalnummer 004512"),
        misses=("the employee has 2000 shares", "model E-10442"), check=alone, edges=WORD + b".,-/",
        needs=Words("employee id", "employee number", "employee no", "staff id", "staff number", "personnel number", "personalnummer", "badge number", "payroll number", "matricule", before=24, after=0),
    ),
    Rule(
        "person.customer_id", "CUSTOMER_ID", "pii", r"[A-Z]{0,4}[\-#]?\d{4,12}", 0.6, matches=("customer number 4410223", "Kundennummer K-88213"), misses=("we have 20000 customers",), check=alone, edges=WORD + b".,-/",
        needs=Words("customer number", "customer id", "customer no", "client id", "client number", "kundennummer", "member id", "membership number", "policy number", "num\u00e9ro client", before=24, after=0),
    ),
    Rule(
        "person.username", "USERNAME", "pii", r"[A-Za-z0-9._\-]{3,32}", 0.7, matches=("username: jdoe42", "user name is anna_m", "login=svc-backup"), misses=("the username is wrong", "enter your username", "username and password"),
        edges=WORD + b"@", needs=Words("username", "user name", "user id", "login", "userid", "screen name", "handle", "benutzername", before=16, after=0),
        check=lambda text, start, end: end if re.search(rb"(?i)(?:user ?name|user ?id|login|handle|screen name|benutzername)[\"']?\s{0,2}(?:is|:|=)\s{0,2}[\"']?$", text[max(0, start - 24) : start])
        and text[start:end].lower() not in (b"wrong", b"not", b"the", b"your", b"invalid", b"taken", b"required", b"available", b"already", b"unknown", b"missing") else None,
    ),
)  # fmt: skip
