"""What the writer says of the text: banners and the Traffic Light Protocol (FIRST TLP 2.0)."""

from __future__ import annotations

from classifiers.recognizers.rule import WORD, Rule

RULES = (
    Rule(
        "markings.restricted", "MARKED_RESTRICTED", "marked_restricted",
        r"TLP:\s?RED|(?:STRICTLY|TOP|HIGHLY) (?:SECRET|RESTRICTED)|(?i:classification:\s*(?:restricted|secret))|\[RESTRICTED\]", 1.0,
        matches=("TLP:RED", "Classification: Restricted"), misses=("a restricted area", "TLP:CLEAR"), edges=WORD,
    ),
    Rule(
        "markings.confidential", "MARKED_CONFIDENTIAL", "marked_confidential",
        r"TLP:\s?AMBER|(?i:strictly confidential|company confidential|commercial in confidence|privileged (?:and|&) confidential"
        r"|classification:\s*confidential)|\bCONFIDENTIAL\b", 1.0,
        matches=("CONFIDENTIAL: plan", "strictly confidential", "TLP:AMBER"), misses=("a confidential tone of voice",), edges=WORD,
    ),
    Rule(
        "markings.internal", "MARKED_INTERNAL", "marked_internal",
        r"TLP:\s?GREEN|(?i:internal use only|for internal use|internal only|not for (?:distribution|publication)|classification:\s*internal)",
        1.0, matches=("For internal use only", "TLP:GREEN"), misses=("internal combustion",), edges=WORD,
    ),
)  # fmt: skip
