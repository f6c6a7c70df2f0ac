"""Why a request is not answered. The transports translate; the texts say what was wrong, where, and what to do.

Refused
├── InvalidInput   the request is wrong and will stay so
├── UnknownModel   no deployment of that name, or not that version of it
├── NotServing     it exists, but cannot answer at the moment
├── Overloaded     there is no time left to answer it
├── SpoolFull      the prediction could not be recorded
└── Expired        its deadline passed while it waited
"""

from __future__ import annotations

_LONGEST = 1_000


class Refused(Exception):
    """Base of all reasons not to answer. A longer text is cut: it travels in headers, which every client limits."""

    def __init__(self, text: str) -> None:
        """Say what was wrong, where, and what to do."""
        super().__init__(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


class InvalidInput(Refused):
    """The request is wrong; `field` is its part by path, for example `inputs[0].shape`; `row` is the row, if one is."""

    def __init__(self, field: str, description: str, row: int | None = None) -> None:
        """Name the part and say what was expected and what came."""
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = str(self).removeprefix(f"{field}: ")
        self.metadata = {} if row is None else {"row": str(row)}


class UnknownModel(Refused):
    """There is no such model, or not that version of it."""


class NotServing(Refused):
    """The model exists, but no revision of it can answer at the moment."""


class Overloaded(Refused):
    """The request would have waited longer than its deadline; `retry_after_ms` says when to come again."""

    def __init__(self, text: str, retry_after_ms: int) -> None:
        """Say why, and when it is worth another try."""
        super().__init__(text)
        self.retry_after_ms = retry_after_ms


class SpoolFull(Refused):
    """The prediction log cannot take another record, so nothing may be answered that has to be recorded."""


class Expired(Refused):
    """The deadline passed before the model ran."""
