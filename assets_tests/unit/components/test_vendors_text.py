"""Vendors' text is shown as it is on Dagster's pages and in terminals, and does nothing there."""

from __future__ import annotations

import io
from html import unescape

import dagster as dg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.markup import escape
from rich.table import Table

from lakehouse.catalog import source_named
from lakehouse.cli.render import SafeConsole
from lakehouse.components.checks import check_result
from lakehouse.components.metadata import in_markdown, markdown_table, records_table
from lakehouse.derive.source import Finding
from lakehouse.printable import printable

HOSTILE = [
    "![x](http://127.0.0.1:9/pixel.png)",
    "[AAPL](javascript:alert(1))",
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "a | b | c",
    "a\\|b",
    "line\n\n# one\r\n- two",
    "`code` ``` <b> ```",
    "**bold** _it_ ~~gone~~ http://example.com www.example.com a@example.com",
    "[a\nb]: http://example.com\n![a\nb]",
    "&lt;b&gt; &#91;",
    "\x1b[2J\x9b31m\u202eabc",
]
PLAIN = {"paragraph", "table", "thead", "tbody", "tr", "th", "td", "inline", "text", "code_inline"}
markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text: str) -> list[Token]:
    found = markdown.parse(text)
    return found + [child for token in found for child in token.children or []]


def kinds(text: str) -> set[str]:
    return {token.type.removesuffix("_open").removesuffix("_close") for token in tokens(text)}


pieces = st.sampled_from([*"ab1 |`*_[]()<>!#&~\\:/.@-=\n\r\t\x1b", "http://", "![", "](", "www."])
texts = st.lists(pieces, max_size=30).map("".join)


def with_examples(test):  # type: ignore[no-untyped-def]
    for text in HOSTILE:
        test = example(text)(test)
    return test


@with_examples
@given(texts)
def test_in_markdown__shows_the_text_and_nothing_else(text: str) -> None:
    table = markdown_table(["symbol", "close"], [[text, 1.5], ["AAPL", None]])
    assert kinds(table) <= PLAIN
    assert sum(token.type == "td_open" for token in tokens(table)) == 4
    (cell, *_) = [token for token in markdown.parse(table) if token.type == "inline"][2:]
    shown = "".join(child.content for child in cell.children or [])
    expected = printable(text).replace("|", "\\x7c")
    # Markdown shows several blanks as one, and none at the ends.
    assert " ".join(unescape(shown).split()) == " ".join(unescape(expected).split())
    assert "|" not in in_markdown(text)


def test_in_markdown__ordinary_texts_stay_as_they_are() -> None:
    for text in (
        "SAP SE O.N.",
        "3,50% Anl. (2024/29)",
        "objects_readable: 1 of 36",
        "2024-03-15 09:30:00+00",
        "-1.5e-7",
    ):
        assert in_markdown(text) == text
    assert markdown_table(["a_b"], [[None]]) == "| a_b |\n| --- |\n|  |"


@pytest.mark.parametrize("text", HOSTILE)
def test_check_result__the_summary_and_the_rows_are_no_markup(text: str) -> None:
    finding = Finding(False, f"1 object could not be read: {text}", [{"object": text, "error": text}], {"n": 1})
    result = check_result(source_named("xetra").checks[0], dg.AssetKey("raw_bars"), finding)
    assert kinds(str(result.description)) <= PLAIN
    assert str(result.description).startswith("1 object could not be read: ")
    assert kinds(str(result.metadata["rows"].value)) <= PLAIN
    assert kinds(records_table([{text: text}])) <= PLAIN


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_safe_console__texts_command_no_terminal(text: str, terminal: bool) -> None:
    screen = io.StringIO()
    console = SafeConsole(file=screen, force_terminal=terminal, color_system=None, width=60)
    table = Table()
    table.add_column(escape(text))
    table.add_row(escape(text), f"[bold]{escape(text)}[/]")
    console.print(table)
    console.print(f"[bold red]Error[/] {escape(text)}", highlight=False)
    console.out(text)
    written = screen.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[1;31m", "")
    for line in written.split("\n"):
        assert line.isprintable(), repr(line)
