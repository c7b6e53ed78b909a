"""The answers to errors, by the name that the older handlers use. It goes with them."""

from __future__ import annotations

from sync.serving.api import errors

RESPONSES = errors
