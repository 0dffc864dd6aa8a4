"""The marts of an empty lake, from which first publications start: made once for all homes of a clone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import pytest

from lakehouse.api import Lake
from lakehouse.catalog import described_source
from lakehouse.domains.market.model_reach import REFERENCE_DATA
from lakehouse.ingest.load import load
from lakehouse.settings import Settings, settings
from lakehouse.simulators.market_register import MarketRegister
from lakehouse.warehouse import build as building
from lakehouse.warehouse import empty_marts as keeping
from lakehouse.warehouse.empty_marts import empty_marts
from lakehouse.warehouse.publish import differing_marts, publish

PUBLISHED_ON = date(2024, 2, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the marts of an empty lake are kept."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(keeping, "beside_manifest", lambda config, name: folder / name)
        settings.cache_clear()
        assert empty_marts(settings()) is not None
    settings.cache_clear()
    return folder


@pytest.fixture
def kept(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it for one test, in place of that of this clone."""
    folder = Path(shutil.copytree(made, tmp_path / "kept"))
    monkeypatch.setattr(keeping, "beside_manifest", lambda config, name: folder / name)
    return folder


@pytest.fixture
def models_run(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The arguments of each command of dbt."""
    commands: list[Sequence[str]] = []
    run = building.run_dbt

    def noted(arguments: Sequence[str], config: Settings, *how: object) -> list[str]:
        commands.append(arguments)
        return run(arguments, config, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(building, "run_dbt", noted)
    return commands


def load_register(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads a register with one market into the lake."""
    register = MarketRegister(home / "register")
    register.add("XETR", PUBLISHED_ON, name="XETRA")
    register.publish(PUBLISHED_ON)
    register.write(PUBLISHED_ON)
    monkeypatch.setenv("LAKEHOUSE_MIC_URL", str(home / "register"))
    settings.cache_clear()
    lake, source = Lake.present(), described_source("mic")
    for dataset in source.datasets:
        load(lake, dataset, [PUBLISHED_ON])
    for table in source.tables:
        table.derive(lake, source, [PUBLISHED_ON])


def test_an_empty_home_publishes_what_was_kept_without_dbt(kept: Path, models_run: list[Sequence[str]]) -> None:
    publish(settings())

    assert models_run == []
    (file,) = kept.glob("*.duckdb")
    assert settings().warehouse.read_bytes() == file.read_bytes()
    assert differing_marts(settings()) == []


def test_a_first_publication_builds_what_the_lake_has_rows_for(
    kept: Path, models_run: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_register(settings().home, monkeypatch)
    before = (next(kept.glob("*.duckdb"))).read_bytes()
    publish(settings())

    (command,) = models_run
    assert command[command.index("--select") + 1 :] == REFERENCE_DATA.models
    assert differing_marts(settings()) == []
    assert next(kept.glob("*.duckdb")).read_bytes() == before


def test_a_full_refresh_builds_from_nothing(kept: Path, models_run: list[Sequence[str]]) -> None:
    publish(settings(), full_refresh=True)
    (command,) = models_run
    assert "fqn:lakehouse.marts.market" in command


def test_a_damaged_publication_of_an_empty_lake_is_replaced(kept: Path) -> None:
    settings().home.mkdir(parents=True)
    settings().warehouse.write_bytes(b"no DuckDB file")
    publish(settings())
    assert settings().warehouse.read_bytes() == next(kept.glob("*.duckdb")).read_bytes()


def test_other_recipes_are_made_again_and_few_are_kept(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (present,) = kept.glob("*.duckdb")
    monkeypatch.setattr(keeping, "build", lambda *what: [])
    for number in range(6):
        monkeypatch.setattr(keeping, "recipe_of", lambda part, config, number=number: f"recipe {number}")
        assert empty_marts(settings()) is not None
    assert len(list(kept.glob("*.duckdb"))) == 4
    assert not present.exists()


def test_models_that_fail_on_nothing_are_left_to_the_publication(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (present,) = kept.glob("*.duckdb")
    present.unlink()
    monkeypatch.setattr(keeping, "build", lambda *what: ["dim_market: broken"])
    assert empty_marts(settings()) is None
    assert not list(kept.glob("*.duckdb"))


def test_sources_of_ones_own_have_marts_from_nothing(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "defs").mkdir()
    monkeypatch.setenv("LAKEHOUSE_DEFS", str(tmp_path / "defs"))
    settings.cache_clear()
    assert empty_marts(settings()) is None


def test_a_folder_that_cant_be_written_is_done_without(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (present,) = kept.glob("*.duckdb")
    present.unlink()
    monkeypatch.setattr(keeping, "beside_manifest", lambda config, name: kept / "file" / name)
    (kept / "file").write_text("in the way")
    assert empty_marts(settings()) is None
