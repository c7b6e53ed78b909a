"""Numbers that European states give."""

from __future__ import annotations

from classifiers.checksums import identity
from classifiers.context import Words
from classifiers.recognizers.rule import WORD, Rule, of_digits, of_letters

ANY = (
    "id",
    "id number",
    "national id",
    "national number",
    "identity number",
    "identification number",
    "personal number",
    "tax id",
    "tax number",
)
"""Words that stand before many states' numbers."""

RULES = (
    Rule(
        "european.uk_nhs", "UK_NHS", "phi", r"\d{3}[ \-.]?\d{3}[ \-.]?\d{4}", 0.9,
        matches=("NHS number 943 476 5919", "nhs no: 9434765919"), misses=("NHS number 943 476 5918", "943 476 5919"),
        check=of_digits(identity.uk_nhs), edges=WORD, needs=Words("nhs", "nhs number", "nhs no", "national health service", "health service number"),
    ),
    Rule(
        "european.uk_nino", "UK_NINO", "government_id", r"(?i:[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D])", 0.9,
        matches=("NINO AB 12 34 56 C", "national insurance number QQ... AB123456C"), misses=("BG123456C", "AB123456E", "DA123456C"),
        check=of_letters(identity.uk_nino), edges=WORD,
    ),
    Rule(
        "european.uk_passport", "UK_PASSPORT", "government_id", r"\d{9}", 0.8,
        matches=("UK passport 925665416",), misses=("925665416",), edges=WORD, needs=Words("uk passport", "british passport", "hm passport"),
    ),
    Rule(
        "european.uk_driving_licence", "UK_DRIVING_LICENCE", "government_id", r"(?i:[A-Z9]{5}\d[0156]\d[0-3]\d\d[A-Z9]{2}\d[A-Z]{2})", 0.9,
        matches=("MORGA657054SM9IJ",), misses=("MORGA657954SM9I",), edges=WORD,
    ),
    Rule(
        "european.uk_postcode", "UK_POSTCODE", "quasi_identifier", r"(?:GIR 0AA|[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d{1,2}|\d[A-HJKPS-UW]|[A-HK-Y]\d[ABEHMNPRV-Y]) \d[ABD-HJLNP-UW-Z]{2})", 0.7,
        matches=("London SW1A 1AA", "M1 1AE"), misses=("SW1A 11A", "in A1 2024"), edges=WORD,
    ),
    Rule(
        "european.de_tax_id", "DE_TAX_ID", "government_id", r"[1-9]\d[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}", 0.9,
        matches=("Steuer-ID 86 095 742 719", "tax id 86095742719", "Steueridentifikationsnummer: 86095742719"), misses=("Steuer-ID 86095742718", "86095742719"),
        check=of_digits(identity.de_tax_id), edges=WORD,
        needs=Words("steuer-id", "steuer id", "steueridentifikationsnummer", "steuernummer", "idnr", "steuerid", "identifikationsnummer", "tin", "german", *ANY),
    ),
    Rule(
        "european.de_id_card", "DE_ID_CARD", "government_id", r"[CFGHJKLMNPRTVWXYZ][CFGHJKLMNPRTVWXYZ0-9]{8}\d", 0.9,
        matches=("Personalausweis L01X00T471", "ID card L01X00T471"), misses=("L01X00T472", "Personalausweis L01X00T472"),
        check=of_letters(identity.de_id_card), edges=WORD,
        needs=Words("personalausweis", "ausweis", "ausweisnummer", "perso", "id card", "identity card", "reisepass", "passport", "german id", *ANY),
    ),
    Rule(
        "european.de_pension", "DE_SOCIAL_SECURITY", "government_id", r"\d{2}[ ]?\d{6}[ ]?[A-Z][ ]?\d{2}[ ]?\d", 0.95,
        matches=("15 070649 C 103", "Rentenversicherungsnummer 15070649C103"), misses=("15070649C104",), check=of_letters(identity.de_pension), edges=WORD,
    ),
    Rule(
        "european.de_vat", "DE_VAT_ID", "quasi_identifier", r"DE[ ]?\d{3}[ ]?\d{3}[ ]?\d{3}", 0.8,
        matches=("USt-IdNr. DE136695976",), misses=("DE136695977",), check=lambda text, start, end: of_digits(identity.de_vat)(text, start + 2, end), edges=WORD,
    ),
    Rule(
        "european.fr_nir", "FR_NIR", "government_id", r"[12][ ]?\d{2}[ ]?(?:0[1-9]|1[0-2]|[2-9]\d)[ ]?(?:\d{2}|2[AB])[ ]?\d{3}[ ]?\d{3}[ ]?\d{2}", 0.95,
        matches=("NIR 2 95 10 99 126 111 93", "295109912611193"), misses=("295109912611194", "3 95 10 99 126 111 93"), check=of_letters(identity.fr_nir), edges=WORD,
    ),
    Rule(
        "european.es_nif", "ES_NIF", "government_id", r"(?i:\d{7,8}-?[A-HJ-NP-TV-Z])", 0.9,
        matches=("DNI 12345678Z", "NIF: 12345678-z"), misses=("12345678A", "DNI 12345678A"), check=of_letters(identity.es_nif), edges=WORD + b"-",
    ),
    Rule(
        "european.es_nie", "ES_NIE", "government_id", r"(?i:[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z])", 0.9,
        matches=("NIE X1234567L",), misses=("X1234567A",), check=of_letters(identity.es_nif), edges=WORD + b"-",
    ),
    Rule(
        "european.it_fiscal_code", "IT_FISCAL_CODE", "government_id",
        r"(?i:[A-Z]{6}[0-9LMNP-V]{2}[ABCDEHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z])", 0.95,
        matches=("codice fiscale RSSMRA85T10A562S", "rssmra85t10a562s"), misses=("RSSMRA85T10A562T",), check=of_letters(identity.it_fiscal_code), edges=WORD,
    ),
    Rule(
        "european.nl_bsn", "NL_BSN", "government_id", r"\d{3,4}[ .\-]?\d{2,3}[ .\-]?\d{2,3}", 0.9,
        matches=("BSN 111222333", "burgerservicenummer 1112.22.333"), misses=("BSN 111222334", "111222333"),
        check=of_digits(lambda digits: len(digits) == 9 and identity.nl_bsn(digits)), edges=WORD,
        needs=Words("bsn", "burgerservicenummer", "sofinummer", "citizen service number", "persoonsnummer", "dutch", *ANY),
    ),
    Rule(
        "european.be_national", "BE_NATIONAL_NUMBER", "government_id", r"\d{2}[. ]?[0-5]\d[. ]?[0-3]\d[\- ]?\d{3}[. ]?\d{2}", 0.9,
        matches=("85.07.30-033.28", "rijksregisternummer 85073003328"), misses=("85.07.30-033.29",), check=of_digits(identity.be_national), edges=WORD,
    ),
    Rule(
        "european.pt_nif", "PT_NIF", "government_id", r"[1235689]\d{2}[ ]?\d{3}[ ]?\d{3}", 0.85,
        matches=("NIF 123456789", "contribuinte 123 456 789"), misses=("NIF 123456788", "123456789"),
        check=of_digits(identity.pt_nif), edges=WORD, needs=Words("nif", "contribuinte", "portuguese", "portugal", "fiscal", *ANY),
    ),
    Rule(
        "european.pl_pesel", "PL_PESEL", "government_id", r"\d{11}", 0.9,
        matches=("PESEL 44051401359",), misses=("44051401359", "PESEL 44051401358"),
        check=of_digits(identity.pl_pesel), edges=WORD, needs=Words("pesel", "polish", "poland", "numer pesel", *ANY),
    ),
    Rule(
        "european.se_personal", "SE_PERSONNUMMER", "government_id", r"(?:19|20)?\d{6}[\-+]\d{4}", 0.9,
        matches=("811218-9876", "personnummer 19811218-9876"), misses=("811218-9877", "811318-9876"), check=of_digits(lambda d: identity.se_personal(d.replace("+", ""))), edges=WORD + b"-",
    ),
    Rule(
        "european.se_personal_bare", "SE_PERSONNUMMER", "government_id", r"(?:19|20)?\d{10}", 0.85,
        matches=("personnummer 8112189876",), misses=("8112189876",), check=of_digits(identity.se_personal), edges=WORD,
        needs=Words("personnummer", "personal number", "swedish", "samordningsnummer"),
    ),
    Rule(
        "european.no_birth_number", "NO_FODSELSNUMMER", "government_id", r"\d{6}[ ]?\d{5}", 0.9,
        matches=("f\u00f8dselsnummer 01010750160", "norwegian national id 010107 50160"), misses=("01010750160", "f\u00f8dselsnummer 01010750161"),
        check=of_digits(identity.no_birth_number), edges=WORD,
        needs=Words("f\u00f8dselsnummer", "fodselsnummer", "personnummer", "d-nummer", "norwegian", "norway", "fnr", *ANY),
    ),
    Rule(
        "european.dk_cpr", "DK_CPR", "government_id", r"[0-3]\d[01]\d{3}[\- ]?\d{4}", 0.85,
        matches=("CPR 010190-1234", "cpr-nummer 0101901234"), misses=("010190-1234", "CPR 320190-1234"),
        check=of_digits(identity.dk_cpr), edges=WORD, needs=Words("cpr", "cpr-nummer", "cpr nummer", "cpr-nr", "personnummer", "danish", "cpr number"),
    ),
    Rule(
        "european.fi_personal", "FI_PERSONAL_IDENTITY_CODE", "government_id", r"[0-3]\d[01]\d{3}[+\-ABCDEFYXWVU]\d{3}[0-9A-FHJ-NPR-Y]", 0.95,
        matches=("131052-308T", "hetu 131052-308T"), misses=("131052-308U", "331052-308T"), check=lambda text, start, end: end if identity.fi_personal(text[start:end].decode()) else None,
        edges=WORD + b"-",
    ),
    Rule(
        "european.ch_ahv", "CH_AHV", "government_id", r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d{2}", 0.95,
        matches=("756.9217.0769.85", "AHV 7569217076985"), misses=("756.9217.0769.84",), check=of_digits(identity.ch_ahv), edges=WORD,
    ),
    Rule(
        "european.at_social", "AT_SVNR", "government_id", r"[1-9]\d{3}[ ]?[0-3]\d[01]\d{3}", 0.9,
        matches=("SVNR 1237 010180", "Sozialversicherungsnummer 1237010180"), misses=("SVNR 1238 010180", "1237010180"),
        check=of_digits(identity.at_social), edges=WORD, needs=Words("svnr", "sv-nummer", "sozialversicherungsnummer", "versicherungsnummer", "austrian", "e-card", *ANY),
    ),
    Rule(
        "european.tr_national", "TR_NATIONAL_ID", "government_id", r"[1-9]\d{10}", 0.9,
        matches=("TC kimlik no 10000000146", "Turkish ID 10000000146"), misses=("10000000146", "kimlik 10000000147"),
        check=of_digits(identity.tr_national), edges=WORD, needs=Words("tc", "kimlik", "tckn", "tc kimlik no", "turkish", "kimlik no", *ANY),
    ),
)  # fmt: skip
