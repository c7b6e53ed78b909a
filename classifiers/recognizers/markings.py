"""What the writer says of the text: banners, and the Traffic Light Protocol (FIRST TLP 2.0)."""

from __future__ import annotations

import re

from classifiers.recognizers.rule import WORD, Rule

_ASKED_ABOUT = re.compile(rb"(?i)(?:what (?:is|does|do|are)|explain|define|meaning of|difference between)[^.\n]{0,40}$")


def _not_asked_about(text: bytes, start: int, end: int) -> int | None:
    """A question about a marking is not a marking."""
    return None if _ASKED_ABOUT.search(text[max(0, start - 64) : start]) else end


RULES = (
    Rule(
        "markings.restricted", "MARKED_RESTRICTED", "marked_restricted",
        r"TLP:\s?RED|(?:STRICTLY|TOP|HIGHLY) (?:SECRET|RESTRICTED)|(?i:classification:\s*(?:restricted|secret|top secret))|\[RESTRICTED\]|\bSECRET\s?//[A-Z]{2,12}|\bRESTRICTED(?: -|:)|\bSECRET:|(?i:marked (?:as )?(?:restricted|secret))|STRENG GEHEIM|(?i:highly restricted)", 1.0,
        matches=("TLP:RED", "Classification: Restricted", "SECRET//NOFORN"), misses=("a restricted area", "TLP:CLEAR", "what is TLP:RED"), check=_not_asked_about, edges=WORD,
        trigger=r"(?i:TLP:|secret|restricted|geheim)",
    ),
    Rule(
        "markings.confidential", "MARKED_CONFIDENTIAL", "marked_confidential",
        r"TLP:\s?AMBER(?:\+STRICT)?|(?i:strictly confidential|company confidential|commercial[ \-]in[ \-]confidence|(?:private|proprietary) (?:and|&) confidential|classification:\s*confidential|streng vertraulich|marked (?:as )?confidential"
        r"|confidential(?: information)?:|confidential\s?-|please (?:treat|keep) (?:this )?(?:as )?(?:strictly )?confidential|do not (?:forward|share) outside|vertraulich:|confidentiel:|confidencial:)|\bCONFIDENTIAL\b|\bVERTRAULICH\b|\bCONFIDENTIEL\b", 1.0,
        matches=("CONFIDENTIAL: plan", "strictly confidential", "TLP:AMBER", "Company confidential - do not share"), misses=("a confidential tone of voice", "explain what strictly confidential means"),
        check=_not_asked_about, edges=WORD, trigger=r"(?i:TLP:|confiden|vertraulich|do not (?:forward|share))",
    ),
    Rule(
        "markings.internal", "MARKED_INTERNAL", "marked_internal",
        r"TLP:\s?GREEN|(?i:internal use only|for internal use|internal only|for internal (?:circulation|distribution)|not for (?:public )?(?:distribution|publication|release)|classification:\s*internal|internal draft|nur f\xc3\xbcr den internen gebrauch|\[internal\]|internal:|usage interne|uso interno)", 1.0,
        matches=("For internal use only", "TLP:GREEN", "Internal: the plan"), misses=("internal combustion",), check=_not_asked_about, edges=WORD, trigger=r"(?i:TLP:|intern|not for|uso int)",
    ),
)  # fmt: skip
