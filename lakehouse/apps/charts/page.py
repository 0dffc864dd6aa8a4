"""A chart as one HTML file that works without a server and without a network: style, script and data are in it.

A Content-Security-Policy in the file allows that script and that style alone, so a text of the data can't run one.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template

from lakehouse.apps.charts.payload import as_script, figures_of, notes_of, payload
from lakehouse.domains.market.bars.chart import Chart
from lakehouse.printable import printable

STATIC = Path(__file__).with_name("static")
"""The folder with the script and the style."""
_PAGE = Path(__file__).with_name("page.html")


def page(views: Mapping[str, Chart], *, is_log: bool = False) -> str:
    """The page of one instrument: name of a basis -> its bars on it, the first of which is shown at first."""
    first = next(iter(views.values()))
    style, script = _asset("chart.css") + _asset("page.css"), _asset("chart.js")
    figures = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td data-chart-figure="{html.escape(name)}">'
        f"{html.escape(text)}</td></tr>"
        for name, text in figures_of(first).items()
    )
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        policy=f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; base-uri 'none'",
        title=html.escape(printable(first.title)),
        notes=html.escape(notes_of(first)),
        figures=figures,
        style=style,
        script=script,
        data=as_script(payload(views, is_log=is_log)),
    )


@cache
def _asset(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The source expression that allows an inline script or style of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
