"""An API that is asked for several identifiers in one POST request, as OpenFIGI is: each answer is an object of its
own, loaded, corrected and counted as any other. The dataset has no days, so it has a single partition.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from assets_tests.support.kernel_lake import PROVENANCE, contract, lake_at, rows_of
from assets_tests.support.scripted_vendor import Reply, Vendor, running
from lakehouse.derive.by_partition import derive_whole, partitions_as_of
from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.derive.rebuild import rebuild
from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.ingest.dataset import ApiOrigin, Dataset
from lakehouse.ingest.http import connection
from lakehouse.ingest.http.config import Api, Endpoint
from lakehouse.ingest.http.requests import Requests
from lakehouse.ingest.load import LoadResult, load
from lakehouse.ingest.partitioning import Part, Whole
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.thresholds import Refusals
from lakehouse.lake.lake import Lake

IBM, SAP, BMW, UNKNOWN, WRONG = "US4592001014", "DE0007164600", "DE0005190003", "XS0000000000", "nonsense"
_COLUMNS = """
  - {name: part, type: date, description: The single partition.}
  - {name: isin, type: string, description: What was asked about.}
  - {name: figi, type: string, description: FIGI.}
  - {name: ticker, type: string, description: Ticker.}
"""
RAW = contract(f"""
table: raw_figis
description: Every answer.
key: [object, object_version, row_number]
partition_by: [part]
known_at: ingested_at
by_ledger: true
columns:{_COLUMNS.rstrip()}{PROVENANCE.rstrip()}
rules:
  - {{name: figi_long, holds: "length(figi) = 12", reason: the FIGI has not 12 characters}}
""")
FIGIS = contract(f"""
table: figis
description: The newest answers.
key: [isin, figi]
partition_by: [part]
columns:{_COLUMNS.rstrip()}
""")
RULE = RevisionRule(key=("isin", "figi"), content=("ticker",), part="part")
API: dict[str, Any] = {
    "key": {"header": "X-OPENFIGI-APIKEY", "variable": "OPENFIGI_API_KEY"},
    "requests_per_minute": 60_000,
    "records": "data",
    "batch": {"size": 3, "empty_members": ["warning"]},
    "error_members": {"error": "permanent"},
    "max_attempts": 2,
    "concurrency": 1,
}


def figis(source: Source, connection: object, raw: str, ledger: str) -> str:
    return f"SELECT part, isin, figi, ticker FROM ({winners(raw, ledger, RULE)})"


class Figis(Vendor):
    """Maps ISINs to FIGIs as api.openfigi.com/v3/mapping does, at most three at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.known = {
            IBM: [{"figi": "BBG000BLNNH6", "ticker": "IBM"}, {"figi": "BBG000BLNNV0", "ticker": "IBM"}],
            SAP: [{"figi": "BBG000BG7DY8", "ticker": "SAP"}],
            BMW: [{"figi": "BBG000BN5VK4", "ticker": "BMW"}],
        }
        self.most = 3
        self.otherwise = self._mapped

    def _mapped(self, jobs: list[dict[str, str]]) -> Reply:
        if len(jobs) > self.most:
            return Reply(b"Request exceeded the maximum number of mapping jobs allowed.", 413)
        if any(job["idValue"] == WRONG for job in jobs) and len(jobs) > 1:
            return Reply(b"Invalid idValue format.", 400)
        return Reply(json.dumps([self._answer_to(job) for job in jobs]).encode())

    def _answer_to(self, job: dict[str, str]) -> dict[str, Any]:
        assert job["idType"] == "ID_ISIN"
        if job["idValue"] == WRONG:
            return {"error": "Invalid idValue format."}
        found = self.known.get(job["idValue"])
        return {"data": found} if found else {"warning": "No identifier found."}


@pytest.fixture
def figi_vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Figis]:
    monkeypatch.setattr(connection, "FIRST_WAIT_S", 0.001)
    with running(Figis()) as server:
        yield server


def source_of(vendor: Vendor, *isins: str, **entries: Any) -> Source:
    rows = RowFormat(format="jsonl", columns={"figi": "figi", "ticker": "ticker"}, constants={}, named={"isin": "isin"})
    endpoint = Endpoint("openfigi", Api.model_validate(API | {"url": vendor.url} | entries), key="a-key")
    request = {"idType": "ID_ISIN", "idValue": "{isin}"}
    dataset = Dataset(
        source="openfigi",
        name="figis",
        description="FIGIs",
        table="openfigi/raw_figis",
        contract=RAW,
        rows=rows,
        origin=ApiOrigin(endpoint, Requests("figis", request, "isin", lambda: isins, ("isin",), dict)),
        partitioning=Whole(),
        partition_column="part",
        part=Part("part"),
        times=lambda text: text.select(),
        reading=reading_digest(RAW, {"rows": rows.model_dump(mode="json")}),
        refusals=Refusals(),
    )
    made = DerivedTable(
        name="figis",
        description="The newest answers.",
        depends_on=("raw_figis",),
        derive=partial(derive_whole, "figis", "figis", figis),
        as_of=partial(partitions_as_of, "figis", figis),
        keeps=Winners("figis", RULE),
        is_whole=True,
    )
    return Source(
        name="openfigi",
        kind="figis",
        contracts={"raw_figis": RAW, "figis": FIGIS},
        datasets=(dataset,),
        tables=(made,),
        checks=(*of_every_dataset(RAW, "figis"), *of_every_table(FIGIS), conservation_holds(made)),
    )


class Book:
    """A lake that takes answers."""

    def __init__(self, home: Path, vendor: Figis) -> None:
        self.home, self.vendor = home, vendor
        self.take(IBM, SAP, BMW, UNKNOWN)

    def lake(self, as_of: datetime | None = None) -> Lake:
        return lake_at(self.home, self.source, as_of=as_of)

    def take(self, *isins: str, **entries: Any) -> LoadResult:
        self.source = source_of(self.vendor, *isins, **entries)
        result = load(self.lake(), self.source.datasets[0], [])
        self.source.tables[0].derive(self.lake(), self.source, [])
        return result

    def figis(self, as_of: datetime | None = None) -> list[tuple[Any, ...]]:
        return rows_of(self.lake(as_of), "openfigi/figis", "isin, figi, ticker")

    def versions(self) -> list[int | None]:
        names = ("openfigi/raw_figis", "openfigi/figis", "ingest_ledger", "quarantine")
        return [self.lake().table(name).snapshot().version for name in names]

    def is_sound(self) -> bool:
        assert not rebuild(self.lake(), self.source, verify=True).differs
        findings = {check.name: check.run(self.lake(), self.source, None) for check in self.source.checks}
        return findings["conservation"].passed and findings["contract"].passed and findings["key_is_unique"].passed


@pytest.fixture
def book(tmp_path: Path, figi_vendor: Figis) -> Book:
    return Book(tmp_path, figi_vendor)


FOUND = [
    (SAP, "BBG000BG7DY8", "SAP"),
    (BMW, "BBG000BN5VK4", "BMW"),
    (IBM, "BBG000BLNNH6", "IBM"),
    (IBM, "BBG000BLNNV0", "IBM"),
]


def test_batches_are_landed_question_by_question(book: Book) -> None:
    jobs = [{"idType": "ID_ISIN", "idValue": isin} for isin in (IBM, SAP, BMW, UNKNOWN)]
    assert book.vendor.asked == [jobs[:3], jobs[3:]]
    assert {each["X-OPENFIGI-APIKEY"] for each in book.vendor.headers} == {"a-key"}
    assert {each["Content-Type"] for each in book.vendor.headers} == {"application/json"}
    assert book.figis() == sorted(FOUND)
    ledger = rows_of(book.lake(), "ingest_ledger", "object, status, rows_received, first_session, last_session")
    day = date(1970, 1, 1)
    assert ledger == [
        (f"figis/{BMW}", "loaded", 1, day, day),
        (f"figis/{SAP}", "loaded", 1, day, day),
        (f"figis/{IBM}", "loaded", 2, day, day),
        (f"figis/{UNKNOWN}", "empty", 0, day, day),
    ]
    assert book.is_sound()


def test_the_same_answers_in_other_batches_are_no_news(book: Book) -> None:
    before = book.versions()
    book.take(UNKNOWN, BMW, SAP, IBM, batch={"size": 2, "empty_members": ["warning"]})
    assert book.versions() == before


def test_a_changed_answer_is_a_new_version_of_its_question_alone(book: Book) -> None:
    before = datetime.now(UTC)
    book.vendor.known[IBM] = [{"figi": "BBG000BLNNH6", "ticker": "IBM US"}]
    book.vendor.known[UNKNOWN] = [{"figi": "BBG00000000X", "ticker": "NEW"}]
    result = book.take(IBM, SAP, BMW, UNKNOWN)
    assert result.objects == {"loaded": 2, "empty": 0, "failed": 0}
    expected = [*FOUND[:2], (IBM, "BBG000BLNNH6", "IBM US"), (UNKNOWN, "BBG00000000X", "NEW")]
    assert book.figis() == sorted(expected)
    assert book.figis(before) == sorted(FOUND)
    assert book.is_sound()


def test_a_bad_record_goes_to_the_quarantine(book: Book) -> None:
    book.vendor.known[SAP] = [{"figi": "short", "ticker": "SAP"}, {"figi": "BBG000BG7DY8", "ticker": "SAP"}]
    book.take(IBM, SAP, BMW)
    assert rows_of(book.lake(), "quarantine", "object, row_number, reasons") == [
        (f"figis/{SAP}", 1, ["the FIGI has not 12 characters"])
    ]
    assert book.is_sound()


def test_a_question_at_fault_fails_alone(book: Book) -> None:
    """The vendor refuses its whole batch, which is asked again in halves."""
    book.vendor.asked.clear()
    book.vendor.known[SAP] = [{"figi": "BBG000BG7DY9", "ticker": "SAP"}]
    result = book.take(IBM, WRONG, SAP)
    assert list(result.errors) == [f"figis/{WRONG}"]
    assert "refuses idType=ID_ISIN idValue=nonsense: error: Invalid idValue format." in result.errors[f"figis/{WRONG}"]
    assert (SAP, "BBG000BG7DY9", "SAP") in book.figis()
    # New questions come first, so this one leads the batch.
    assert [[job["idValue"] for job in jobs] for jobs in book.vendor.asked] == [[WRONG, IBM, SAP], [WRONG], [IBM, SAP]]
    before = book.versions()
    assert not book.take(IBM, WRONG, SAP).errors
    assert book.versions() == before


def test_a_batch_that_is_too_large_is_divided(book: Book) -> None:
    book.vendor.most = 1
    book.vendor.known[BMW] = [{"figi": "BBG000BN5VK5", "ticker": "BMW"}]
    assert book.take(IBM, SAP, BMW).objects == {"loaded": 1, "empty": 0, "failed": 0}
    assert (BMW, "BBG000BN5VK5", "BMW") in book.figis()


def test_a_batch_is_tried_again(book: Book) -> None:
    book.vendor.script = [Reply(status=429)]
    book.vendor.known[BMW] = []
    assert book.take(IBM, SAP, BMW).objects == {"loaded": 0, "empty": 1, "failed": 0}
    assert book.figis() == sorted(row for row in FOUND if row[0] != BMW)


def test_a_batch_without_an_answer_fails_all_its_questions_once(book: Book) -> None:
    book.vendor.script = [Reply(status=500)] * 4
    result = book.take(IBM, SAP, BMW)
    assert set(result.errors) == {f"figis/{isin}" for isin in (IBM, SAP, BMW)}
    assert "openfigi: no answer about a batch of questions after 2 tries" in result.errors[f"figis/{IBM}"]
    before = book.versions()
    # In a batch of another order it is the same error, which is no news.
    assert not book.take(BMW, SAP, IBM).errors
    assert book.versions() == before
    assert book.figis() == sorted(FOUND)
    assert book.is_sound()


def test_answers_that_are_not_one_per_question_are_refused(book: Book) -> None:
    book.vendor.script = [Reply(b'[{"data": []}, {"data": []}]')]
    result = book.take(IBM, SAP, BMW)
    assert "has 2 elements for 3 questions, so that none can be assigned" in result.errors[f"figis/{BMW}"]
    assert book.figis() == sorted(FOUND)


def test_a_quota_ends_the_run_and_keeps_the_answers_before_it(book: Book) -> None:
    book.vendor.known[BMW] = [{"figi": "BBG000BN5VK5", "ticker": "BMW"}]
    over = [{"data": book.vendor.known[BMW]}, {"error": "Daily quota is used up"}]
    book.vendor.script = [Reply(json.dumps(over).encode())]
    book.vendor.asked.clear()
    batch = {"size": 2, "empty_members": ["warning"]}
    result = book.take(BMW, SAP, IBM, UNKNOWN, batch=batch, quota_patterns=["daily quota"])
    assert len(book.vendor.asked) == 1
    assert (BMW, "BBG000BN5VK5", "BMW") in book.figis()
    assert "openfigi answers nothing more for now, asked for idType=ID_ISIN" in result.errors[f"figis/{SAP}"]
    assert result.errors[f"figis/{IBM}"].startswith("not asked: the vendor answered nothing more")


def test_a_redirection_is_followed_only_as_a_post(book: Book) -> None:
    book.vendor.known[BMW] = [{"figi": "BBG000BN5VK5", "ticker": "BMW"}]
    book.vendor.script = [Reply(status=308, headers={"Location": "/v4/mapping"})]
    assert not book.take(IBM, SAP, BMW).errors
    assert (BMW, "BBG000BN5VK5", "BMW") in book.figis()
    # After 301, HTTP clients send a GET.
    book.vendor.script = [Reply(status=301, headers={"Location": "/v4/mapping"})]
    assert "/v4/mapping, which is not followed" in book.take(IBM, SAP, BMW).errors[f"figis/{IBM}"]


def test_questions_and_answers_in_an_envelope(book: Book) -> None:
    """As APIs of record matching have it: an object with the questions, and one with a record per question."""

    def matched(body: dict[str, Any]) -> Reply:
        found = [{"figi": "BBG000BLNNH6", "ticker": job["idValue"][:2]} for job in body["records"]]
        return Reply(json.dumps({"matches": {"items": found}}).encode())

    book.vendor.otherwise = matched
    batch = {"size": 100, "questions": "records", "answers": "matches.items"}
    book.take(IBM, SAP, records="", batch=batch)
    assert [row for row in book.figis() if row[0] != BMW] == sorted(
        [(IBM, "BBG000BLNNH6", "US"), (SAP, "BBG000BLNNH6", "DE")]
    )


def test_a_source_of_batches_needs_its_records(figi_vendor: Figis) -> None:
    with pytest.raises(ValueError, match="batch needs the entry `records`"):
        source_of(figi_vendor, IBM, records=None)
    with pytest.raises(ValueError, match="remove `batch` or `paging`"):
        source_of(figi_vendor, IBM, paging={"by": "number"})
