"""The numbers that states give to people and firms. Sources: the issuing offices' publications, as gathered by OECD (tax
identification numbers) and the European Commission (TIN algorithms)."""

from __future__ import annotations

from classifiers.checksums.common import icao, is_date, luhn, mod_11_10, short_date, varied, verhoeff, weighted


def us_ssn(digits: str) -> bool:
    """Whether the Social Security Administration could have given out these nine digits."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return False
    return digits not in ("078051120", "219099999", "123456789") and varied(digits)


def us_itin(digits: str) -> bool:
    """An individual taxpayer number of the IRS: 9, and a fourth and fifth digit of its ranges."""
    group = int(digits[3:5])
    return digits[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def us_npi(digits: str) -> bool:
    """A National Provider Identifier: Luhn behind the prefix 80840 (45 CFR 162.406)."""
    return digits[0] in "12" and luhn("80840" + digits)


def us_dea(text: str) -> bool:
    """A registration of the Drug Enforcement Administration: two letters and seven digits."""
    d = [int(c) for c in text[2:]]
    return (d[0] + d[2] + d[4] + 2 * (d[1] + d[3] + d[5])) % 10 == d[6]


def uk_nhs(digits: str) -> bool:
    """An NHS number: modulus 11, weights 10 to 2."""
    return varied(digits) and (11 - weighted(digits[:9], range(10, 1, -1)) % 11) % 11 == int(digits[9])


def uk_nino(text: str) -> bool:
    """A National Insurance number: two letters, six digits, A to D."""
    return text[0] not in "DFIQUV" and text[1] not in "DFIQUVO" and text[:2] not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def ca_sin(digits: str) -> bool:
    """A Canadian social insurance number: Luhn; 0 and 8 are not given out."""
    return digits[0] not in "08" and luhn(digits)


def au_tfn(digits: str) -> bool:
    """An Australian tax file number of nine digits."""
    return varied(digits) and weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def au_abn(digits: str) -> bool:
    """An Australian business number: modulus 89 after one is taken from the first digit."""
    return digits[0] != "0" and (weighted(digits, (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) - 10) % 89 == 0


def au_acn(digits: str) -> bool:
    """An Australian company number."""
    return varied(digits) and (10 - weighted(digits[:8], range(8, 0, -1)) % 10) % 10 == int(digits[8])


def au_medicare(digits: str) -> bool:
    """An Australian Medicare card of ten digits, the ninth being the check."""
    return digits[0] in "23456" and weighted(digits[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(digits[8])


def in_aadhaar(digits: str) -> bool:
    """An Aadhaar number: Verhoeff, not beginning with 0 or 1."""
    return digits[0] not in "01" and verhoeff(digits)


_BASE36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def in_gstin(text: str) -> bool:
    """An Indian goods and services tax number: modulus 36 over 14 characters."""
    total = 0
    for i, c in enumerate(text[:14]):
        product = _BASE36.index(c) * (1 + i % 2)
        total += product // 36 + product % 36
    return 1 <= int(text[:2]) <= 38 and _BASE36[(36 - total % 36) % 36] == text[14]


def de_tax_id(digits: str) -> bool:
    """A German tax id: no 0 in front, one digit two or three times among the first ten, MOD 11,10."""
    counts = sorted(digits[:10].count(d) for d in set(digits[:10]))
    return digits[0] != "0" and counts[-1] in (2, 3) and counts.count(counts[-1]) == 1 and mod_11_10(digits)


def de_vat(digits: str) -> bool:
    """A German VAT number's nine digits."""
    return digits[0] != "0" and mod_11_10(digits)


def de_id_card(text: str) -> bool:
    """A German identity card or passport: nine characters and their check digit."""
    return icao(text[:9], text[9])


def de_pension(text: str) -> bool:
    """A German pension insurance number: area, date, letter, serial, check (VKVV, section 4)."""
    letter = ord(text[8]) - 64
    digits = f"{text[:8]}{letter:02}{text[9:11]}"
    total = sum(sum(divmod(int(d) * w, 10)) for d, w in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return short_date(text[6:8], text[4:6], f"{int(text[2:4]) % 50 or 1:02}") and total % 10 == int(text[11])


def fr_nir(text: str) -> bool:
    """A French social security number with its key: 97 less the number modulo 97; Corsica counts as 19 and 18."""
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(text[13:])


_SPAIN = "TRWAGMYFPDXBNJZSQVHLCKE"


def es_nif(text: str) -> bool:
    """A Spanish NIF or NIE: the letter is the number modulo 23."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return _SPAIN[int(number) % 23] == text[-1]


_ITALY_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def it_fiscal_code(text: str) -> bool:
    """An Italian codice fiscale: the letter that the odd and even places give (DM 23/12/1976)."""
    total = 0
    for i, c in enumerate(text[:15]):
        value = int(c) if c.isdigit() else ord(c) - 65
        total += value if i % 2 else _ITALY_ODD[value]
    return chr(65 + total % 26) == text[15]


def nl_bsn(digits: str) -> bool:
    """A Dutch citizen service number: the eleven test."""
    return varied(digits) and weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def be_national(digits: str) -> bool:
    """A Belgian national number: 97 less the first nine digits, with a 2 in front for those born since 2000."""
    check = int(digits[9:])
    return check in (97 - int(digits[:9]) % 97, 97 - int("2" + digits[:9]) % 97)


def pt_nif(digits: str) -> bool:
    """A Portuguese tax number: modulus 11."""
    check = 11 - weighted(digits[:8], range(9, 1, -1)) % 11
    return digits[0] in "1235689" and (0 if check > 9 else check) == int(digits[8])


def pl_pesel(digits: str) -> bool:
    """A Polish PESEL: a date whose month carries the century, and weights 1 3 7 9."""
    month = int(digits[2:4]) % 20
    return 1 <= month <= 12 and (10 - weighted(digits[:10], (1, 3, 7, 9) * 3) % 10) % 10 == int(digits[10])


def se_personal(digits: str) -> bool:
    """A Swedish personal number: a date and Luhn over its last ten digits; coordination numbers add 60 to the day."""
    ten = digits[-10:]
    return 1 <= int(ten[2:4]) <= 12 and 1 <= int(ten[4:6]) % 60 <= 31 and luhn(ten)


def no_birth_number(digits: str) -> bool:
    """A Norwegian fødselsnummer: two check digits, modulus 11; a D-number adds 40 to the day."""
    if not (1 <= int(digits[:2]) % 40 <= 31 and 1 <= int(digits[2:4]) % 40 <= 12):
        return False
    first = (11 - weighted(digits[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - weighted(digits[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return (first, second) == (int(digits[9]), int(digits[10]))


def dk_cpr(digits: str) -> bool:
    """A Danish CPR number: a date. Its check digit was given up in 2007."""
    return short_date(digits[4:6], digits[2:4], digits[:2])


_FINLAND = "0123456789ABCDEFHJKLMNPRSTUVWXY"


def fi_personal(text: str) -> bool:
    """A Finnish personal identity code: a date and the remainder by 31."""
    return short_date(text[4:6], text[2:4], text[:2]) and _FINLAND[int(text[:6] + text[7:10]) % 31] == text[10]


def ch_ahv(digits: str) -> bool:
    """A Swiss AHV number: 756 and the check of EAN-13."""
    return digits.startswith("756") and (10 - weighted(digits[:12], (1, 3) * 6) % 10) % 10 == int(digits[12])


def at_social(digits: str) -> bool:
    """An Austrian social insurance number: the fourth digit checks the other nine."""
    check = weighted(digits[:3] + digits[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
    return digits[0] != "0" and check == int(digits[3]) and 1 <= int(digits[4:6]) <= 31


def br_cpf(digits: str) -> bool:
    """A Brazilian CPF: two check digits, modulus 11."""
    return varied(digits) and all((weighted(digits[:n], range(n + 1, 1, -1)) * 10 % 11) % 10 == int(digits[n]) for n in (9, 10))


def br_cnpj(digits: str) -> bool:
    """A Brazilian CNPJ: two check digits, modulus 11."""
    weights = (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
    return varied(digits) and all((weighted(digits[:n], weights[13 - n :]) * 10 % 11) % 10 == int(digits[n]) for n in (12, 13))


_CURP = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"


def mx_curp(text: str) -> bool:
    """A Mexican CURP: the last digit checks the other seventeen."""
    total = sum(_CURP.index(c) * (18 - i) for i, c in enumerate(text[:17]))
    return short_date(text[4:6], text[6:8], text[8:10]) and str((10 - total % 10) % 10) == text[17]


def za_id(digits: str) -> bool:
    """A South African identity number: a date, citizenship 0 to 2, Luhn."""
    return short_date(digits[:2], digits[2:4], digits[4:6]) and digits[10] in "012" and luhn(digits)


def kr_rrn(digits: str) -> bool:
    """A Korean resident registration number: a date, and modulus 11 (given up for those of October 2020 and later)."""
    if not short_date(digits[:2], digits[2:4], digits[4:6]) or digits[6] not in "12345678":
        return False
    return (11 - weighted(digits[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10 == int(digits[12])


def jp_my_number(digits: str) -> bool:
    """A Japanese individual number: modulus 11."""
    rest = weighted(digits[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return varied(digits) and (0 if rest <= 1 else 11 - rest) == int(digits[11])


def cn_resident(text: str) -> bool:
    """A Chinese resident number: a date and ISO 7064 MOD 11-2 (GB 11643-1999)."""
    total = weighted(text[:17], (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    return is_date(int(text[6:10]), int(text[10:12]), int(text[12:14])) and "10X98765432"[total % 11] == text[17]


def sg_nric(text: str) -> bool:
    """A Singaporean NRIC or FIN: the letter that the seven digits give."""
    total = weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(text[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "XWUTRQPNJLK"}[text[0]]
    place = total % 11 if text[0] != "M" else 10 - total % 11
    return letters[place] == text[8]


def th_national(digits: str) -> bool:
    """A Thai identity number: modulus 11."""
    return digits[0] != "0" and (11 - weighted(digits[:12], range(13, 1, -1)) % 11) % 10 == int(digits[12])


def tr_national(digits: str) -> bool:
    """A Turkish identity number: two check digits."""
    d = [int(c) for c in digits]
    return d[0] != 0 and (7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10 == d[9] and sum(d[:10]) % 10 == d[10]


_VIN = {
    **{str(i): i for i in range(10)},
    **dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9), strict=True)),
}


def vin(text: str) -> bool:
    """A vehicle's number: the ninth place checks the others (49 CFR 565), as North America and China require."""
    total = sum(_VIN[c] * w for c, w in zip(text, (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2), strict=True))
    return "0123456789X"[total % 11] == text[8]


def imei(digits: str) -> bool:
    """A mobile device's number: Luhn (3GPP TS 23.003)."""
    return luhn(digits) and varied(digits) and digits[:2] not in ("00",)
