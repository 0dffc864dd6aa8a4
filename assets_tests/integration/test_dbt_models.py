"""The dbt models, built over a small lake of real Delta tables: what they hold, and that an incremental build leaves what a rebuild would.

dbt runs in this process with the manifest parsed once, as a build takes 0.6 s then and 3 s as a command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.lake.lake import Lake

PROJECT = Path(__file__).parents[2] / "dbt_project"
SOURCES = ["xetra", "alpha_vantage"]

TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, MONDAY = (date(2024, 1, day) for day in (2, 3, 4, 5, 8))
SESSIONS = [TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, MONDAY]
