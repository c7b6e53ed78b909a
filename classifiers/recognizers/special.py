"""Words of the special categories of the GDPR's articles 9 and 10: harmless alone, grave beside a name.

Health, genetics, biometrics, sexual life, faith, politics, trade unions, crime. That a person is named near by is for calibration to see.
"""

from __future__ import annotations

from classifiers.recognizers.health import DISEASES, DRUGS
from classifiers.recognizers.rule import WORD, Rule

_HEALTH = (
    "pregnan(?:t|cy)|miscarriage|abortion|ivf|in therapy|psychotherapy|psychiatr(?:ist|ic|y)|psychologist|hearing voices|self[ \\-]harm|suicid(?:e|al)|overdose|rehab|relapse|sober|addict(?:ed|ion)?|detox|"
    "sick (?:note|leave)|on sick leave|burn[ \\-]?out|disab(?:led|ility)|wheelchair|blind|deaf|transplant|dialysis|biopsy|mri|ct scan|chemo(?:therapy)?|surgery|diagnos(?:is|ed|es)|medical (?:history|record|leave)|"
    "blood test|lab results?|tested positive|hospitali[sz]ed|seizures?|infection|std|sti|disease|syndrome|disorder|leidet an|erkrankt|krankheit|krank(?:geschrieben|schreibung)|schwanger|enfermedad|padece|embarazada|"
    "baja m\\xc3\\xa9dica|souffre de|maladie|arr\\xc3\\xaat maladie|enceinte|c\\xc3\\xa1ncer|krebs|d\\xc3\\xa9pression|depresi\\xc3\\xb3n|epilepsie|epilepsia|diab\\xc3\\xa8te"
)
_OTHERS = (
    "gay|lesbian|bisexual|homosexual|transgender|trans (?:man|woman)|sexual (?:orientation|harassment|abuse|assault)|harassment|molest(?:ed|ing)?|raped?|"
    "muslim|jewish|jew|christian|catholic|hindu|sikh|buddhist|jehovah'?s witness|atheist|sabbath|ramadan|prayer room|baptised|religio(?:n|us) (?:belief|faith|reasons)|her faith|his faith|"
    "(?:trade |labou?r |works )?union(?: member| membership| rep| steward)?|on strike|strike|far[ \\-](?:right|left)|party member|communist party|votes? for|political (?:opinion|party|views)|"
    "convict(?:ed|ion)|criminal record|arrested|in prison|prison|jail(?:ed)?|on probation|probation officer|parole|felony|burglary|assault|theft|fraud|indicted|pleaded guilty|plead guilty|asylum|refugee|deport(?:ed|ation)|"
    "brca ?[12]?|mutation|genome|genetic test|dna test|huntington'?s|fingerprints?|face scan|iris scan|biometric|bruises|abused?|neglect|protected witness|witness protection|informant"
)
RULES = (
    Rule(
        "special.health", "MEDICAL_CONDITION", "health_term", rf"(?i:\b(?:{_HEALTH}|{DISEASES}|{DRUGS})\b)", 0.6,
        matches=("she is pregnant", "what causes epilepsy", "metformin"), misses=("the patient waits", "a healthy meal"), edges=WORD,
    ),
    Rule(
        "special.term", "SPECIAL_CATEGORY", "special_term", rf"(?i:\b(?:{_OTHERS})\b)", 0.6,
        matches=("he joined the union", "convicted in 2016", "a muslim colleague"), misses=("a party for all", "the witness list"), edges=WORD,
    ),
)  # fmt: skip
