"""One broken defs.yaml is named with its line, and leaves the other sources alone."""

from __future__ import annotations

import copy
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lakehouse.catalog import DEFS, _described, descriptions, kinds, warn_of
from lakehouse.cli.app import app
from lakehouse.errors import SourceError
from lakehouse.ingest.strict import _warn
from lakehouse.settings import PROJECT_ROOT, settings

BINANCE = (DEFS / "market" / "binance" / "defs.yaml").read_text()
LINE = next(number for number, line in enumerate(BINANCE.splitlines(), 1) if "first_session:" in line)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the defs folder."""
    return Path(shutil.copytree(PROJECT_ROOT / "lakehouse" / "defs", tmp_path / "defs"))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (BINANCE.replace("first_session:", "first_sesion:"), "first_session: Field required"),
        (BINANCE.replace("first_session: ", "first_session: soon #"), f"line {LINE}: first_session: Input should be"),
        (BINANCE.replace("first_session:", "  : : ["), f"line {LINE}: "),
        ("- a list\n- \xe9\n", "its type is missing; set it to lakehouse.components.MarketSource or"),
        (BINANCE.replace("MarketSource", "MarketSorce"), "its type is 'lakehouse.components.MarketSorce'; set it to"),
        (f"{BINANCE}\n---\n", "its type is missing"),
        ("type: lakehouse.components.MarketSource\n", "line 1: source: Field required"),
        (b"\xff\xfe\x00", "can't decode"),
        (
            BINANCE.replace("calendar: 24/7", "calendar: 24-7"),
            "calendar.code: '24-7' is not a calendar of exchange_calendars; use one of its codes, such as XETR, XNYS, "
            "CMES or 24/7; did you mean '24/7'?",
        ),
        (
            BINANCE.replace("time_zone: UTC", "time_zone: Europa/Berlin"),
            "venue.time_zone: 'Europa/Berlin' is not a time zone; use an IANA name such as Europe/Berlin, "
            "America/New_York or UTC; did you mean 'Europe/Berlin'",
        ),
        (
            BINANCE.replace("format: epoch, label", "format: epoch, zone: localtime, label"),
            "bars.time.zone: 'localtime' is not a time zone",
        ),
        (BINANCE.replace("pattern: ", "pattern: ("), "is not a regular expression: missing ), unterminated"),
        (BINANCE.replace("tags: {", "tags: {note: 'a b', "), "tags.note: String should match pattern"),
        (BINANCE.replace("owners: [", "owners: [me, "), "owners.0: String should match pattern"),
        ("", "its type is missing"),
        (
            BINANCE.replace("  calendar: 24/7\n", "  calendar: 24/7\n  calendar: XETR\n"),
            "line 11: the key 'calendar' stands here a second time",
        ),
        (BINANCE.replace("type: lakehouse.", "type: lakehuose."), "there is no module 'lakehuose.components'; install"),
        ("type: MarketSource\n", "its type is 'MarketSource', and there is no module ''"),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_the_others_go_on(
    broken: str | bytes, words: str, folder: Path
) -> None:
    path = folder / "market" / "binance" / "defs.yaml"
    path.write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    found_in = descriptions(folder)
    assert sorted(found_in.found) == sorted({*descriptions().found} - {"binance"})
    assert list(found_in.broken) == [path]
    with pytest.raises(SourceError) as found:
        found_in.require("binance", "source", found_in.found)
    assert str(path) in str(found.value)
    assert words in str(found.value)
    with pytest.raises(SourceError, match=r"no source 'xerta'.*did you mean 'xetra'"):
        found_in.require("xerta", "source", found_in.found)


def test_a_component_that_is_none_of_ours_is_left_to_dagster(folder: Path) -> None:
    path = folder / "market" / "binance" / "defs.yaml"
    path.write_text("type: dagster.DefsFolderComponent\n")
    assert sorted(descriptions(folder).found) == sorted({*descriptions().found} - {"binance"})
    assert descriptions(folder).broken == {}


def test_two_files_of_one_source_are_no_silence(folder: Path) -> None:
    path = folder / "market" / "second" / "defs.yaml"
    path.parent.mkdir()
    path.write_text(BINANCE)
    (error,) = descriptions(folder).broken.values()
    assert f"source 'binance' is described by {folder / 'market' / 'binance' / 'defs.yaml'}, too" in str(error)


@pytest.mark.parametrize("name", ["lake", "marts", "market", "feed", "calendar", "warehouse"])
def test_a_source_cannot_take_a_schema_of_the_lakes_own(folder: Path, name: str) -> None:
    path = folder / "market" / "binance" / "defs.yaml"
    path.write_text(BINANCE.replace("source: binance", f"source: {name}"))
    assert f"source '{name}' is a schema of the lake's own" in str(descriptions(folder).broken[path])


FORMER = [
    ("binance", "per_session", "holds"),
    ("alpha_vantage", "quota_words", "quota_patterns"),
    ("alpha_vantage", "refusals", "error_members"),
    ("iex", "tries", "max_attempts"),
    ("iex", "every_s", "poll_interval_s"),
]


@pytest.mark.parametrize(("source", "former", "present"), FORMER)
def test_a_former_name_of_an_entry_is_read_with_a_warning(
    source: str, former: str, present: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "market" / source / "defs.yaml"
    path.parent.mkdir(exist_ok=True)
    written = (DEFS / "market" / source / "defs.yaml").read_text()
    path.write_text(written.replace(f"{present}:", f"{former}:"))
    assert path.read_text() != written
    _warn.cache_clear()
    assert descriptions(folder).found[source] == descriptions().found[source]
    assert f"the entry `{former}` of a defs.yaml is called `{present}` now" in caplog.text


ODD_VALUES = ["", "(", "%Q", "a\nb", "\N{SNOWMAN}", "99:99", -1, 10**30, None, [], {}, [None], "2099-01-01", math.nan]


def _leaves(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, below in entries:
        yield (*place, key)
        yield from _leaves(below, (*place, key))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["alpha_vantage", "binance", "iex", "xetra"])
def test_no_odd_value_of_an_entry_stops_more_than_its_own_source(source: str, tmp_path: Path) -> None:
    """Whatever stands in an entry: the file is read, or is listed as broken with its path."""
    path = tmp_path / source / "defs.yaml"
    path.parent.mkdir()
    written = yaml.safe_load((DEFS / "market" / source / "defs.yaml").read_text())
    chosen = random.Random(source)
    for place in _leaves(written["attributes"]):
        document = copy.deepcopy(written)
        node = document["attributes"]
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = chosen.choice(ODD_VALUES)
        path.write_text(yaml.safe_dump(document))
        _described.cache_clear()
        found = descriptions(tmp_path)
        assert len(found.found) + len(found.broken) == 1
        assert all(str(error).startswith(str(path)) for error in found.broken.values())
        for _, described in found.found.values():
            kind = kinds()["feed" if source == "iex" else "market"]
            assert kind.resolve(described, settings()).name == described.source


def test_status_names_the_broken_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = SourceError("defs.yaml, line 7: first_session: Field required")
    monkeypatch.setattr("lakehouse.catalog.broken_files", lambda: {folder: error})
    warn_of.cache_clear()
    result = CliRunner().invoke(app, ["status"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    assert caplog.text.count(str(error)) == 1
    assert "xetra" in result.output


def test_a_file_named_by_an_error_is_not_warned_of_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "market" / "binance" / "defs.yaml"
    path.write_text(BINANCE.replace("calendar: 24/7", "calendar: 24-7"))
    monkeypatch.setattr("lakehouse.catalog.DEFS", folder)
    warn_of.cache_clear()
    result = CliRunner().invoke(app, ["rebuild", "binance"])
    assert result.exit_code == 2
    assert "'24-7' is not a calendar" in result.output
    assert "24-7" not in caplog.text
    result = CliRunner().invoke(app, ["sql", "SELECT 1"])
    assert result.exit_code == 0
    assert "24-7" not in result.output
