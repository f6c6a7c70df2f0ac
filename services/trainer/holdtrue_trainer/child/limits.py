"""What one child may use."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Per process, `memory_bytes` and `processes` also for all processes of the child together."""

    memory_bytes: int = 4 << 30
    wall_seconds: float = 3600.0
    file_bytes: int = 2 << 30
    open_files: int = 256
    processes: int = 32
