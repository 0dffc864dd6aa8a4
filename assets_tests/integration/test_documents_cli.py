"""`lakehouse documents`: what is found, shown and exported, and what is said where there is nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.cli.app import app
from lakehouse.ingest.load import load
from lakehouse.simulators.pdf_files import pdf


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["documents", *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


@pytest.fixture
def loaded(own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files, two of the same content, and one that can't be read."""
    folder = tmp_path / "files"
    folder.mkdir()
    filler = " ".join(["word"] * 30)
    terms = pdf([f"{filler} refund of a damaged lamp {filler}", "delivery by post"])
    for name, content in {
        "terms.pdf": terms,
        "terms (copy).pdf": terms,
        "travel.pdf": pdf(["receipts of a travel, refund within a month"]),
        "cut.pdf": terms[:200],
    }.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", str(folder))
    lake, source = Lake.open(), described_source("documents")
    load(lake, source.datasets[0], [])
    for table in source.tables:
        table.derive(lake, source, [])


def test_search__lists_passages_best_first_around_the_words(loaded: None, tmp_path: Path) -> None:
    target = tmp_path / "found.csv"
    run("search", "Refund, damaged!", "--output", str(target))
    first, second = csv.DictReader(target.open())
    assert (first["name"], first["page"]) in {("terms.pdf", "1"), ("terms (copy).pdf", "1")}
    assert "refund of a damaged lamp" in first["excerpt"]
    assert second["name"] == "travel.pdf"
    assert float(first["score"]) > float(second["score"])
    run("search", "refund", "-k", "1", "--output", str(target))
    assert len(list(csv.DictReader(target.open()))) == 1


def test_show__prints_a_document_under_each_of_its_names(loaded: None) -> None:
    for name in ("terms.pdf", "terms (copy).pdf"):
        text = run("show", name)
        assert "page 1 of 2" in text
        assert "page 2 of 2" in text
        assert "delivery by post" in text
    assert "refund" not in run("show", "terms.pdf", "--page", "2")


def test_show__says_why_there_is_nothing(loaded: None) -> None:
    assert "terms.pdf has no page 3: it has 2" in run("show", "terms.pdf", "--page", "3", code=2)
    assert "did you mean 'terms.pdf'" in run("show", "terms.pfd", code=2)
    assert "is cut" in run("show", "cut.pdf", code=2)
    assert "did you mean 'documents'" in run("show", "terms.pdf", "--source", "document", code=2)


def test_export__has_each_page_of_each_name(loaded: None, tmp_path: Path) -> None:
    target = tmp_path / "pages.parquet"
    run("export", "--output", str(target))
    pages = pl.read_parquet(target)
    assert pages.select("name", "page").rows() == [
        ("terms (copy).pdf", 1),
        ("terms (copy).pdf", 2),
        ("terms.pdf", 1),
        ("terms.pdf", 2),
        ("travel.pdf", 1),
    ]
    assert "none of the formats" in run("export", "--output", "pages.txt", code=2)


def test_search__says_that_nothing_was_loaded(own_environment: None) -> None:
    assert "lakehouse update documents" in run("search", "refund", code=2)
