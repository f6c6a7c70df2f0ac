"""A disk that is full, without one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def writing_at_most(count: int) -> Callable[[int, bytes], int]:
    """`os.write` where every write finds room for so many bytes."""
    write = os.write
    return lambda to, data: write(to, data[:count])
