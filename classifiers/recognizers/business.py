"""What a company or its lawyers keep to themselves: privilege, deals before they are told, contracts, incidents."""

from __future__ import annotations

from classifiers.recognizers.markings import _not_asked_about
from classifiers.recognizers.rule import WORD, Rule

RULES = (
    Rule(
        "business.privilege", "LEGAL_PRIVILEGE", "legal",
        r"(?i:attorney[ \-–]client (?:privilege[d]?|communication)|privileged (?:and|&) confidential|attorney work product|solicitor[ \-]client privilege|legal(?:ly)? privileged|without prejudice|(?:our|my|outside) (?:counsel|lawyers?|attorneys?|solicitors?) (?:advise[sd]?|think|believe[sd]?|recommend(?:s|ed)?|told|warn(?:s|ed)?|say|said|estimate[sd]?)|anwaltsgeheimnis|secret professionnel|secreto profesional)".replace("–", ""), 0.9,
        matches=("Privileged and Confidential", "attorney-client communication", "our counsel advises to settle"), misses=("explain attorney-client privilege", "our counsel is nice"),
        check=_not_asked_about, edges=WORD, trigger=r"(?i:privileg|attorney|prejudice|counsel|lawyer|solicitor|anwaltsgeheim|secret professionnel|secreto prof)",
    ),
    Rule(
        "business.deal", "INSIDER_INFORMATION", "insider",
        r"(?i:insider list|material non[ \-]?public information|\bMNPI\b|(?:we|company|board) (?:are|is|plan|plans|intend|intends|will|want|wants|agreed)[a-z ]{0,24} (?:acquire|take over|merge with|buy out|be acquired)|before the (?:earnings|announcement|deal) (?:is|are|becomes?) public|unannounced (?:merger|acquisition|deal|takeover|results)|(?:merger|acquisition|takeover|deal)[a-z ,]{0,40}(?:not (?:yet )?(?:been )?(?:public|announced)|still secret|confidential|nobody (?:knows|must know))|pre[ \-]?release earnings|unpublished (?:results|earnings|quarterly|annual|figures)|profit warning)", 0.85,
        matches=("add him to the insider list", "we intend to acquire Acme", "the merger has not been announced", "unpublished results"), misses=("what is insider trading", "companies acquire others", "explain what a profit warning is"),
        check=_not_asked_about, edges=WORD, trigger=r"(?i:insider|mnpi|non[ \-]?public|acquire|take over|merge|buy out|public|announc|secret|release|unpublished|warning|acquisition)",
    ),
    Rule(
        "business.agreement", "CONTRACT_TERMS", "business",
        r"(?i:under (?:our|the|an|this) (?:NDA|non[ \-]disclosure agreement)|(?:our|the draft|draft) (?:contract|agreement|term sheet|letter of intent|loi|msa|sow) with|(?:contract|deal) (?:value|worth)|our (?:margin|churn|runway|burn rate|price list|cost base|win rate|pipeline|roadmap|forecast|budget|customer list|pricing)\b)", 0.75,
        matches=("under our NDA with Acme", "our contract with Acme", "our margin fell"), misses=("what is an NDA?", "a contract with a gym"), check=_not_asked_about, edges=WORD,
        trigger=r"(?i:\bunder|\bour |draft|contract|deal)",
    ),
    Rule(
        "business.incident", "SECURITY_INCIDENT", "security",
        r"(?i:(?:our|we (?:had|have|suffered|found)|in our|customer|attacker[s]? (?:got|read|stole|accessed))[a-z' ]{0,40}(?:data breach|security incident|ransomware|vulnerabilit(?:y|ies)|security hole|sql injection|unpatched|backdoor|leaked|(?:customer )?records were exposed)|pentest (?:report|found|findings)|penetration test (?:report|found|findings)|zero[ \-]day in our)", 0.8,
        matches=("we had a data breach last night", "our pentest report", "we found a SQL injection"), misses=("what is a data breach?", "how does sql injection work?"), check=_not_asked_about, edges=WORD,
        trigger=r"(?i:breach|incident|ransomware|vulnerab|security hole|injection|unpatched|backdoor|leaked|exposed|pentest|penetration|zero)",
    ),
    Rule(
        "business.personnel", "HR_MATTER", "confidential_detail",
        r"(?i:(?:performance (?:review|appraisal|improvement plan)|disciplinary (?:action|hearing|record)|written warning|termination letter|severance|personnel file|sick leave|salary review|raise letter) (?:for|of|to|against) [A-Z][a-z]+|(?:lay(?:ing)? off|laid off|let go|dismiss|fire) (?:\d+|[A-Z][a-z]+))", 0.75,
        matches=("performance review for Anna", "written warning to Bob"), misses=("how to write a performance review", "fire drill", "the fire spread"), edges=WORD,
        check=lambda text, start, end: end if any(65 <= c <= 90 or 48 <= c <= 57 for c in text[end - 12 : end]) else None, trigger=r"(?i:performance|disciplinary|warning|terminat|severance|personnel|leave|salary|raise|lay|laid|let go|dismiss|fire)",
    ),
)  # fmt: skip
