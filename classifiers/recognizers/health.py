"""Health: numbers that name a patient's record or policy, codes, and the vocabulary of diagnoses and drugs.

The vocabulary is short and our own: the commonest international non-proprietary names (WHO) and plain names of diseases.
"""

from __future__ import annotations

from classifiers.context import Words
from classifiers.recognizers.rule import WORD, Rule, alone

DRUGS = (
    "metformin|insulin|lisinopril|amlodipine|atorvastatin|simvastatin|rosuvastatin|metoprolol|bisoprolol|ramipril|losartan|valsartan|furosemide|hydrochlorothiazide|spironolactone|warfarin|apixaban|rivaroxaban|"
    "clopidogrel|amoxicillin|azithromycin|ciprofloxacin|doxycycline|cephalexin|prednisone|prednisolone|dexamethasone|albuterol|salbutamol|sertraline|fluoxetine|citalopram|escitalopram|paroxetine|venlafaxine|"
    "duloxetine|bupropion|mirtazapine|trazodone|lithium carbonate|quetiapine|olanzapine|risperidone|aripiprazole|clozapine|haloperidol|alprazolam|lorazepam|clonazepam|diazepam|zolpidem|methylphenidate|"
    "lisdexamfetamine|oxycodone|hydrocodone|morphine|fentanyl|tramadol|methadone|buprenorphine|naloxone|gabapentin|pregabalin|lamotrigine|levetiracetam|valproate|carbamazepine|levothyroxine|omeprazole|"
    "pantoprazole|tamoxifen|letrozole|methotrexate|adalimumab|infliximab|rituximab|pembrolizumab|sumatriptan|tenofovir|emtricitabine|dolutegravir|semaglutide|empagliflozin|sitagliptin"
)
DISEASES = (
    "diabetes|hypertension|asthma|copd|depression|schizophrenia|bipolar disorder|epilepsy|migraine|stroke|myocardial infarction|heart failure|atrial fibrillation|(?:breast|lung|prostate|colon|ovarian|"
    "pancreatic|cervical|skin|liver|stomach|bladder|kidney|bowel|throat|bone|thyroid) cancer|leukemia|leukaemia|lymphoma|melanoma|hiv|aids|hepatitis(?: [abc])?|cirrhosis|tuberculosis|pneumonia|sepsis|"
    "multiple sclerosis|parkinson'?s?(?: disease)?|alzheimer'?s?(?: disease)?|dementia|rheumatoid arthritis|lupus|crohn'?s disease|ulcerative colitis|chronic kidney disease|renal failure|kidney failure|"
    "anorexia|bulimia|ptsd|adhd|autism|ocd|alcoholism|drug addiction|opioid addiction|syphilis|gonorrhea|chlamydia|herpes|miscarriage|abortion|infertility|erectile dysfunction|suicidal ideation|"
    "suicidal thoughts|cystic fibrosis|sickle cell|endometriosis|preeclampsia|anxiety disorder|panic disorder|borderline personality disorder|tumou?r|cancer|burnout|panic attacks"
)
_CASE = Words(
    "patient",
    "patients",
    "pt",
    "was diagnosed",
    "been diagnosed",
    "am diagnosed",
    "diagnosed me",
    "dx",
    "admitted",
    "prescribed",
    "suffers",
    "suffering from",
    "treated for",
    "a history of",
    "hx",
    "presents with",
    "my",
    "his",
    "her",
    "i have",
    "i had",
    "i take",
    "he has",
    "she has",
    "he had",
    "she had",
    "who has",
    "has been",
    "takes",
    "taking",
    "tested positive",
    "complains of",
    "discharged",
    "sick leave",
    "wife",
    "husband",
    "mother",
    "father",
    "sister",
    "brother",
    "son",
    "daughter",
    "patientin",
    "patienten",
    "paciente",
    "leidet",
    "padece",
    "souffre",
    "allergic to",
    "y/o",
    "year old",
)
_RECORD = Words(
    "mrn", "medical record", "medical record number", "record number", "patient id", "patient number", "patient no", "hospital number", "chart number", "chart no", "nhc", "patientennummer", "fallnummer",
    "medical record no", "case number", "encounter", "accession", before=32, after=8,
)  # fmt: skip
RULES = (
    Rule(
        "health.record_number", "MEDICAL_RECORD_NUMBER", "phi", r"(?:[A-Z]{1,4}[\-#]?)?\d{5,12}", 0.9,
        matches=("MRN 12345678", "mrn: 00482913", "medical record number AB-123456", "patient id 7788990", "MRN-1234567"),
        misses=("order 12345678", "in the year 2024", "the patient waited 30 minutes"), check=alone, edges=WORD + b".", needs=_RECORD,
    ),
    Rule(
        "health.record_number_prefixed", "MEDICAL_RECORD_NUMBER", "phi", r"(?i:\bMRN[\-:# ]{1,2}[A-Z0-9\-]{4,14})", 0.9,
        matches=("MRN-48-2913", "mrn: A1234567"), misses=("the mrn is missing",), edges=WORD, check=lambda text, start, end: end if any(48 <= c <= 57 for c in text[start:end]) else None, trigger="(?i:mrn)",
    ),
    Rule(
        "health.policy_number", "HEALTH_INSURANCE_ID", "phi", r"[A-Z]{1,4}[\- ]?\d{5,12}|\d{6,12}", 0.8,
        matches=("health insurance member ID XYZ123456789", "insurance id: W123456789", "Krankenversicherungsnummer A123456780"), misses=("health is 123456789",), check=alone, edges=WORD + b".",
        needs=Words("health insurance", "insurance id", "insurance number", "member id", "krankenversicherungsnummer", "versichertennummer", "health plan", "medicaid", "subscriber id", "policy no", "group number", before=40, after=8),
    ),
    Rule(
        "health.icd10", "ICD10_CODE", "phi_detail", r"[A-TV-Z]\d[0-9AB](?:\.[0-9A-TV-Z]{1,4})?", 0.8,
        matches=("ICD-10 E11.9", "diagnosis code F32.1", "Diagnose: J45.0"), misses=("gate B12", "the A10 motorway"), edges=WORD,
        needs=Words("icd", "icd-10", "icd10", "icd-10-cm", "diagnosis", "diagnosis code", "diagnoses", "diagnose", "dx", "code diagnosis", before=40, after=24),
    ),
    Rule(
        "health.drug", "MEDICATION", "phi_detail", rf"(?i:\b(?:{DRUGS})\b)", 0.8,
        matches=("the patient takes metformin 500 mg", "prescribed sertraline"), misses=("what is metformin?", "morphine was first isolated in 1804"), edges=WORD, needs=_CASE,
    ),
    Rule(
        "health.condition", "MEDICAL_CONDITION", "phi_detail", rf"(?i:\b(?:{DISEASES})\b)", 0.8,
        matches=("patient was diagnosed with breast cancer", "my wife suffers from depression", "with a history of HIV"), misses=("what causes diabetes?", "cancer research is expensive"), edges=WORD, needs=_CASE,
    ),
)  # fmt: skip
