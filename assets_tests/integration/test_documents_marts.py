"""The documents in the published file: any DuckDB searches it as the lake is searched."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.ingest.load import load
from lakehouse.settings import settings
from lakehouse.simulators.pdf_files import pdf
from lakehouse.warehouse.parts import part_of
from lakehouse.warehouse.publish import differing_marts, publish

SEARCH = "SELECT name, page, score FROM {}('refund of the lamp', k := 5)"


def test_the_published_file_is_searched_by_any_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_DOCUMENTS_URL", str(folder))
    for number, words in enumerate(["refund of a lamp", "lamp", "the post", "a lamp, a lamp and refunds"]):
        (folder / f"{number}.pdf").write_bytes(pdf([words, "other words"]))

    def take() -> None:
        lake, source = Lake.open(), described_source("documents")
        load(lake, source.datasets[0], [])
        for table in source.tables:
            table.derive(lake, source, [])
        publish(settings())

    def in_lake() -> list[tuple[object, ...]]:
        found = Lake.open().sql(SEARCH.format("documents.search"))
        assert found is not None
        return found.fetchall()

    def in_file() -> list[tuple[object, ...]]:
        with duckdb.connect(str(settings().warehouse), read_only=True) as connection:
            return connection.execute(SEARCH.format("marts.search_documents")).fetchall()

    take()
    assert [name for name, *_ in in_lake()] == ["0.pdf", "2.pdf", "1.pdf", "3.pdf"]
    assert in_file() == in_lake()
    found = Lake.open().sql(SEARCH.format("marts.search_documents"))
    assert found is not None
    assert found.fetchall() == in_lake()

    (folder / "0.pdf").unlink()
    (folder / "4.pdf").write_bytes(pdf(["refund, refund"]))
    take()
    assert [name for name, *_ in in_file()] == ["4.pdf", "2.pdf", "1.pdf", "3.pdf"]
    assert in_file() == in_lake()
    with duckdb.connect(str(settings().warehouse), read_only=True) as connection:
        documents = "SELECT name, page_count, text_page_count, word_count FROM marts.dim_document ORDER BY 1"
        assert connection.execute(documents).fetchall()[0] == ("1.pdf", 2, 2, 3)
    assert not differing_marts(settings(), part_of("library"))
