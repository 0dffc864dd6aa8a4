"""Keeps the result of every check of every run, in the table `check_results`: one row per run and check.

`lakehouse.derive.evaluation` keeps rows of the same table per partition, which runs read again. Those written here are
read by people: `lakehouse.governance.quality` lists and draws them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from lakehouse.derive.evaluation import Row, keep
from lakehouse.lake.lake import Lake


@dataclass(frozen=True)
class CheckResult:
    """What a check found in a run.

    Args:
        source: of the table; `marts` for published models.
        severity: `error` or `warn`.
        facts: numbers that the check gives.
    """

    source: str
    table: str
    check: str
    passed: bool
    severity: str
    summary: str
    facts: Mapping[str, float] = field(default_factory=dict)


def scope_of(partitions: Sequence[date] | None) -> str:
    """The partitions that a run checked, as text."""
    if partitions is None:
        return "all"
    if not partitions:
        return "none"
    first, last = min(partitions), max(partitions)
    return str(first) if first == last else f"{first} to {last} ({len(partitions)})"


def record(
    lake: Lake, results: Sequence[CheckResult], run_id: str, scope: str, of_partitions: Sequence[Row] = ()
) -> None:
    """Appends a run's results in one commit, with the rows `of_partitions` that were evaluated for them. A step that is
    repeated has evaluated its checks once more: the newest row of a run counts.
    """
    moment = datetime.now(UTC)
    of_run: list[Row] = [
        {
            "source": result.source,
            "table_name": result.table,
            "check_name": result.check,
            "content": 0,
            "code": 0,
            "passed": result.passed,
            "offenders": 0 if result.passed else int(result.facts.get("offenders", 1)),
            "rows": "[]",
            "facts": json.dumps(dict(result.facts)),
            "evaluated_at": moment,
            "run_id": run_id,
            "severity": result.severity,
            "scope": scope,
            "summary": result.summary,
        }
        for result in results
    ]
    keep(lake, [*of_partitions, *of_run])
