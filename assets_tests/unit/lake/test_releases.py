"""Releases pin what readers see; the present goes on, and can be made what it was."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.errors import LakeUnavailable, ReleaseError
from lakehouse.lake.maintenance import maintain
from lakehouse.lake.releases import changes, release_log, release_named, releases, restore_tables
from lakehouse.settings import Settings, settings
from lakehouse.warehouse import releases as warehouse
from lakehouse.warehouse.publish import publication, publishing
from lakehouse.warehouse.releases import create, drop, use

DAY = datetime(2024, 3, 1, 12, tzinfo=UTC)
ERRORS = "iex/poll_errors"


def load(symbol: str) -> None:
    """A load of one row, as any load works."""
    table = Lake.present().table(ERRORS)
    row = {"symbol": symbol, "slot_at": DAY, "attempt": 1, "day": date(2024, 3, 1), "kind": "quota", "error": "429"}
    rows = pa.Table.from_pylist([{**row, "occurred_at": DAY}], schema=table.contract.arrow_schema)
    table.snapshot().append(rows, [symbol])


def publish(price: int) -> None:
    with publication(settings()) as build, duckdb.connect(str(build)) as connection:
        connection.execute(f"CREATE SCHEMA marts; CREATE TABLE marts.prices AS SELECT {price} AS price")


def symbols(lake: Lake | None = None) -> list[str]:
    """What readers see by SQL, which is what they see of the table itself."""
    opened = lake or Lake.open()
    found = opened.sql("SELECT symbol FROM iex.poll_errors ORDER BY ALL")
    assert found is not None
    read = [symbol for (symbol,) in found.fetchall()]
    assert sorted(opened.table(ERRORS).to_polars()["symbol"]) == read
    return read


def price() -> int:
    """What readers see by SQL, which is what they see of the file."""
    found = Lake.open().sql("SELECT price FROM marts.prices")
    assert found is not None
    read = found.fetchall()
    with duckdb.connect(str(settings().warehouse), read_only=True) as connection:
        assert connection.execute("SELECT price FROM marts.prices").fetchall() == read
    return read[0][0]


def said(*arguments: str, code: int = 0, answer: str | None = None) -> str:
    ended = CliRunner().invoke(app, ["release", *arguments], input=answer)
    assert ended.exit_code == code, ended.output
    return " ".join(ended.output.split())


@pytest.fixture
def released() -> str:
    """A release of one row and the price 1; then one more row, which is bad, and the price 2."""
    load("GOOD")
    publish(1)
    create(settings(), "before")
    load("BAD")
    publish(2)
    return "before"


def test_use__serves_tables_and_marts_while_the_present_goes_on(released: str) -> None:
    assert (symbols(), price()) == (["BAD", "GOOD"], 2)
    use(settings(), released)
    assert (symbols(), price()) == (["GOOD"], 1)
    load("LATER")
    publish(3)
    assert (symbols(), price()) == (["GOOD"], 1)
    assert symbols(Lake.present()) == ["BAD", "GOOD", "LATER"]
    assert "release in use: before" in CliRunner().invoke(app, ["status"]).output
    use(settings(), "latest")
    assert (symbols(), price()) == (["BAD", "GOOD", "LATER"], 3)
    assert not (settings().home / "releases" / "latest.duckdb").exists()


def test_use__changes_from_one_release_to_another(released: str) -> None:
    create(settings(), "after")
    for name, seen in ((released, 1), ("after", 2), ("after", 2), (released, 1), ("latest", 2), ("latest", 2)):
        use(settings(), name)
        assert price() == seen
        assert len(symbols()) == seen


def test_a_release_is_served_and_not_written(released: str) -> None:
    use(settings(), released)
    with pytest.raises(LakeUnavailable, match=r"which is read-only; open the lake by Lake\.present\(\)"):
        Lake.open().table(ERRORS).snapshot().delete("true")


def test_tables_and_marts_written_since_are_not_in_a_release() -> None:
    load("GOOD")
    create(settings(), "first")
    publish(1)
    table = Lake.present().table("skipped_objects")
    row = {"source": "iex", "reason": "not listed", "objects": 1, "examples": ["x"], "seen_at": DAY}
    table.snapshot().append(pa.Table.from_pylist([row], schema=table.contract.arrow_schema), [])
    use(settings(), "first")
    assert Lake.open().table("skipped_objects").to_polars().height == 0
    assert not settings().warehouse.exists()
    with pytest.raises(duckdb.CatalogException, match="No marts are published yet"):
        Lake.open().sql("FROM marts.prices")
    use(settings(), "latest")
    assert price() == 1
    restore_tables(Lake.present(), release_named(Lake.present(), "first"))
    assert Lake.present().table("skipped_objects").to_polars().height == 0


def test_restore__undoes_what_came_later_by_new_commits(released: str) -> None:
    lake = Lake.present()
    release, version = release_named(lake, released), lake.table(ERRORS).snapshot().version
    (change,) = changes(lake, release)
    assert (change.path, change.rows_now, change.rows_then) == (ERRORS, 2, 1)
    restore_tables(lake, release)
    assert symbols() == ["GOOD"]
    assert changes(lake, release) == []
    assert (lake.table(ERRORS).snapshot().version or 0) > (version or 0)
    assert sorted(lake.table(ERRORS).at(version=version).scan().collect()["symbol"]) == ["BAD", "GOOD"]
    # Once more it has nothing to do; loads go on.
    restored = lake.table(ERRORS).snapshot().version
    restore_tables(lake, release)
    assert lake.table(ERRORS).snapshot().version == restored
    load("NEXT")
    assert symbols() == ["GOOD", "NEXT"]


def test_restore__says_what_it_undoes_and_asks(released: str) -> None:
    undone = said("restore", released, code=1, answer="n\n")
    assert "Returning to release before, made " in undone
    assert "iex/poll_errors: 1 commit, 2 rows become 1" in undone
    assert undone.endswith("Nothing was changed.")
    assert symbols() == ["BAD", "GOOD"]


def age(lake: Lake) -> None:
    """Months go by: of every file of the lake, data and log."""
    long_ago = time.time() - 200 * 24 * 3600
    for path in Path(lake.uri).rglob("*"):
        if path.is_file():
            os.utime(path, (long_ago, long_ago))


def test_maintain__keeps_what_a_release_pins_for_months(released: str) -> None:
    """Compaction and a vacuum would take the files of a release, and a checkpoint the log that names them."""
    lake = Lake.present()
    delta = lake.table(ERRORS).snapshot().delta
    assert delta is not None
    delta.alter.set_table_properties({"delta.checkpointInterval": "5"})
    maintain(lake, settings())
    # With each checkpoint Delta would clean up the log.
    for number in range(12):
        age(lake)
        load(f"S{number}")
    age(lake)
    maintain(lake, settings(), retention_hours=0)
    use(settings(), released)
    assert symbols() == ["GOOD"]
    use(settings(), "latest")
    drop(settings(), released)
    before = len(list(Path(lake.uri, ERRORS).rglob("part-*.parquet")))
    maintain(lake, settings(), retention_hours=0)
    assert len(list(Path(lake.uri, ERRORS).rglob("part-*.parquet"))) < before
    assert len(symbols()) == 14


def test_maintain__of_a_release_that_another_housekeeping_had_not_seen_keeps_its_log(released: str) -> None:
    lake = Lake.present()
    release_log(lake.table(ERRORS))
    maintain(lake, settings())
    delta = lake.table(ERRORS).snapshot().delta
    assert delta is not None
    assert delta.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"


def test_create__cut_off_before_its_last_write_leaves_no_release(
    released: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marts are kept first; they go with the next release."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(warehouse, "record_release", killed)
        with pytest.raises(KeyboardInterrupt):
            create(settings(), "cut")
    folder = settings().home / "releases"
    assert len(list(folder.glob("cut-*"))) == 1
    assert [release.name for release in releases(Lake.present())] == [released]
    create(settings(), "cut")
    assert len(list(folder.glob("cut-*"))) == 1
    use(settings(), "cut")
    assert price() == 2


@pytest.mark.parametrize("step", ["set_in_use", "_serve", "replace_marts"])
def test_use__cut_off_anywhere_is_completed_by_another(
    released: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    def cut_off(name: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(warehouse, step, killed)
            with pytest.raises(KeyboardInterrupt):
                use(settings(), name)

    def consistent(lake: Lake) -> tuple[int, int]:
        found = lake.sql("SELECT price FROM marts.prices")
        assert found is not None
        return len(symbols(lake)), found.fetchall()[0][0]

    cut_off(released)
    assert consistent(Lake.open()) in {(1, 1), (2, 2)}
    use(settings(), released)
    assert (symbols(), price()) == (["GOOD"], 1)
    cut_off("latest")
    assert consistent(Lake.open()) in {(1, 1), (2, 2)}
    use(settings(), "latest")
    assert (symbols(), price()) == (["BAD", "GOOD"], 2)


def test_create__of_two_with_one_name_at_once_one_succeeds(released: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked at the names before either writes."""
    from lakehouse.lake import releases as kernel

    settled: Callable[[Lake], dict[str, int]] = kernel._settled_versions
    made = []

    def meanwhile(lake: Lake) -> dict[str, int]:
        versions = settled(lake)
        if not made:
            made.append("other")
            kernel.record_release(Lake.present(), "twice", None)
        return versions

    monkeypatch.setattr(kernel, "_settled_versions", meanwhile)
    with pytest.raises(ReleaseError, match="there is a release twice already"):
        create(settings(), "twice")
    assert [release.name for release in releases(Lake.present())] == [released, "twice"]
    assert not list((settings().home / "releases").glob("twice-*"))


def test_the_command_line_names_the_cause_and_the_fix(released: str) -> None:
    assert said("create", released, code=2).endswith("release before already; choose another name, or drop it first")
    assert "'latest' can't be the name of a release" in said("create", "latest", code=2)
    assert "'../x' can't be the name of a release" in said("create", "../x", code=2)
    assert said("use", "befor", code=2).endswith("it has before; did you mean 'before'?")
    assert said("use", released) == "Readers are served release before."
    assert "readers are served release before: run `lakehouse release use latest` first" in said(
        "drop", released, code=2
    )
    assert "before" in said("list")
    assert said("list").endswith("in use")
    assert said("use", "latest") == "Readers are served the present."
    assert said("drop", released) == "Dropped release before."
    assert said("list") == "There are no releases."
    assert not list((settings().home / "releases").glob("*.duckdb"))


def test_a_lake_without_rows_has_no_release() -> None:
    with pytest.raises(ReleaseError, match="is empty; a release keeps what has been loaded"):
        create(settings(), "none")


def test_use_and_drop_that_wait_for_a_publication_do_not_both_succeed(released: str) -> None:
    """Both had looked before they waited: readers were served a release that was gone, and no marts."""
    done: list[str] = []

    def attempt(work: Callable[[Settings, str], None]) -> None:
        with suppress(ReleaseError):
            work(settings(), released)
            done.append(work.__name__)

    with publishing(settings()):
        waiting = [threading.Thread(target=attempt, args=(work,)) for work in (use, drop)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join(timeout=0.5)
        assert done == []
    for thread in waiting:
        thread.join()
    assert len(done) == 1
    assert price() == (1 if done == ["use"] else 2)
    use(settings(), "latest")
    assert price() == 2
