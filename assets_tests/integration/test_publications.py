"""Objects that are whole publications: the newest one is the table, in whatever order they arrive."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest

from assets_tests.support.kernel_lake import PROVENANCE, contract, lake_at, rows_of
from assets_tests.support.patience import PATIENCE_S
from lakehouse.derive.by_partition import partitions_as_of
from lakehouse.derive.by_publication import derive_by_publication
from lakehouse.derive.checks import conservation_holds, of_every_dataset, of_every_table
from lakehouse.derive.rebuild import rebuild
from lakehouse.derive.revisions import RevisionRule, winners
from lakehouse.derive.source import DerivedTable, Source, Winners
from lakehouse.ingest.dataset import Dataset, ObjectOrigin
from lakehouse.ingest.folder import Folder
from lakehouse.ingest.load import load
from lakehouse.ingest.names import Objects
from lakehouse.ingest.partitioning import Part, Periods
from lakehouse.ingest.reading import reading_digest
from lakehouse.ingest.row_format import RowFormat
from lakehouse.ingest.thresholds import Refusals
from lakehouse.lake.lake import Lake

MONTHS = [date(2024, month, 1) for month in (1, 2, 3)]
TEXTS = {
    MONTHS[0]: ("A,Alpha", "B,Beta", "C,Gamma"),
    MONTHS[1]: ("A,Alpha", "C,Gamma SE", ",nameless"),
    MONTHS[2]: ("A,Alpha", "D,Delta"),
}
_COLUMNS = """
  - {name: published_on, type: date, description: Day of the publication.}
  - {name: code, type: string, description: Code.}
  - {name: title, type: string, description: Title.}
"""
RAW = contract(f"""
table: raw_codes
description: Every publication.
key: [object, object_version, row_number]
partition_by: [published_on]
known_at: ingested_at
by_ledger: true
columns:{_COLUMNS.rstrip()}{PROVENANCE.rstrip()}
""")
CODES = contract(f"""
table: codes
description: The newest publication.
key: [code]
partition_by: [published_on]
columns:{_COLUMNS.rstrip()}
""")
RULE = RevisionRule(key=("code",), content=("title",), part="published_on", only_newest_publication=True)


def codes(source: Source, connection: object, raw: str, ledger: str) -> str:
    return f"SELECT published_on, code, title FROM ({winners(raw, ledger, RULE)})"


def source_at(folder: Path) -> Source:
    objects = Objects(pattern=r"codes-(?P<date>.*)\.csv", date_format="%Y-%m", holds="day")
    rows = RowFormat(format="csv", columns={"code": "code", "title": "title"})
    dataset = Dataset(
        source="registry",
        name="codes",
        description="Codes",
        table="registry/raw_codes",
        contract=RAW,
        rows=rows,
        origin=ObjectOrigin(lambda: Folder(folder), objects, (objects,)),
        partitioning=Periods("month", MONTHS[0]),
        partition_column="published_on",
        part=Part("published_on", "month"),
        times=lambda text: text.select(),
        reading=reading_digest(RAW, {"rows": rows.model_dump(mode="json")}),
        refusals=Refusals(),
    )
    made = DerivedTable(
        name="codes",
        description="The newest publication.",
        depends_on=("raw_codes",),
        derive=partial(derive_by_publication, "codes", "codes", codes),
        as_of=partial(partitions_as_of, "codes", codes),
        keeps=Winners("codes", RULE),
    )
    return Source(
        name="registry",
        kind="codes",
        contracts={"raw_codes": RAW, "codes": CODES},
        datasets=(dataset,),
        tables=(made,),
        checks=(*of_every_dataset(RAW, "codes"), *of_every_table(CODES), conservation_holds(made)),
    )


class Publisher:
    """A folder of publications, and the lake that takes them."""

    def __init__(self, folder: Path) -> None:
        self.feed = folder / "feed"
        self.feed.mkdir(parents=True)
        self.home = folder / "lake"
        self.source = source_at(self.feed)

    def lake(self, as_of: datetime | None = None) -> Lake:
        return lake_at(self.home, self.source, as_of=as_of)

    def publish(self, month: date, *rows: str) -> None:
        text = "".join(f"{line}\n" for line in ("code,title", *rows))
        (self.feed / f"codes-{month:%Y-%m}.csv").write_text(text)

    def take(self, *months: date) -> frozenset[date]:
        """Loads and derives some months; returns those that changed in the derived table."""
        lake = self.lake()
        load(lake, self.source.datasets[0], months)
        return self.source.tables[0].derive(lake, self.source, months).changed

    def current(self, as_of: datetime | None = None) -> list[tuple[object, ...]]:
        return rows_of(self.lake(as_of), "registry/codes", "published_on, code, title")

    def is_sound(self) -> bool:
        """Whether a rebuild would change nothing and every check but that of the refused rows passes."""
        assert not rebuild(self.lake(), self.source, verify=True).differs
        for month in MONTHS:
            by_month = {check.name: check.run(self.lake(), self.source, [month]) for check in self.source.checks}
            assert by_month["conservation"].passed
        findings = {check.name: check.run(self.lake(), self.source, None) for check in self.source.checks}
        return {name for name, finding in findings.items() if not finding.passed} <= {"few_rows_refused"}


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


THIRD = [(MONTHS[2], "A", "Alpha"), (MONTHS[2], "D", "Delta")]


def test_a_row_that_the_next_publication_lacks_is_gone(publisher: Publisher) -> None:
    publisher.publish(MONTHS[0], *TEXTS[MONTHS[0]])
    assert publisher.take(MONTHS[0]) == {MONTHS[0]}
    assert [row[1] for row in publisher.current()] == ["A", "B", "C"]
    publisher.publish(MONTHS[1], *TEXTS[MONTHS[1]])
    assert publisher.take(MONTHS[1]) == {MONTHS[0], MONTHS[1]}
    assert publisher.current() == [(MONTHS[1], "A", "Alpha"), (MONTHS[1], "C", "Gamma SE")]
    assert publisher.is_sound()
    counts = "session, received, kept, duplicates, superseded, quarantined"
    assert rows_of(publisher.lake(), "conservation", counts) == [(MONTHS[0], 3, 0, 1, 2, 0), (MONTHS[1], 3, 2, 0, 0, 1)]


@pytest.mark.parametrize("order", list(permutations(MONTHS)), ids=str)
def test_the_newest_wins_in_whatever_order_they_arrive(publisher: Publisher, order: tuple[date, ...]) -> None:
    for month in order:
        publisher.publish(month, *TEXTS[month])
        publisher.take(month)
    assert publisher.current() == THIRD
    assert publisher.is_sound()


def test_one_that_is_late_changes_nothing(publisher: Publisher) -> None:
    for month in (MONTHS[0], MONTHS[2]):
        publisher.publish(month, *TEXTS[month])
    publisher.take(MONTHS[0], MONTHS[2])
    version = publisher.lake().table("registry/codes").snapshot().version
    publisher.publish(MONTHS[1], *TEXTS[MONTHS[1]])
    assert publisher.take(MONTHS[1]) == frozenset()
    assert publisher.take(*MONTHS) == frozenset()
    assert publisher.lake().table("registry/codes").snapshot().version == version
    assert publisher.is_sound()


def test_a_corrected_one_replaces_its_own_and_earlier_states_stay(publisher: Publisher) -> None:
    for month in MONTHS:
        publisher.publish(month, *TEXTS[month])
    publisher.take(*MONTHS)
    before = datetime.now(UTC)
    publisher.publish(MONTHS[2], "A,Alpha AG", "E,Epsilon")
    assert publisher.take(MONTHS[2]) == {MONTHS[2]}
    assert publisher.current() == [(MONTHS[2], "A", "Alpha AG"), (MONTHS[2], "E", "Epsilon")]
    publisher.publish(MONTHS[1], "Z,corrected, though a newer one is there")
    assert publisher.take(MONTHS[1]) == frozenset()
    assert publisher.current(as_of=before) == THIRD
    assert publisher.is_sound()


def test_an_empty_one_says_that_there_is_nothing(publisher: Publisher) -> None:
    publisher.publish(MONTHS[0], *TEXTS[MONTHS[0]])
    publisher.take(MONTHS[0])
    publisher.publish(MONTHS[1])
    assert publisher.take(MONTHS[1]) == {MONTHS[0]}
    assert publisher.current() == []
    assert publisher.is_sound()


def test_one_that_cannot_be_read_leaves_the_one_before(publisher: Publisher) -> None:
    publisher.publish(MONTHS[0], *TEXTS[MONTHS[0]])
    publisher.take(MONTHS[0])
    (publisher.feed / "codes-2024-02.csv").write_text("something else\n1\n")
    assert publisher.take(MONTHS[1]) == frozenset()
    assert [row[1] for row in publisher.current()] == ["A", "B", "C"]


def test_two_runs_at_once_agree_on_the_newest(publisher: Publisher) -> None:
    """A derivation that has read the ledger before a newer publication was loaded commits after it, and looks again."""
    for month in MONTHS[:2]:
        publisher.publish(month, *TEXTS[month])
    table = publisher.source.tables[0]
    inside, go_on = threading.Event(), threading.Event()
    asked = []

    def slow(source: Source, connection: object, raw: str, ledger: str) -> str:
        asked.append(raw)
        if len(asked) == 1:
            inside.set()
            assert go_on.wait(PATIENCE_S)
        return codes(source, connection, raw, ledger)

    lake = publisher.lake()
    load(lake, publisher.source.datasets[0], MONTHS[:1])
    first = partial(derive_by_publication, "codes", "codes", slow, lake, publisher.source, MONTHS[:1])
    worker = threading.Thread(target=first)
    worker.start()
    assert inside.wait(PATIENCE_S)
    load(publisher.lake(), publisher.source.datasets[0], MONTHS[1:2])
    table.derive(publisher.lake(), publisher.source, MONTHS[1:2])
    go_on.set()
    worker.join(60)
    assert [row[1] for row in publisher.current()] == ["A", "C"]
    assert publisher.is_sound()
