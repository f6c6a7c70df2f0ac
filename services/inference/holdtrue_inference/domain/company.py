"""How many requests are worth waiting for before a batch runs."""

from __future__ import annotations

PATIENCE_SECONDS = 0.002
"""How long a batch may wait for company."""
_LONGEST_REST = 256


class Company:
    """Learns by trying how many requests come within a moment.

    The transport hands over one request a turn of the event loop, however many it holds, so a turn alone never makes a
    batch. Whenever as many as were waited for have come, one more is tried; where they did not come the number falls to
    those that did, and the next try is put off, twice as long each time: under light load hardly anybody waits.
    """

    def __init__(self) -> None:
        """Expect nobody."""
        self.wanted = 1
        """Requests that the next batch should have."""
        self._trying = False
        self._rest = 0  # batches until the next try
        self._rests = 1  # how long a rest is

    def ran(self, size: int) -> None:
        """Take in how many requests the batch had."""
        if size < self.wanted:
            self.wanted = max(size, 1)
            self._trying = False
            self._rest = self._rests = min(2 * self._rests, _LONGEST_REST)
        elif self._rest and size == self.wanted:
            self._rest -= 1
        else:
            if self._trying:
                self._rests = max(self._rests // 2, 1)
            self.wanted = size + 1
            self._trying = True
