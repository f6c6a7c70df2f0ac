"""How many requests are worth waiting for before a batch runs."""

from __future__ import annotations

_LONGEST_REST = 256


class Company:
    """Learns from the sizes of batches how many requests come together.

    As many as came together the last time make a batch at once. Now and then twice as many are tried: when the number
    has changed at once, otherwise after a rest that doubles each time, so that hardly anybody ever waits in vain.
    """

    def __init__(self) -> None:
        """Expect nobody."""
        self._usual = 1
        self._trying = False
        self._rest = 1  # batches until the next try
        self._rests = 1  # how long a rest is

    @property
    def wanted(self) -> int:
        """Requests with which a batch runs at once; with fewer it waits a moment for more."""
        return 2 * self._usual if self._trying else self._usual

    def ran(self, size: int) -> None:
        """Take in how many requests a batch had."""
        if size != self._usual:
            self._usual, self._rests, self._trying = max(size, 1), 1, True
        elif self._trying:
            self._trying = False
            self._rest = self._rests = min(2 * self._rests, _LONGEST_REST)
        else:
            self._rest -= 1
            self._trying = self._rest <= 0
