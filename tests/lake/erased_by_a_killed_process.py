"""Erases persons from a dataset and kills itself at a step: before or after a file is written, or the commit.

Usage: erased_by_a_killed_process.py ROOT DATASET_ID STEP PSEUDONYM…
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from holdtrue_lake import erasure
from holdtrue_lake.erasure import erase_rows
from holdtrue_lake.upkeep import vacuum

STEPS = [f"{when} {what}" for what in ("write_file", "replace_files") for when in ("before", "after")]


def die(when: str, what: str) -> None:
    step = getattr(erasure, what)
    turns = iter(range(100))

    def deadly(*arguments: Any, **options: Any) -> Any:
        if when == "before" and next(turns) == (what == "write_file"):  # not before the first file
            os.kill(os.getpid(), signal.SIGKILL)
        result = step(*arguments, **options)
        if when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(erasure, what, deadly)


def main(root: Path, dataset_id: str, step: str, pseudonyms: list[str]) -> None:
    die(*step.split())
    erase_rows(root, dataset_id, pseudonyms, ["erasure"])
    vacuum(root, dataset_id, timedelta(), alone=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
