"""Sources are made once of the same settings, and again when one that they were made of changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.catalog import described_source, feed_named, source_named
from lakehouse.errors import SourceError
from lakehouse.ingest.noted import Remembered
from lakehouse.ingest.variables import Variables
from lakehouse.settings import Settings, settings


def test_of__makes_anew_what_was_made_of_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(variables: Variables) -> Callable[[], str | None]:
        made.append(f"{variables.source_variable('xetra', 'url')} {variables.secret('A_KEY')}")
        return lambda: variables.source_variable("xetra", "later")

    def look() -> Callable[[], str | None]:
        return remembered.of(make, Settings())

    remembered: Remembered[Callable[[], str | None]] = Remembered()
    first = look()
    assert look() is first
    monkeypatch.setenv("LAKEHOUSE_XETRA_URL", "there")
    assert look() is not first
    monkeypatch.setenv("A_KEY", "secret")
    second = look()
    assert look() is second
    assert made == ["None None", "there None", "there secret"]
    # What is looked up when it is used is no part of what was made, and never an old value.
    monkeypatch.setenv("LAKEHOUSE_XETRA_LATER", "now")
    assert (second(), look()) == ("now", second)
    assert "secret" not in repr(vars(remembered))


def test_of__remembers_both_of_two_settings_in_turns(tmp_path: Path) -> None:
    """A publication looks at the lake by settings of its own; each time, every source was made again."""
    remembered: Remembered[object] = Remembered()
    homes = [Settings(home=tmp_path / name) for name in ("one", "two")]
    first, second = (remembered.of(lambda _: object(), each) for each in homes)
    assert first is not second
    assert [remembered.of(lambda _: object(), each) for each in homes] == [first, second]


def test_of__makes_nothing_of_what_failed() -> None:
    remembered: Remembered[int] = Remembered()

    def fails(_: Variables) -> int:
        raise SourceError("faulty")

    with pytest.raises(SourceError):
        remembered.of(fails, settings())
    assert remembered.of(lambda _: 1, settings()) == 1


def test_sources__are_those_of_the_present_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = source_named("xetra")
    assert source_named("xetra") is first
    assert described_source("xetra") is first
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "other"))
    settings.cache_clear()
    assert source_named("xetra").report_url == str(tmp_path / "other" / "reports" / "xetra")
    monkeypatch.setenv("IEX_TOKEN", "one")
    assert feed_named("iex").endpoint.key == "one"
    monkeypatch.setenv("IEX_TOKEN", "other")
    assert feed_named("iex").endpoint.key == "other"
