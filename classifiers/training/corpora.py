"""The public corpora as examples: which labels become which of our types, and which types a corpus says nothing about."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from classifiers.ner.tags import TYPES
from classifiers.training.entities import Piece
from classifiers.training.generate import UNKNOWN, Example

HELD_OUT = 10
"""One document of so many is kept for evaluation, by a hash of its text."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus folder. `labels`: theirs to ours, or None for plain text; a label not named is UNKNOWN. `marks`: the types it marks."""

    path: str
    labels: dict[str, str | None]
    marks: frozenset[str]
    languages: frozenset[str] = frozenset({"en"})
    most: int = 100_000


_PEOPLE = {"PER": "PERSON", "ORG": "ORGANIZATION", "LOC": "LOCATION"}
_MEDDOCAN: dict[str, str | None] = {
    "TERRITORIO": "LOCATION", "PAIS": "LOCATION", "FECHAS": "DATE_TIME", "EDAD_SUJETO_ASISTENCIA": "AGE", "NOMBRE_SUJETO_ASISTENCIA": "PERSON",
    "NOMBRE_PERSONAL_SANITARIO": "PERSON", "CALLE": "STREET_ADDRESS", "HOSPITAL": "ORGANIZATION", "INSTITUCION": "ORGANIZATION",
    "CENTRO_SALUD": "ORGANIZATION", "NUMERO_TELEFONO": "PHONE_NUMBER", "NUMERO_FAX": "PHONE_NUMBER", "PROFESION": "PROFESSION",
    "SEXO_SUJETO_ASISTENCIA": None, "ID_SUJETO_ASISTENCIA": None, "CORREO_ELECTRONICO": None, "ID_TITULACION_PERSONAL_SANITARIO": None,
    "ID_ASEGURAMIENTO": None, "FAMILIARES_SUJETO_ASISTENCIA": None, "ID_CONTACTO_ASISTENCIAL": None, "ID_EMPLEO_PERSONAL_SANITARIO": None,
}  # fmt: skip
_PII_ANON: dict[str, str | None] = {
    "PERSON_NAME": "PERSON", "TIMESTAMP": "DATE_TIME", "PHONE_NUMBER": "PHONE_NUMBER", "STREET_ADDRESS": "STREET_ADDRESS",
    "ORGANIZATION_NAME": "ORGANIZATION", "DATE_OF_BIRTH": "DATE_TIME", "HEALTH_CONDITION": "MEDICAL_CONDITION", "EMAIL_ADDRESS": None,
    "SOCIAL_SECURITY_NUMBER": None, "IP_ADDRESS": None, "SALARY": None, "EMPLOYEE_ID": None, "IBAN": None, "INVOICE_NUMBER": None,
    "SWIFT_BIC_CODE": None, "INSURANCE_POLICY_NUMBER": None, "MEDICAL_RECORD_NUMBER": None, "TAX_ID": None, "NATIONAL_ID_NUMBER": None,
    "BANK_ACCOUNT_NUMBER": None, "CREDIT_CARD_NUMBER": None, "MAC_ADDRESS": None,
}  # fmt: skip

CORPORA = {
    "btc": Corpus("btc-train/spans.jsonl", {**_PEOPLE}, frozenset({"PERSON", "ORGANIZATION", "LOCATION"})),
    "wikigold": Corpus("wikigold-train/spans.jsonl", {**_PEOPLE}, frozenset({"PERSON", "ORGANIZATION", "LOCATION"})),
    "wnut17": Corpus(
        "wnut17-train/train.jsonl",
        {"person": "PERSON", "location": "LOCATION", "group": "ORGANIZATION", "corporation": "ORGANIZATION", "product": None, "creative-work": None},
        frozenset({"PERSON", "ORGANIZATION", "LOCATION"}),
    ),
    # "Borrower" and "Lender" are people there: left out.
    "sec": Corpus("sec-filings-train/FIN5.jsonl", {"ORG": "ORGANIZATION", "LOC": "LOCATION"}, frozenset({"ORGANIZATION", "LOCATION"})),
    "meddocan": Corpus(
        "meddocan-train/train.jsonl", _MEDDOCAN,
        frozenset({"PERSON", "LOCATION", "DATE_TIME", "AGE", "STREET_ADDRESS", "ORGANIZATION", "PHONE_NUMBER", "PROFESSION"}), frozenset({"es"}),
    ),
    "pii-anon": Corpus(
        "pii-anon-train/spans.jsonl.gz", _PII_ANON,
        frozenset({"PERSON", "DATE_TIME", "PHONE_NUMBER", "STREET_ADDRESS", "ORGANIZATION", "MEDICAL_CONDITION"}),
        frozenset({"en", "es", "de", "fr"}), 2_500,
    ),
}  # fmt: skip


def read(root: Path, name: str, *, evaluating: bool) -> Iterator[Example]:
    """A corpus's training fold, or its held-out tenth."""
    corpus = CORPORA[name]
    path = root / corpus.path
    given = 0
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            text = record["text"]
            if record.get("lang", "en") not in corpus.languages or (crc32(text.encode()) % HELD_OUT == 0) != evaluating:
                continue
            spans = ((start, end, corpus.labels.get(label, UNKNOWN)) for start, end, label in record["spans"])
            yield Example(text, tuple((start, end, label) for start, end, label in spans if label), None)
            given += 1
            if given >= corpus.most:
                return


def unmarked(name: str) -> frozenset[str]:
    """The types that this corpus does not mark: its plain text may hold them."""
    return frozenset(TYPES) - CORPORA[name].marks


def gazetteer(root: Path) -> dict[str, list[str]]:
    """Real names of the training folds, for slots."""
    found: dict[str, set[str]] = {"PERSON": set(), "ORGANIZATION": set(), "LOCATION": set()}
    for name in ("btc", "wikigold", "wnut17"):
        for example in read(root, name, evaluating=False):
            for start, end, label in example.spans:
                surface = example.text[start:end]
                if (
                    label in found
                    and len(surface) > 2
                    and surface[0].isupper()
                    and surface.replace(" ", "").isalpha()
                    and (label != "PERSON" or " " in surface)
                ):
                    found[label].add(surface)
    return {label: sorted(names) for label, names in found.items()}


def sentences(root: Path) -> list[list[Piece]]:
    """Published sentences of the training fold, as pieces for the slot `wiki`."""
    found = []
    for example in read(root, "wikigold", evaluating=False):
        if not 40 <= len(example.text) <= 240:
            continue
        pieces: list[Piece] = []
        last = 0
        for start, end, label in example.spans:
            pieces += [(example.text[last:start], UNKNOWN), (example.text[start:end], label)]
            last = end
        pieces.append((example.text[last:], UNKNOWN))
        found.append([(text, label) for text, label in pieces if text])
    return found
