"""The one error tree, split by what to do next.

`Refused`: do not try again, the answer is no. `Retryable`: try again later. `Corrupt`: what came is not what was sent;
keep the last good one. `Misconfigured`: a person has to change something. Each has a stable code, a sentence for people,
and fields for programs. A library's errors are wrapped where they enter, with `from`.
"""

from __future__ import annotations


class RingfenceError(Exception):
    """The root. `code` is stable and for programs; `str(error)` is one sentence for people, without secrets or prompts."""

    code = "internal_error"

    def __init__(self, sentence: str, *, code: str | None = None, **fields: object) -> None:
        super().__init__(sentence)
        if code is not None:
            self.code = code
        self.fields = fields


class Refused(RingfenceError):
    """The answer is no, and the same request gets the same answer."""

    code = "refused"


class Retryable(RingfenceError):
    """It did not work now; `retry_after_s` says when to try again."""

    code = "unavailable"

    def __init__(self, sentence: str, *, code: str | None = None, retry_after_s: float = 1.0, **fields: object) -> None:
        super().__init__(sentence, code=code, **fields)
        self.retry_after_s = retry_after_s


class Corrupt(RingfenceError):
    """Bytes that are not what was sent or written: refused, reported, and the last good ones stay."""

    code = "corrupt"


class Misconfigured(RingfenceError):
    """A person has to change a setting, a file or a permission; the sentence says which and how."""

    code = "misconfigured"
