"""What one process may use."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Per process; whoever watches it holds `memory_bytes` and `processes` against all of its session together.

    `wall_seconds` is also the processor time; 0: as long as it is needed.
    """

    memory_bytes: int = 4 << 30
    wall_seconds: float = 3600.0
    file_bytes: int = 2 << 30
    open_files: int = 256
    processes: int = 32
