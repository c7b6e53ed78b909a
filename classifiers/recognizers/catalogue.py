"""All recognizers, in one list."""

from __future__ import annotations

from classifiers.recognizers import (
    american,
    asian,
    business,
    contact,
    european,
    finance,
    health,
    markings,
    network,
    passwords,
    person,
    source_code,
    special,
    tokens,
)  # fmt: skip
from classifiers.recognizers.rule import Rule

BUILT_IN: tuple[Rule, ...] = (
    *tokens.RULES, *passwords.RULES, *finance.RULES, *american.RULES, *european.RULES, *asian.RULES, *health.RULES, *special.RULES, *person.RULES, *contact.RULES,
    *network.RULES, *markings.RULES, *business.RULES, *source_code.RULES,
)  # fmt: skip
"""Every rule but the telephone numbers', which depend on regions."""

RULES: tuple[Rule, ...] = (*BUILT_IN, *contact.phone_rules())
"""Every rule, with the default regions."""


def rules(regions: tuple[str, ...] = contact.REGIONS) -> tuple[Rule, ...]:
    """Every rule, with the national telephone numbers of these regions."""
    return RULES if regions == contact.REGIONS else (*BUILT_IN, *contact.phone_rules(regions))
