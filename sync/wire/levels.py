"""How sensitive, and where: levels are ordered, zones are not."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Level(IntEnum):
    """How sensitive a request is. Ordered: the higher one wins."""

    PUBLIC = 0
    INTERNAL = 1
    CONFIDENTIAL = 2
    RESTRICTED = 3

    @property
    def label(self) -> str:
        """The word in lower case, as in files, headers and answers."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> Level:
        """The level of this word. Raises ValueError that names the four."""
        try:
            return cls[label.strip().upper()]
        except KeyError:
            words = ", ".join(level.label for level in cls)
            raise ValueError(f"{label[:40]!r} is no level: use one of {words}") from None


class Zone(StrEnum):
    """What kind of place an agent runs in."""

    ON_PREMISE = "on_premise"
    PRIVATE_CLOUD = "private_cloud"
    PUBLIC_CLOUD = "public_cloud"


class CacheScope(StrEnum):
    """Who may be answered from a kept answer: nobody, the same principal, or anybody of the same tenant."""

    NONE = "none"
    PRINCIPAL = "principal"
    TENANT = "tenant"
