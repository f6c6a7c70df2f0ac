"""The page as HTML: the whole of it, and the fragments that are pushed when they change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from holdtrue_console.domain.chart import chart

if TYPE_CHECKING:
    from holdtrue_console.domain.view import Figure, Overview

FRAGMENTS = ("services", "notices", "tiles", "deployments", "models", "alerts", "events")
"""Parts of the page by the id of their element; each has a template of that name."""


class Page:
    """Renders overviews; the same overview always gives the same text."""

    def __init__(self) -> None:
        """Load the templates."""
        self._templates = Environment(
            loader=PackageLoader("holdtrue_console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"figure": _figure, "interval": _interval, "clock": _clock, "iso": _iso, "bp": _bp}

    def whole(self, overview: Overview) -> str:
        """Return the complete page."""
        return self._templates.get_template("page.html").render(overview=overview, fragments=self.fragments(overview))

    def fragments(self, overview: Overview) -> dict[str, str]:
        """Return every live part of the page by its id."""
        return {
            name: self._templates.get_template(f"{name}.html").render(overview=overview, chart=chart)
            for name in FRAGMENTS
        }


def _figure(figure: Figure) -> str:
    return "–" if figure.value is None else f"{figure.value:.3f}"


def _interval(figure: Figure) -> str:
    if figure.lower is None or figure.upper is None:
        return figure.note
    text = f"[{figure.lower:.3f}, {figure.upper:.3f}] n = {figure.n:,}"
    return f"{text} · {figure.note}" if figure.note else text


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _bp(basis_points: int) -> str:
    return f"{basis_points / 100:g} %"
