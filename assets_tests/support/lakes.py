"""Lakes that tests fill by the command line and compare: a home with its settings, the commands people type, and the
rows that must be the same wherever they lie.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from assets_tests.support.patience import PATIENCE_S
from lakehouse.api import Lake
from lakehouse.cli.app import app
from lakehouse.settings import settings

TABLES = (
    "xetra.raw_bars",
    "xetra.bars",
    "xetra.daily_bars",
    "lake.ingest_ledger",
    "lake.quarantine",
    "lake.conservation",
)
MARTS = tuple(
    f"marts.{name}"
    for name in (
        "dim_venue",
        "dim_session",
        "dim_instrument",
        "fct_daily_bar",
        "fct_corporate_action",
        "daily_summary",
        "daily_movers",
        "most_traded_by_value",
        "average_range",
        "returns",
        "dim_resolution",
        "fct_quote_window",
        "bridge_instrument_identifier",
        "dim_issuer",
        "customer_cohort",
        "customer_value",
        "item_price_response",
        "revenue",
        "dim_country",
        "dim_customer",
        "dim_item",
        "fct_invoice",
        "fct_sale_line",
        "dim_customers",
        "dim_items",
        "fact_transactions",
        "dim_bank_customer",
        "dim_branch",
        "dim_account",
        "fct_entry",
        "fct_balance_daily",
        "fct_loan_payment",
        "fct_order",
        "fct_stock_movement",
        "order_funnel",
        "time_in_stage",
        "refunds_by_reason",
        "dim_document",
        "document_chunk",
        "document_posting",
    )
)
VIEWS = ("marts.top_stocks", "marts.percentage_gains")
"""What the published file shows without keeping it."""
PLACE_AND_TIME = ("object_version", "published_at", "ingested_at", "run_id", "load_date")
"""Columns that say where a lake's objects were and when it was filled, not with what."""


@dataclass(frozen=True)
class Lakehouse:
    """An installation: `home`, and the `variables` that are its settings; no other setting reaches it."""

    home: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The `lakehouse` command as a process of its own, not waited for; its imports alone take five seconds."""
        others = {name: value for name, value in os.environ.items() if not _is_setting(name)}
        self.home.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).with_name("lakehouse")), *arguments]
        return subprocess.Popen(
            command,
            env={**others, **self.environment},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs the `lakehouse` command in the test's own process: its exit code and everything that it printed."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self._meant():
            result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    def succeed(self, *arguments: str) -> str:
        """What the command printed; it has to end well."""
        code, output = self.run(*arguments)
        assert code == 0, f"lakehouse {' '.join(arguments)}:\n{output}"
        return output

    @contextmanager
    def opened(self) -> Iterator[Lake]:
        """The lake, opened in the test's own process by the same settings."""
        with self._meant():
            yield Lake.open()

    @contextmanager
    def _meant(self) -> Iterator[None]:
        """Makes this process mean this installation."""
        with pytest.MonkeyPatch.context() as patch:
            for name in filter(_is_setting, list(os.environ)):
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            settings.cache_clear()
            try:
                yield
            finally:
                settings.cache_clear()

    @property
    def environment(self) -> dict[str, str]:
        """Everything that the environment says of this installation and of no other."""
        none_of_the_users = {
            "PYTHON_DOTENV_DISABLED": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_CONFIG_FILE": os.devnull,
        }
        homes = {"LAKEHOUSE_HOME": str(self.home), "DAGSTER_HOME": str(self.home / "dagster")}
        return {**none_of_the_users, "COLUMNS": "200", **homes, **self.variables}

    def rows(self, *tables: str) -> dict[str, pl.DataFrame]:
        """The rows of tables, without what depends on place and time, in one order."""
        with self.opened() as lake:
            return {table: _comparable(lake.sql(f"FROM {table}").pl()) for table in tables}


def _is_setting(variable: str) -> bool:
    return variable.startswith(("LAKEHOUSE_", "AWS_")) or variable == "DAGSTER_HOME"


def finished(process: subprocess.Popen[str], timeout: float = PATIENCE_S) -> tuple[int, str]:
    """Waits for a process; its exit code and its output. After `timeout` seconds it is ended and the test fails."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{process.args} did not end:\n{process.communicate()[0]}") from None
    return process.returncode, output


def _comparable(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.drop(*PLACE_AND_TIME, strict=False)
    if "parts" in frame.columns:
        kept = [pl.element().struct.field(name) for name in ("part", "rows", "digest")]
        frame = frame.with_columns(pl.col("parts").list.eval(pl.struct(kept)))
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.col(name).map_elements(lambda value: str(value.to_list()), pl.String) for name in nested
    ).sort(pl.all())
