from __future__ import annotations

import os
import signal
import subprocess
import sys

CHILD = """
import os, sys
from holdtrue_core.process import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
sys.stdin.read()
"""
PARENT = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdin=sys.stdin)
"""


def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin
    assert parent.stdout
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert parent.stdout.read() == ""  # the child held the other end until it died
    parent.stdin.close()


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHILD, "1"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 1
    assert "the starter ended before this process began" in result.stderr
