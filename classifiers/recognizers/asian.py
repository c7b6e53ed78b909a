"""Numbers that states of Asia, Oceania and Africa give."""

from __future__ import annotations

import re

from classifiers.checksums import identity
from classifiers.context import Words
from classifiers.recognizers.european import ANY
from classifiers.recognizers.rule import WORD, Rule, of_digits, of_letters

_PAN = re.compile(r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", re.ASCII)


def _alone(text: bytes, start: int, end: int) -> int | None:
    """Twelve digits in three groups, and no fourth group beside them: that would be a card."""
    if text[max(0, start - 2) : start - 1].isdigit() or (text[end : end + 1] in (b" ", b"-") and text[end + 1 : end + 2].isdigit()):
        return None
    return of_digits(identity.in_aadhaar)(text, start, end)


RULES = (
    Rule(
        "asian.au_tfn", "AU_TFN", "government_id", r"\d{3}[ \-]?\d{3}[ \-]?\d{3}", 0.9,
        matches=("TFN 123 456 782", "tax file number 123456782"), misses=("TFN 123 456 783", "123456782"),
        check=of_digits(identity.au_tfn), edges=WORD, needs=Words("tfn", "tax file number", "tax file", "australian", "ato", *ANY),
    ),
    Rule(
        "asian.au_abn", "AU_ABN", "quasi_identifier", r"\d{2}[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}", 0.8,
        matches=("ABN 51 824 753 556",), misses=("ABN 51 824 753 557", "51824753556"), check=of_digits(identity.au_abn), edges=WORD,
        needs=Words("abn", "australian business number", "business number"),
    ),
    Rule(
        "asian.au_acn", "AU_ACN", "quasi_identifier", r"\d{3}[ ]?\d{3}[ ]?\d{3}", 0.8,
        matches=("ACN 004 085 616",), misses=("ACN 004 085 617", "004085616"), check=of_digits(identity.au_acn), edges=WORD,
        needs=Words("acn", "australian company number", "company number"),
    ),
    Rule(
        "asian.au_medicare", "AU_MEDICARE", "phi", r"[2-6]\d{3}[ \-]?\d{5}[ \-]?\d", 0.9,
        matches=("Medicare 2123 45670 1", "medicare card 2123456701"), misses=("medicare 2123456711", "2123456701"),
        check=of_digits(identity.au_medicare), edges=WORD, needs=Words("medicare", "medicare card", "medicare number", "irn"),
    ),
    Rule(
        "asian.in_aadhaar", "IN_AADHAAR", "government_id", r"[2-9]\d{3}[ \-]\d{4}[ \-]\d{4}", 0.9,
        matches=("Aadhaar 2341 2341 2346", "2341-2341-2346"), misses=("2341 2341 2347", "1341 2341 2346"), check=_alone, edges=WORD + b"-",
    ),
    Rule(
        "asian.in_aadhaar_bare", "IN_AADHAAR", "government_id", r"[2-9]\d{11}", 0.9,
        matches=("aadhaar no 234123412346",), misses=("234123412346",), check=of_digits(identity.in_aadhaar), edges=WORD,
        needs=Words("aadhaar", "aadhar", "uidai", "uid", "indian", *ANY),
    ),
    Rule(
        "asian.in_pan", "IN_PAN", "government_id", r"[A-Za-z]{5}\d{4}[A-Za-z]", 0.85,
        matches=("PAN ABCPE1234F", "income tax pan: abcpe1234f"), misses=("ABCXE1234F", "PAN ABCDE123F"),
        check=of_letters(lambda text: _PAN.fullmatch(text) is not None), edges=WORD, needs=Words("pan", "pan card", "permanent account number", "income tax", "pan no", "pan number"),
    ),
    Rule(
        "asian.in_gstin", "IN_GSTIN", "quasi_identifier", r"\d{2}[A-Z]{5}\d{4}[A-Z][1-9A-Z]Z[0-9A-Z]", 0.9,
        matches=("GSTIN 27AAPFU0939F1ZV",), misses=("27AAPFU0939F1ZW",), check=of_letters(identity.in_gstin), edges=WORD,
    ),
    Rule(
        "asian.sg_nric", "SG_NRIC_FIN", "government_id", r"(?i:[STFGM]\d{7}[A-Z])", 0.95,
        matches=("NRIC S1234567D", "f1234567n"), misses=("S1234567A", "A1234567D"), check=of_letters(identity.sg_nric), edges=WORD,
    ),
    Rule(
        "asian.kr_rrn", "KR_RRN", "government_id", r"\d{2}[01]\d[0-3]\d-[1-8]\d{6}", 0.95,
        matches=("900101-1234568",), misses=("901301-1234568", "900101-1234567"), check=of_digits(identity.kr_rrn), edges=WORD + b"-",
    ),
    Rule(
        "asian.kr_rrn_bare", "KR_RRN", "government_id", r"\d{13}", 0.9,
        matches=("RRN 9001011234568",), misses=("9001011234568",), check=of_digits(identity.kr_rrn), edges=WORD,
        needs=Words("rrn", "resident registration", "resident registration number", "korean", "\uc8fc\ubbfc\ub4f1\ub85d\ubc88\ud638", *ANY),
    ),
    Rule(
        "asian.jp_my_number", "JP_MY_NUMBER", "government_id", r"\d{4}[ \-]?\d{4}[ \-]?\d{4}", 0.9,
        matches=("My Number 1234 5678 9018", "individual number 123456789018"), misses=("123456789018", "My Number 1234 5678 9019"),
        check=of_digits(identity.jp_my_number), edges=WORD,
        needs=Words("my number", "mynumber", "individual number", "\u30de\u30a4\u30ca\u30f3\u30d0\u30fc", "\u500b\u4eba\u756a\u53f7", "japanese", "kojin bango", *ANY),
    ),
    Rule(
        "asian.cn_resident", "CN_RESIDENT_ID", "government_id", r"[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d{4}[\dXx]", 0.95,
        matches=("11010519491231002X", "ID 11010519491231002x"), misses=("110105194912310021", "110105194913310021"), check=of_letters(identity.cn_resident), edges=WORD,
    ),
    Rule(
        "asian.th_national", "TH_TNIN", "government_id", r"[1-8][ \-]?\d{4}[ \-]?\d{5}[ \-]?\d{2}[ \-]?\d", 0.9,
        matches=("Thai ID 1-1017-00230-70-8", "national id 1101700230708"), misses=("1101700230708", "Thai ID 1-1017-00230-70-9"),
        check=of_digits(identity.th_national), edges=WORD, needs=Words("thai", "thailand", "tnin", *ANY),
    ),
    Rule(
        "asian.za_id", "ZA_ID_NUMBER", "government_id", r"\d{2}[01]\d[0-3]\d[ ]?\d{4}[ ]?[012]\d{2}", 0.9,
        matches=("South African ID 8001015009087", "ID number 800101 5009 087"), misses=("8001015009087", "ID number 8001015009088"),
        check=of_digits(identity.za_id), edges=WORD, needs=Words("south african", "south africa", "rsa", "sa id", *ANY),
    ),
)  # fmt: skip
