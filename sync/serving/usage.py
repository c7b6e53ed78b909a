"""Tokens where nobody has counted them, and a bound on what others say that they counted. Pure."""

from __future__ import annotations

BYTES_PER_TOKEN = 4
"""Bytes of UTF-8 that make a token, in English text and OpenAI's tokenizers; other languages have fewer, so they pay less."""
TEMPLATE_TOKENS = 4_096
"""Tokens that a chat template may add around the texts of a request."""


def estimate(text_bytes: int) -> int:
    """Return how many tokens a text of so many bytes of UTF-8 is counted as: one for each four, rounded up."""
    return -(-text_bytes // BYTES_PER_TOKEN)


def bounded_prompt(told: int, text_bytes: int) -> int:
    """Return the tokens that are charged for a prompt, where another process says that it had `told`.

    A token is at least one byte, so no honest count is above the bound: a number beyond it locks nobody out.
    """
    return min(told, text_bytes + TEMPLATE_TOKENS)


def bounded_answer(told: int, asked: int) -> int:
    """Return the tokens that are charged for an answer for which at most `asked` were asked."""
    return min(told, asked)
