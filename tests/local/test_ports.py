"""Ports: what was given away is not given again before somebody listens."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from holdtrue_local import ports

if TYPE_CHECKING:
    import pytest

OTHER = """
from holdtrue_local import ports
ports._random.randint = (lambda *_, numbers=iter({numbers}): next(numbers))
print(ports.free_port())
"""


def other(*numbers: int) -> int:
    """What a process gets that draws these numbers."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER.format(numbers=numbers)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_two_processes_that_draw_alike_get_different_ports() -> None:
    mine = ports.free_port()
    free = ports.free_port()
    ports._claims.pop().close()
    assert other(mine, mine, free) == free


def test_the_port_of_a_process_that_ended_is_free_again() -> None:
    port = other(ports.free_port() - 1, *range(20_000, 20_100))
    assert other(port) == port


def test_a_port_that_somebody_listens_on_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = ports.free_port()
        ports._claims.pop().close()
        drawn = iter([taken.getsockname()[1], free])

        def draw(_first: int, _last: int) -> int:
            return next(drawn)

        monkeypatch.setattr(ports._random, "randint", draw)
        assert ports.free_port() == free
