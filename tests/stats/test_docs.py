"""Every example on the pages of docs/statistics says what the library does, and every picture is there."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "statistics").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path) -> None:
    options = doctest.NORMALIZE_WHITESPACE
    done = doctest.testfile(str(page), module_relative=False, optionflags=options, encoding="utf-8")
    assert done.attempted > 0
    assert done.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_exist(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert all((page.parent / target).exists() for target in targets), targets


def test_the_pictures_are_drawn_from_the_library(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCS / "build.py", "--to", tmp_path], check=True)
    drawn, shown = ({path.name for path in folder.iterdir()} for folder in (tmp_path, DOCS / "statistics" / "img"))
    assert drawn == shown
