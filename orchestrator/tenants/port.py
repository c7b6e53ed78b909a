"""Where the configuration is kept."""

from __future__ import annotations

from typing import Protocol


class ConfigurationStore(Protocol):
    """The applied documents, and the serial that every edit of anything raises. All raise StoreUnavailable."""

    async def serial(self) -> int:
        """Raised by one with each edit of the document, a key or an agent: the bundle's serial."""
        ...

    async def document(self) -> str | None:
        """The YAML text that was applied last."""
        ...

    async def apply(self, text: str, *, at: float, by: str) -> int:
        """Keeps a checked document as the current one; the new serial."""
        ...
