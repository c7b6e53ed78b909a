"""Numbers that American states give: the United States, Canada, Brazil, Mexico."""

from __future__ import annotations

from classifiers.checksums import finance, identity
from classifiers.context import Words
from classifiers.recognizers.rule import WORD, Rule, of_digits, of_letters

_SSN_WORDS = Words(
    "ssn", "ssns", "social security", "social security number", "social security no", "ss number", "ss#", "social", "socialsecurity"
)
_NINE = r"\d{3}[ \-.]?\d{2}[ \-.]?\d{4}"
_PASSPORT_WORDS = Words(
    "passport",
    "passport number",
    "passport no",
    "passport #",
    "travel document",
    "reisepass",
    "passeport",
    "pasaporte",
    "passaporto",
)
_LICENCE_WORDS = Words(
    "driver license", "drivers license", "driver's license", "driving license", "driving licence", "driver licence", "drivers licence", "driver's licence",
    "dl", "dl#", "dln", "license number", "licence number", "driver id", "permit number", "dmv",
)  # fmt: skip


def _ssn(digits: str) -> bool:
    return identity.us_ssn(digits) or identity.us_itin(digits)


RULES = (
    Rule(
        "american.us_ssn", "US_SSN", "government_id", r"\d{3}-\d{2}-\d{4}", 0.95,
        matches=("ssn 536-22-8726", "536-22-8726 is on the form"),
        misses=("000-12-3456", "666-12-3456", "536-00-8726", "078-05-1120", "1536-22-8726", "536-22-87266", "930-12-3456"),
        check=of_digits(identity.us_ssn), edges=WORD + b"-",
    ),
    Rule(
        "american.us_ssn_in_context", "US_SSN", "government_id", r"\d{3}[ .\-\n]{0,2}\d{2}[ .\-\n]{0,2}\d{4}", 0.9,
        matches=("social security number 536228726", "SSN: 536 22 8726", "my ssn is 536.22.8726", "SSN 536-22-\n8726"),
        misses=("order 536228726", "536 22 8726", "ssn 000 12 3456"),
        check=of_digits(identity.us_ssn), edges=WORD + b"-", needs=_SSN_WORDS,
    ),
    Rule(
        "american.us_ssn_spaced", "US_SSN", "government_id", r"\d(?:[ .\-]\d){8}", 0.9,
        matches=("ssn 5 3 6 2 2 8 7 2 6",), misses=("5 3 6 2 2 8 7 2 6", "ssn 0 0 0 2 2 8 7 2 6"),
        check=of_digits(identity.us_ssn), edges=WORD, needs=_SSN_WORDS,
    ),
    Rule(
        "american.us_itin", "US_ITIN", "government_id", r"9\d{2}[ \-]?\d{2}[ \-]?\d{4}", 0.9,
        matches=("ITIN 912-70-1234", "taxpayer id 912701234"), misses=("ITIN 912-10-1234", "912701234"),
        check=of_digits(identity.us_itin), edges=WORD + b"-",
        needs=Words("itin", "taxpayer", "tax id", "taxpayer id", "taxpayer identification", "individual taxpayer", "irs", "tax"),
    ),
    Rule(
        "american.us_ein", "US_EIN", "government_id", r"\d{2}-\d{7}", 0.7,
        matches=("EIN 12-3456789", "employer identification number 12-3456789"), misses=("part 12-3456789",),
        edges=WORD + b"-", needs=Words("ein", "employer identification", "employer identification number", "federal tax id", "fein", "tax id"),
    ),
    Rule(
        "american.us_npi", "US_NPI", "phi", r"[12]\d{3}[ \-]?\d{3}[ \-]?\d{3}", 0.85,
        matches=("NPI 1234567893", "national provider identifier: 1245319599"), misses=("NPI 1234567890", "1234567893"),
        check=of_digits(identity.us_npi), edges=WORD, needs=Words("npi", "national provider", "provider identifier", "provider number", "provider id"),
    ),
    Rule(
        "american.us_dea", "MEDICAL_LICENSE", "phi", r"[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}", 0.85,
        matches=("DEA AB1234563", "dea number: BB1388568"), misses=("DEA AB1234567", "AB1234563"),
        check=of_letters(identity.us_dea), edges=WORD, needs=Words("dea", "dea number", "dea no", "medical license", "medical licence", "prescriber", "certificate"),
    ),
    Rule(
        "american.us_mbi", "US_MBI", "phi", r"[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}", 0.9,
        matches=("1EG4-TE5-MK73", "Medicare 1EG4TE5MK72"), misses=("1EG4-TE5-MK7", "SEG4-TE5-MK73"), edges=WORD + b"-",
    ),
    Rule(
        "american.us_passport", "US_PASSPORT", "government_id", r"(?:[A-Z]\d{8}|\d{9})", 0.85,
        matches=("passport 546123789", "passport number: C01234567", "my US passport no is A12345678"), misses=("order A12345678", "546123789"),
        edges=WORD, needs=_PASSPORT_WORDS,
    ),
    Rule(
        "american.passport", "PASSPORT", "government_id", r"(?:[A-Z]{1,2}[ ]?\d{6,8}|\d{2}[A-Z]{2}\d{5}|[A-Z]{3}\d{6}|[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8})", 0.8,
        matches=("passport AB123456", "Reisepass C01X00T47", "passeport 12AB34567"), misses=("flight AB123456", "passport please"),
        check=lambda text, start, end: end if any(48 <= c <= 57 for c in text[start:end]) else None, edges=WORD, needs=_PASSPORT_WORDS,
    ),
    Rule(
        "american.us_driver_license", "US_DRIVER_LICENSE", "government_id",
        r"(?:[A-Z]\d{3}[ \-]?\d{3,4}[ \-]?\d{2,4}(?:[ \-]?\d{3})?|[A-Z]{1,2}\d{5,8}|[A-Z]\d{4}[ \-]?\d{5}[ \-]?\d{5}|\d{7,9}|[A-Z]{3}\d{6,9}|[A-Z]\d{12,14}|\d{3}[A-Z]{2}\d{4})", 0.75,
        matches=("driver's license D1234567", "DL# A123-4567-8901", "drivers licence number 12345678"), misses=("model D1234567", "the driver drove 1234567 miles"),
        edges=WORD, needs=_LICENCE_WORDS,
    ),
    Rule(
        "american.ca_sin", "CA_SIN", "government_id", r"[1-79]\d{2}[ \-]?\d{3}[ \-]?\d{3}", 0.85,
        matches=("SIN 130 692 544", "social insurance number 130-692-544"), misses=("SIN 130 692 545", "130692544"),
        check=of_digits(identity.ca_sin), edges=WORD + b"-", needs=Words("sin", "social insurance", "social insurance number", "numero d'assurance sociale", "nas", "canada"),
    ),
    Rule(
        "american.ca_postal_code", "CA_POSTAL_CODE", "quasi_identifier", r"[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] \d[ABCEGHJ-NPRSTV-Z]\d", 0.7,
        matches=("Ottawa K1A 0B1",), misses=("K1A0", "D1A 0B1"), edges=WORD,
    ),
    Rule(
        "american.br_cpf", "BR_CPF", "government_id", r"\d{3}\.\d{3}\.\d{3}-\d{2}", 0.95,
        matches=("CPF 111.444.777-35", "529.982.247-25"), misses=("111.444.777-36", "111.111.111-11"), check=of_digits(identity.br_cpf), edges=WORD,
    ),
    Rule(
        "american.br_cpf_bare", "BR_CPF", "government_id", r"\d{3}[ ]?\d{3}[ ]?\d{3}[ ]?\d{2}", 0.9,
        matches=("cpf 11144477735",), misses=("11144477735", "cpf 11144477736"), check=of_digits(identity.br_cpf), edges=WORD,
        needs=Words("cpf", "cadastro de pessoas", "contribuinte"),
    ),
    Rule(
        "american.br_cnpj", "BR_CNPJ", "government_id", r"\d{2}\.?\d{3}\.?\d{3}/\d{4}-\d{2}", 0.9,
        matches=("CNPJ 11.222.333/0001-81",), misses=("11.222.333/0001-82",), check=of_digits(identity.br_cnpj), edges=WORD,
    ),
    Rule(
        "american.mx_curp", "MX_CURP", "government_id", r"(?i:[A-Z][AEIOUX][A-Z]{2}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d)", 0.95,
        matches=("CURP BOXW310820HNERXN09",), misses=("BOXW310820HNERXN08", "BOXW319920HNERXN09"), check=of_letters(identity.mx_curp), edges=WORD,
    ),
    Rule(
        "american.us_aba", "ABA_ROUTING_NUMBER", "financial", r"[0-8]\d{3}[ \-]?\d{4}[ \-]?\d", 0.85,
        matches=("routing number 021000021", "ABA: 0210-0002-1"), misses=("routing number 021000022", "021000021"),
        check=of_digits(finance.aba), edges=WORD, needs=Words("aba", "routing", "routing number", "routing no", "rtn", "bank", "wire"),
    ),
)  # fmt: skip
