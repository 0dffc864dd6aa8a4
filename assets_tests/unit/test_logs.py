"""The log file: its lines, and its rotation by several writers."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.components.run_logs import run_log
from lakehouse.logs import CONTEXT, JsonLines, RotatedFile
from lakehouse.settings import settings

MESSAGES = st.lists(st.text(max_size=60), max_size=30)


def record(message: str, **context: str) -> logging.LogRecord:
    made = logging.LogRecord("lakehouse.test", logging.WARNING, __file__, 1, message, None, None)
    setattr(made, CONTEXT, context)
    return made


def files_of(path: Path) -> list[Path]:
    """The file and those that it was before, the oldest first."""
    rotated = sorted(path.parent.glob(f"{path.name}.[0-9]*"), key=lambda each: -int(each.suffix[1:]))
    return [*rotated, *([path] if path.exists() else [])]


@given(MESSAGES, st.integers(150, 600))
@example(["\x85\u2028"], 150)
def test_rotated_file__keeps_each_line_once_whoever_writes_it(messages: list[str], max_bytes: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "logs" / "lakehouse.jsonl"
        writers = [RotatedFile(path, max_bytes, 99) for _ in range(3)]
        for number, message in enumerate(messages):
            writers[number % 3].emit(record(message, number=str(number)))
        # JSON Lines end in a line feed alone; Python's `splitlines` knows other ends, which a text may hold.
        files = [file.read_text().removesuffix("\n").split("\n") for file in files_of(path)] if messages else []
        lines = [json.loads(line) for file in files for line in file]
        assert [line["message"] for line in lines] == messages
        assert all(len(file) == 1 or sum(len(line.encode()) + 1 for line in file) <= max_bytes for file in files)


def test_rotated_file__keeps_so_many(tmp_path: Path) -> None:
    writer = RotatedFile(tmp_path / "log", 10, 2)
    for number in range(6):
        writer.emit(record(str(number)))
    assert [json.loads(file.read_text())["message"] for file in files_of(tmp_path / "log")] == ["3", "4", "5"]


def test_json_lines__have_the_context_and_the_error() -> None:
    made = record("it\nfailed", run="4711", source="xetra")
    try:
        raise ValueError("why")
    except ValueError as error:
        made.exc_info = (ValueError, error, error.__traceback__)
    line = JsonLines().format(made)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["message"], found["run"], found["source"]) == (
        *("WARNING", "it\nfailed"),
        *("4711", "xetra"),
    )
    assert "ValueError: why" in found["error"]


def logger_of(**config: str) -> logging.Logger:
    return run_log.logger_fn(dg.build_init_logger_context(logger_config={"name": "dagster", **config}))


def test_run_log__leaves_debugging_off_the_screen_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [handler.level for handler in logger_of().handlers] == [logging.INFO]
    assert [handler.level for handler in logger_of(log_level="CRITICAL").handlers] == [logging.CRITICAL]
    monkeypatch.setenv("LAKEHOUSE_LOG_LEVEL", "DEBUG")
    settings.cache_clear()
    assert [handler.level for handler in logger_of().handlers] == [logging.DEBUG]


def test_run_log__names_the_run_its_source_and_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_LOG_FILE", str(tmp_path / "runs.jsonl"))
    settings.cache_clear()
    logger = logger_of(log_level="CRITICAL")
    range_of = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-28"}
    metas = (
        {"run_id": "1", "job_name": "job", "job_tags": {"lakehouse/source": "wiki", **range_of}, "step_key": None},
        {"run_id": "2", "job_name": "job", "job_tags": {"dagster/partition": "2024-03-04"}, "step_key": "xetra__bars"},
    )
    for meta in metas:
        logger.info("something", extra={"dagster_meta": meta})
    logger.debug("detail", extra={"dagster_meta": metas[0]})
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    shown = [{name: line.get(name) for name in ("run", "source", "session", "last_session", "step")} for line in lines]
    assert shown == [
        {"run": "1", "source": "wiki", "session": "2024-03-01", "last_session": "2024-03-28", "step": None},
        {"run": "2", "source": "xetra", "session": "2024-03-04", "last_session": None, "step": "xetra__bars"},
    ]
