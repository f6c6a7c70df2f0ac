"""Why the platform does not start."""

from __future__ import annotations


class StartError(Exception):
    """Something did not start; the message says what, why, and what to do or where its log is."""


class AlreadyRunningError(StartError):
    """Another `holdtrue up` runs on the same data folder."""
