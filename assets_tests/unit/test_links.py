"""Links of the documentation lead somewhere: to files that exist, and to headings by the anchors that both a code host
and the site's generator give them.
"""

from __future__ import annotations

import re
import subprocess
import unicodedata
from functools import cache
from pathlib import Path

import pytest

from lakehouse.settings import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
PAGES = [PROJECT_ROOT / "README.md", PROJECT_ROOT / "benchmarks" / "README.md", *sorted(DOCS.rglob("*.md"))]
_CODE = re.compile(r"^( *)(```+).*?^\1\2 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")


def prose(text: str) -> str:
    """A page without its code, whose brackets are no links."""
    return _CODE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors that mean one heading of a page in either way of making them."""
    headings = [
        re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]|&[lg]t;", r"\1", line)
        for line in re.findall(r"^#+ +(.*?)[ #]*$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE)
    ]
    hosts = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {
        host
        for host, heading in zip(hosts, headings, strict=True)
        if hosts.count(host) == 1 and host == generators_anchor(heading)
    }


def generators_anchor(heading: str) -> str:
    """The anchor of a heading by Python-Markdown's `toc`."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@cache
def anchors_of(page: Path) -> set[str]:
    return anchors(page.read_text())


@cache
def kept() -> frozenset[Path]:
    """The files of the project, and their folders."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT_ROOT, capture_output=True, text=True)
    found = {PROJECT_ROOT / name for name in listed.stdout.split("\0") if name}
    return frozenset(found | {folder for path in found for folder in path.parents})


def faults(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in _LINK.findall(prose(text)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (page.is_relative_to(DOCS) and not target.is_relative_to(DOCS)):
            found.append(link)
        elif kept() and target.is_relative_to(PROJECT_ROOT) and target not in kept():
            found.append(f"{link} (a file that isn't kept)")
        elif anchor and anchor not in anchors_of(target):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT_ROOT)))
def test_links__lead_to_files_and_headings(page: Path) -> None:
    assert faults(page, page.read_text()) == []


def test_links__of_the_contents_name_every_page() -> None:
    linked = {path.name for page in DOCS.rglob("*.md") for path in map(Path, _LINK.findall(page.read_text()))}
    linked |= {name.partition("#")[0] for name in linked}
    assert {page.name for page in DOCS.rglob("*.md")} - linked == {"index.md"}


def test_faults__of_a_page(tmp_path: Path) -> None:
    page = DOCS / "index.md"
    text = "# Twice\n# Twice\n# A & B\n# `lakehouse sql`: once\n```\n# of a block\n[no](link.md)\n```\n"
    assert anchors(text) == {"lakehouse-sql-once"}
    links = "[a](tutorial.md) [b](nowhere.md) [c](#no-heading) [d](../README.md) [e](https://example.com) `[f](g.md)`"
    assert faults(page, links) == ["nowhere.md", "#no-heading", "../README.md"]
