"""Golden copies and mappings by the publisher's indexes on loopback, taken as from a folder."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assets_tests.support.reference_lake import failed_checks, rows, take
from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.errors import ObjectUnreadable, SourceUnavailable
from lakehouse.ingest.dataset import ObjectOrigin
from lakehouse.ingest.object_source import ObjectSource
from lakehouse.local_dagster.update import news
from lakehouse.simulators.gleif import Gleif, as_html, doubled, isin_of, lei_of, renamed, truncated
from lakehouse.simulators.gleif_server import GleifServer

START = datetime(2024, 10, 28, tzinfo=UTC)
MOMENTS = [START + timedelta(hours=8 * number) for number in range(6)]


@pytest.fixture
def gleif(tmp_path: Path) -> Gleif:
    publisher = Gleif(tmp_path / "published")
    publisher.grow(20, START - timedelta(days=30), random.Random(1))
    publisher.tick(MOMENTS[0])
    return publisher


@pytest.fixture
def server(gleif: Gleif, own_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[GleifServer]:
    with GleifServer(gleif, per_page=2) as server:
        monkeypatch.setenv("LAKEHOUSE_GLEIF_URL", server.url)
        monkeypatch.setenv("LAKEHOUSE_GLEIF_MAPPINGS_URL", server.mappings_url)
        yield server


def publish(gleif: Gleif, number: int) -> list[Path]:
    """Changes something, and publishes the whole and the changes of the last publication and of the last day."""
    moment = MOMENTS[number]
    gleif.put_entity(2, f"Second {number} AG", moment)
    if number == 2:
        del gleif.rows["lei2"][lei_of(5),]
    gleif.tick(moment)
    changes = gleif.publish_delta(moment, MOMENTS[number - 1])
    if number >= 3:
        changes += gleif.publish_delta(moment, MOMENTS[number - 3], "last-day")
    return [*gleif.publish_full(moment), *changes]


def now() -> list[tuple[object, ...]]:
    return rows("SELECT lei, legal_name FROM gleif.lei ORDER BY ALL")


def truth(gleif: Gleif, number: int) -> list[tuple[object, ...]]:
    found = gleif.states[MOMENTS[number]]["lei2"].values()
    return sorted((row["LEI"], row["Entity.LegalName"]) for row in found)


def entities() -> ObjectSource:
    """The place of the files of entities."""
    dataset = described_source("gleif").dataset("entities")
    assert isinstance(dataset.origin, ObjectOrigin)
    assert dataset.origin.in_lake is not None
    return dataset.origin.in_lake(Lake.open())


def kinds() -> list[str]:
    """The kinds of files that entities were taken from, oldest first."""
    loaded = rows("SELECT object FROM lake.ingest_ledger WHERE product = 'entities' AND status <> 'failed' ORDER BY 1")
    return [name.rpartition("lei2-")[2].removesuffix(".csv.zip") for (name,) in loaded]


def test_the_newest_whole_file_is_taken_first_and_then_the_changes(gleif: Gleif, server: GleifServer) -> None:
    gleif.publish_full(MOMENTS[0])
    publish(gleif, 1)
    take("gleif")
    assert kinds() == ["golden-copy"]
    assert now() == truth(gleif, 1)
    assert take("gleif") == {}
    for number in (2, 3):
        publish(gleif, number)
    # A run that was killed may have landed the later file only.
    newest = entities().list().objects.sort("name").rows(named=True)[-1]
    entities().fetch(newest["path"], newest["tag"]).close()
    take("gleif")
    assert kinds() == ["golden-copy", "intra-day", "intra-day"]
    assert now() == truth(gleif, 3)
    assert rows("SELECT count(DISTINCT known_from) FROM gleif.entities WHERE lei = '" + lei_of(2) + "'") == [(3,)]
    assert failed_checks("gleif") == set()
    downloads = [path for path in server.requests if path.startswith("/storage")]
    assert len(downloads) == len(set(downloads)) == 3 * 3


def test_a_gap_takes_the_shortest_changes_that_reach_back_or_else_the_whole_file(
    gleif: Gleif, server: GleifServer
) -> None:
    gleif.publish_full(MOMENTS[0])
    take("gleif")
    for number in (1, 2, 3):
        written = publish(gleif, number)
        if number < 3:
            for path in written:
                path.unlink()
    for path in gleif.folder.glob("*-lei2-intra-day*"):
        path.unlink()
    take("gleif")
    assert kinds() == ["golden-copy", "last-day"]
    assert now() == truth(gleif, 3)
    for number in (4, 5):
        publish(gleif, number)
    for path in gleif.folder.glob("*-lei2-*-day.csv.zip"):
        if f"{MOMENTS[3]:%Y%m%d-%H%M}" not in path.name:
            path.unlink()
    take("gleif")
    assert kinds() == ["golden-copy", "last-day", "golden-copy"]
    assert now() == truth(gleif, 5)
    assert failed_checks("gleif") == set()


def test_a_broken_file_fails_with_its_reason_and_the_next_changes_reach_around_it(
    gleif: Gleif, server: GleifServer
) -> None:
    gleif.publish_full(MOMENTS[0])
    take("gleif")
    for number in (1, 2):
        publish(gleif, number)
    folder, at = gleif.folder, f"{MOMENTS[2]:%Y%m%d-%H%M}-gleif-goldencopy"
    renamed(folder / f"{at}-lei2-intra-day.csv.zip", "Entity.LegalName", "Entity.Name")
    truncated(folder / f"{at}-rr-intra-day.csv.zip")
    as_html(folder / f"{at}-repex-intra-day.csv.zip")
    errors = {name: "; ".join(result.errors.values()) for name, result in take("gleif").items()}
    assert "lacks the column Entity.LegalName" in errors["entities"]
    assert "cut or damaged zip" in errors["relationships"]
    assert "HTML" in errors["exceptions"]
    assert now() == truth(gleif, 1)
    publish(gleif, 3)
    take("gleif")
    assert kinds() == ["golden-copy", "intra-day", "last-day"]
    assert now() == truth(gleif, 3)
    assert failed_checks("gleif") <= {"objects_readable"}
    doubled(folder / f"{at}-lei2-intra-day.csv.zip")
    assert "holds 2 files where one CSV is expected" in "".join(take("gleif")["entities"].errors.values())


def test_a_busy_server_is_waited_for_and_an_error_page_is_no_index(gleif: Gleif, server: GleifServer) -> None:
    gleif.publish_full(MOMENTS[0])
    server.faults.extend(["too many", "server error"])
    (item,) = entities().list().objects.iter_rows(named=True)
    server.faults.append("missing")
    with pytest.raises(SourceUnavailable, match="status 404; check that this is the publisher's address"):
        entities().list()
    server.faults.append("html")
    with pytest.raises(SourceUnavailable, match="a web page where a JSON document is expected"):
        entities().list()
    # An error page in place of a file is not kept; the file is, so that it is downloaded once.
    asked = len(server.requests)
    server.faults.append("html")
    assert entities().fetch(item["path"], item["tag"]).read(1) == b"<"
    entities().fetch(item["path"], item["tag"]).close()
    entities().fetch(item["path"], item["tag"]).close()
    assert len(server.requests) == asked + 2


def test_a_file_that_the_server_lost_fails_and_the_others_go_on(gleif: Gleif, server: GleifServer) -> None:
    lei2, _, _ = gleif.publish_full(MOMENTS[0])
    (item,) = entities().list().objects.iter_rows(named=True)
    lei2.unlink()
    with pytest.raises(ObjectUnreadable, match="status 404; the next load tries again"):
        entities().fetch(item["path"], item["tag"])


def test_mappings_of_the_newest_day_are_taken(gleif: Gleif, server: GleifServer) -> None:
    gleif.publish_pairs("isin", MOMENTS[0])
    gleif.publish_pairs("bic", MOMENTS[0])
    assert len(news(described_source("gleif"))) == 1
    take("gleif")
    gleif.pairs["isin"] -= {(isin_of(7), lei_of(7))}
    gleif.publish_pairs("isin", MOMENTS[3])
    taken = take("gleif")
    assert set(taken) == {"isins"}
    # The pair that vanished counts as a row.
    assert taken["isins"].rows_received == 19 + 1
    assert {*rows("SELECT isin, lei FROM reference.lei_isin")} == gleif.pairs["isin"]
    assert {*rows("SELECT bic, lei FROM reference.lei_bic")} == gleif.pairs["bic"]
    assert rows("SELECT DISTINCT object FROM gleif.raw_bics") == [(f"LEI-BIC-{MOMENTS[0]:%Y%m%d}.zip",)]
