"""Analyses on invented prices in the lake: what they compute, what is stored, and the limits of a run."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assets_tests.support.four_tasks import ROWS, TASKS
from assets_tests.support.wiki_lake import load_prices, write_invented
from lakehouse.analyses import store
from lakehouse.analyses.code import source_hash
from lakehouse.analyses.limited import Limits
from lakehouse.analyses.spec import AnalysisError, definition_of
from lakehouse.analyses.values import fingerprint
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.settings import settings

START, END = date(2007, 3, 1), date(2008, 2, 29)
PERIOD = {"ticker": "AAA", "start": str(START), "end": str(END)}


@pytest.fixture
def closes(own_environment: None, tmp_path: Path) -> list[tuple[date, float]]:
    write_invented(tmp_path / "prices", "BBB")
    return write_invented(tmp_path / "prices", "AAA")


@pytest.fixture
def lake(closes: list[tuple[date, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    return load_prices(tmp_path / "prices", monkeypatch)


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["analyses", *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def crossover(values: list[float]) -> list[int | None]:
    """The sign of the difference of the averages of 15 and of 50 values, a value later."""
    signs: list[int | None] = []
    for end in range(1, len(values) + 1):
        if end < 50:
            signs.append(None)
            continue
        short, long = sum(values[end - 15 : end]) / 15, sum(values[end - 50 : end]) / 50
        signs.append(0 if abs(short - long) <= 1e-9 * long else 1 if short > long else -1)
    return [None, *signs[:-1]]


def test_run__by_command_and_from_python_gives_the_same_as_an_independent_computation(
    lake: Lake, closes: list[tuple[date, float]]
) -> None:
    sets = [part for key, value in PERIOD.items() for part in ("--set", f"{key}={value}")]
    assert " of sma_crossover took " in run("run", "sma_crossover", *sets)
    rows = list(csv.DictReader(io.StringIO(run("results", "sma_crossover", "crossSMA", "--format", "csv"))))
    period = [(day, close) for day, close in closes if START <= day <= END]
    signs = crossover([close for _, close in period])
    assert [(row["date"], row["value"]) for row in rows] == [
        (str(day), "" if sign is None else f"{sign}.0") for (day, _), sign in zip(period, signs, strict=True)
    ]
    by_command = lake.analyses.runs("sma_crossover")[-1]
    from_python = lake.analyses.run("sma_crossover", PERIOD).run
    assert list(from_python.outputs) == [
        *("data", "dates", "price", "datesSliced", "priceSliced", "longSMA", "shortSMA", "crossSMA", "fig"),
    ]
    assert from_python.fingerprints == by_command.fingerprints
    assert from_python.result_id == by_command.result_id
    assert from_python.run_id != by_command.run_id

    def count(query: str) -> int:
        found = lake.sql(query)
        assert found is not None
        return int(found.fetchall()[0][0])

    # Equal results and definitions are stored once; another ticker's are others.
    assert count("SELECT count(*) FROM analyses.results WHERE key = 'crossSMA'") == len(period)
    assert count("SELECT count(*) FROM analyses.definitions") == 8
    other = lake.analyses.run("sma_crossover", PERIOD | {"ticker": "BBB"}).run
    assert other.result_id != from_python.result_id
    assert count("SELECT count(*) FROM analyses.runs WHERE status = 'done'") == 3
    assert count("SELECT count(*) FROM analyses.results WHERE key = 'crossSMA'") == 2 * len(period)


def test_run__ends_what_takes_too_long_or_too_much_memory(lake: Lake) -> None:
    analyses = lake.analyses.with_tasks(TASKS)
    for_ever = definition_of("for_ever", [[0, "four.for_ever", [], {}, "a"]])
    with pytest.raises(AnalysisError, match="took more than 2 s and was ended"):
        analyses.run(for_ever, limits=Limits(seconds=2))
    (failed,) = lake.analyses.runs("for_ever")
    assert (failed.status, failed.result_id, "took more than 2 s" in str(failed.error)) == ("failed", None, True)
    if sys.platform != "linux":
        pytest.skip("memory is limited on Linux")
    hoard = definition_of("hoard", [[0, "four.hoard", [], {}, "a"]])
    with pytest.raises(AnalysisError, match="took more than 100 MB of memory"):
        analyses.run(hoard, limits=Limits(megabytes=100))


def test_run__stores_a_failure_and_says_what_is_missing(lake: Lake) -> None:
    with pytest.raises(AnalysisError, match=r"row 1: series\.load failed: .*no rows with symbol 'ZZZ'"):
        lake.analyses.run("test_period", {"ticker": "ZZZ"})
    assert [each.status for each in lake.analyses.runs("test_period")] == ["failed"]
    with pytest.raises(AnalysisError, match="has no results yet; run it by"):
        lake.analyses.results("test_period", "price")
    assert "has no input 'tiker'; did you mean 'ticker'?" in run("run", "test_period", "--set", "tiker=A", code=2)
    assert "no analysis is called 'sma'" in run("run", "sma", code=2)


def test_check__names_all_faults_of_a_file(own_environment: None, tmp_path: Path) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text("- {order: 0, funcPath: os.system, inputKeys: a, outputKeys: b}\n- {order: 1, funcPath: ta.sma}\n")
    text = run("check", str(file), code=2)
    assert "4 faults, and nothing was run" in text
    for words in ("row 1, funcPath: no function is registered as 'os.system'", "row 2, inputKeys: ta.sma: expected=1"):
        assert words in text
    file.write_text("- {order: 0, funcPath: ta.sma, inputKeys: a, kwargs: {window: 5}, outputKeys: b}\n")
    assert "row 1, inputKeys: nothing gives key 'a'; give it as an input" in run("check", str(file), code=2)
    assert "rows has no faults: 1 tasks" in run("check", str(file), "--set", "a=1")
    assert "ta.sma@1" in run("functions")
    definition = definition_of("odd", [[0, "ta.sma", "a", {"window": 5}, "b"]], {"a": "[bold]x"}, description="[red]y")
    Lake.present().analyses.add(definition)
    assert "[red]y" in run("list")
    assert "a=[bold]x" in run("show", "odd")


def test_definitions__come_back_from_the_lake_with_the_same_version(lake: Lake) -> None:
    analyses = lake.analyses.with_tasks(TASKS)
    definition = definition_of("four", ROWS, {"unused": 1}, description="four tasks", author="me")
    assert analyses.add(definition)
    assert not analyses.add(definition)
    assert analyses.get("four") == definition
    assert analyses.get(f"four@{definition.version[:8]}").rows == definition.rows
    changed = definition_of("four", [*ROWS, [9, "four.f", [], {}, "late"]])
    assert analyses.add(changed)
    assert analyses.get("four") == changed
    assert analyses.run(f"four@{definition.version}").made == {"a": 2, "b": 6, "c11": 6.0, "c12": 8, "c1": 4.0, "c2": 8}
    with pytest.raises(AnalysisError, match="has no version"):
        analyses.get("four@123456")


@pytest.fixture
def bundle(lake: Lake, tmp_path: Path) -> Path:
    """The crossover, as somebody hands it over."""
    lake.analyses.run("sma_crossover", PERIOD)
    file = tmp_path / "crossover.json"
    run("export", "sma_crossover", "-o", str(file))
    return file


@pytest.fixture
def recipient(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Lake]:
    """Loads the prices of a folder into a fresh installation."""

    def installed(prices: Path) -> Lake:
        monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "recipient"))
        settings.cache_clear()
        return load_prices(prices, monkeypatch)

    return installed


def test_verify__proves_the_same_results_on_a_fresh_installation(
    bundle: Path, recipient: Callable[[Path], Lake], tmp_path: Path
) -> None:
    lake = recipient(tmp_path / "prices")
    assert run("verify", str(bundle)).splitlines() == ["9 of 9 outputs equal"]
    assert lake.analyses.runs() == []
    assert "imported sma_crossover" in run("import", str(bundle))
    assert "the lake has it already" in run("import", str(bundle))
    changed = tmp_path / "longer.json"
    changed.write_text(bundle.read_text().replace('"kwargs":{"window":50}', '"kwargs":{"window":60}'))
    assert "run it by `lakehouse analyses run sma_crossover@" in run("import", str(changed))
    assert len([line for line in run("list").splitlines() if line.split()[:1] == ["sma_crossover"]]) == 2
    assert "longer.json" in run("list")
    version = store.definitions(lake)[-1].version
    assert lake.analyses.run(f"sma_crossover@{version[:12]}", PERIOD).run.version == version
    assert [each.imported_from for each in store.definitions(lake)] == ["crossover.json", "longer.json"]


def test_verify__names_a_changed_digit_of_the_data(
    bundle: Path, recipient: Callable[[Path], Lake], tmp_path: Path, closes: list[tuple[date, float]]
) -> None:
    file = tmp_path / "prices" / "aaa.csv"
    lines = file.read_text().splitlines()
    cells = lines[150].split(",")
    cells[4] = str(round((float(cells[2]) + float(cells[3])) / 2, 3))
    lines[150] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n")
    recipient(tmp_path / "prices")
    text = run("verify", str(bundle), code=1)
    assert "data of wiki.official_daily: column close differs in rows 101 to 200" in text
    assert "3 of 9 outputs equal; data, price, priceSliced, longSMA, shortSMA, fig differ" in text


def test_verify__names_a_changed_keyword_and_a_changed_source(bundle: Path, lake: Lake) -> None:
    text = bundle.read_text()
    changed = text.replace('"kwargs":{"window":50}', '"kwargs":{"window":51}', 1)
    assert changed != text
    found = lake.analyses.verify(changed)
    assert found.differences == ("row 5, kwargs: window is 51 in the rows, and was 50 when the sender ran them",)
    assert str(found) == "6 of 9 outputs equal; longSMA, crossSMA, fig differ"
    source = source_hash(lake.analyses.registry.get("ta.crossover").function)
    found = lake.analyses.verify(text.replace(source, "0" * 64))
    assert found.differences == ("row 7, funcPath: the source of ta.crossover@1 here isn't the sender's",)
    assert str(found) == "9 of 9 outputs equal"
    found = lake.analyses.verify(text.replace('"ta.crossover"', '"os.system"', 1))
    assert "row 7, funcPath: no function is registered as 'os.system'" in "\n".join(found.differences)
    assert found.equal == ()
    for odd in ("[]", "{}", '{"lakehouse_analysis": 2}', '{"lakehouse_analysis": 1, "name": "x"}', "["):
        with pytest.raises(AnalysisError):
            lake.analyses.verify(odd)


def test_step_and_diff__show_where_an_analysis_is_and_what_was_changed(bundle: Path, lake: Lake) -> None:
    sets = ("--set", "ticker=AAA", "--until", "4")
    rows = [line.split() for line in run("step", "sma_crossover", *sets).splitlines()]
    assert [row[-1] for row in rows if row[:1] and row[0] in "12345678"] == [*["done"] * 6, "next", "fig"]
    # A pipe gets whole lines, however narrow the terminal is said to be.
    shown = CliRunner().invoke(app, ["analyses", "show", "sma_crossover"], env={"COLUMNS": "40"}).output
    assert " 4    3      series.between      dates, price, start, end " in shown
    assert "fill:#d9f0e3" in run("step", "sma_crossover", *sets, "--as", "mermaid")
    assert run("show", "sma_crossover", "--as", "dag").splitlines()[-2] == "7 ta.crossover <- 6 ta.sma, 5 ta.sma"
    text = bundle.read_text().replace('"kwargs":{"window":15}', '"kwargs":{"window":20}', 1)
    bundle.write_text(text)
    assert run("diff", "sma_crossover", str(bundle)) == 'row 6, kwargs: {"window": 15} -> {"window": 20}\n'
    assert "the rows are equal" in run("diff", "sma_crossover", "sma_crossover")


def test_charts__are_drawn_from_what_is_stored(lake: Lake, tmp_path: Path) -> None:
    finished = lake.analyses.run("sma_crossover", PERIOD)
    stored = store.chart_of(lake.analyses.results("sma_crossover", "fig"))
    assert fingerprint(stored.lines[0].points) == fingerprint(finished.made["fig"].lines[0].points)
    assert [line.label for line in stored.lines][-1] == "signal"
    picture, drawing = tmp_path / "a.png", tmp_path / "a.svg"
    run("results", "sma_crossover", "fig", "-o", str(picture))
    run("results", "sma_crossover", "fig", "-o", str(drawing))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "average of 50 days" in drawing.read_text()
    assert "only a chart can be drawn" in run("results", "sma_crossover", "price", "-o", str(picture), code=2)


def test_sweep__compares_tickers_and_windows_and_stores_nothing(lake: Lake, tmp_path: Path) -> None:
    over = ("--over", "ticker=AAA,BBB,CCC", "--over", "shortSMA.window=5,15", "--set", "end=2008-02-29")
    rows = list(csv.DictReader(io.StringIO(run("sweep", "sma_backtest", *over, "--format", "csv"))))
    assert [(row["ticker"], row["shortSMA.window"]) for row in rows] == [
        (ticker, window) for ticker in ("AAA", "BBB", "CCC") for window in ("5", "15")
    ]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True] * 2
    assert lake.analyses.runs() == []
    alone = lake.analyses.run("sma_backtest", {"ticker": "BBB", "end": "2008-02-29"}).made
    assert float(rows[3]["netReturn"]) == alone["netReturn"]
    # Every change of the positions costs a thousandth.
    traded = float(alone["positions"]["value"].diff().fill_null(0).abs().sum())
    assert alone["totalReturn"] > alone["netReturn"] > alone["totalReturn"] - 0.002 * traded
    assert "has no output 'long'; did you mean" in run("sweep", "sma_backtest", "--over", "long.window=5", code=2)
    assert "it has no keyword 'windw'" in run("sweep", "sma_backtest", "--over", "longSMA.windw=5", code=2)


def test_look_ahead__finds_later_data_and_positions_of_their_own_day(lake: Lake) -> None:
    period = {"ticker": "AAA", "end": "2008-03-31"}
    assert lake.analyses.look_ahead("sma_backtest", period) == []
    analyses = lake.analyses.with_tasks(TASKS)
    known = analyses.get("sma_backtest")

    def changed(name: str, key: str, **entries: Any) -> str:
        rows = [row | entries if row["outputKeys"] == [key] else row for row in known.as_rows()]
        analyses.add(definition_of(name, rows, known.inputs))
        return name

    first, *_ = analyses.look_ahead(changed("centered", "longSMA", funcPath="four.centered", kwargs={}), period)
    assert first.startswith("longSMA looks ahead: its value of ")
    (line,) = analyses.look_ahead(changed("of_today", "crossSMA", kwargs={"lag": 0}), period)
    assert line.startswith("positions looks ahead: the position of ")
    assert line.endswith("depends on that day's prices; lag its signal by 1")
