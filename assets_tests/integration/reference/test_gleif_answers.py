"""Answers of the API in a folder, brought to the tables by a run as the command line starts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.reference_lake import rows
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.derive.source import Source
from lakehouse.ingest.load import load
from lakehouse.local_dagster.update import news
from lakehouse.simulators.gleif import isin_of, lei_of


def answer(path: Path, published: str | None, *records: dict[str, Any]) -> None:
    """A document as the API answers, about one record or several."""
    meta = {} if published is None else {"goldenCopy": {"publishDate": published}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"meta": meta, "data": records[0] if len(records) == 1 else list(records)}))


def entity(number: int, name: str) -> dict[str, Any]:
    lei = lei_of(number)
    said = {"legalName": {"name": name}, "legalAddress": {"country": "SE"}, "status": "ACTIVE"}
    registration = {"status": "ISSUED", "lastUpdateDate": "2024-08-28T10:36:27Z"}
    return {"type": "lei-records", "id": lei, "attributes": {"lei": lei, "entity": said, "registration": registration}}


def run(lake: Lake, source: Source) -> None:
    """What the runs of `lakehouse update` do with what is new."""
    for partitions in news(source):
        for dataset in source.datasets:
            load(lake, dataset, partitions)
        for table in source.tables:
            table.derive(lake, source, source.together(lake, partitions))


def test_answers_reach_the_tables_of_the_days_that_they_say(
    own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "answers"
    monkeypatch.setenv("LAKEHOUSE_GLEIF_API_URL", str(folder))
    answer(folder / "lei_records" / "some.json", "2025-05-15T00:00:00Z", entity(1, "One AB"), entity(2, "Two AB"))
    answer(folder / "lei_records" / "later.json", "2025-06-15T00:00:00Z", entity(2, "Two and more AB"))
    answer(folder / "lei_records" / "no moment.json", None, entity(3, "Three AB"))
    answer(folder / "lei_records" / "none.json", "2025-05-15T00:00:00Z")
    pair = {"attributes": {"lei": lei_of(1), "isin": isin_of(1)}}
    answer(folder / "isins" / "one.json", "2025-05-15T00:00:00Z", pair)
    (folder / "lei_records" / "broken.json").write_text("<html>")
    run(Lake.open(), described_source("gleif"))
    assert rows("SELECT legal_name FROM reference.lei ORDER BY ALL") == [("One AB",), ("Two and more AB",)]
    assert rows("SELECT isin, lei FROM reference.lei_isin") == [(isin_of(1), lei_of(1))]
    at = "TIMESTAMPTZ '2025-06-01T00:00:00Z'"
    query = f"SELECT legal_name FROM gleif.entities WHERE known_from <= {at} AND coalesce(known_to > {at}, true)"
    assert rows(f"{query} ORDER BY ALL") == [("One AB",), ("Two AB",)]
    assert rows("SELECT object FROM lake.quarantine") == [("lei_records/no moment.json",)]
    (error,) = rows("SELECT error FROM lake.ingest_ledger WHERE status = 'failed'")[0]
    assert "HTML page" in error or "no JSON document" in error
