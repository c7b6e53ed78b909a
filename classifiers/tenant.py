"""A tenant's settings in the bundle, as the classifier wants them; not in `profile`, which needs no bundle."""

from __future__ import annotations

from classifiers import calibration
from classifiers.profile import BUDGET_WORDS, Profile, allow_list, custom_rule, deny_rule, regions
from classifiers.recognizers import contact
from sync.bundle import snapshot
from sync.wire.levels import Level


def of_tenant(settings: snapshot.Classification, highest: Level = Level.RESTRICTED) -> Profile:
    """A tenant's profile. `highest` as in Profile. Raises BadProfile."""
    own = [
        custom_rule(
            r.name, kind=r.type, category=r.category, pattern=r.pattern, score=r.score, context=r.context, whole_words=r.whole_words
        )
        for r in settings.recognizers
    ]
    own += [deny_rule(words.name, words.entries, category=words.category) for words in settings.deny if words.entries]
    return Profile(
        rules=tuple(own),
        allow=allow_list(settings.allow),
        regions=regions(settings.phone_regions) if settings.phone_regions else contact.REGIONS,
        table=calibration.Table(
            {entry.name: entry.level for entry in settings.categories},
            {entry.name: entry.level for entry in settings.types},
            settings.together,
            settings.many,
        ),
        disabled=frozenset(settings.disabled),
        use_model=settings.model,
        budget_words=settings.budget_words or BUDGET_WORDS,
        floor_over_budget=settings.over_budget,
        highest=highest,
    )
