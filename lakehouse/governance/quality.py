"""Quality over time: what each check found in each run, from the table `check_results`, as rows and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from lakehouse.derive.evaluation import RESULTS
from lakehouse.lake.lake import Lake
from lakehouse.lake.sql import literal
from lakehouse.pictures import in_markdown

RUNS_SHOWN = 60
"""The newest runs of a table that its picture shows."""
_CELL, _MARGIN, _HEAD = 12, 220, 26
_COLOURS = {"passed": "#3fb68b", "warned": "#e0a100", "failed": "#d1344b", "none": "#e8eaf0"}


@dataclass(frozen=True)
class CheckedRun:
    """What a check of a table found in a run."""

    source: str
    table: str
    check: str
    at: datetime
    run_id: str
    passed: bool
    severity: str
    scope: str
    summary: str
    facts: str

    @property
    def outcome(self) -> str:
        """`passed`, `warned` or `failed`."""
        return "passed" if self.passed else "warned" if self.severity == "warn" else "failed"


@dataclass(frozen=True)
class CheckState:
    """A check over all runs: its newest result, and how often it was evaluated and did not pass."""

    newest: CheckedRun
    runs: int
    not_passed: int
    since: datetime
    """When its outcome became what it is."""


def checked_runs(
    lake: Lake, source: str | None = None, table: str | None = None, newest: int | None = None
) -> list[CheckedRun]:
    """The results of the checks (of a source, or of one of its tables), oldest first. Of a step that was repeated in a
    run, the last result.

    Args:
        newest: how many runs of each table, the newest ones; None for all.
    """
    named = f"table_name = {literal(table)}" if table else "true"
    limited = f"place <= {newest}" if newest else "true"
    with lake.connect() as connection:
        stored = lake.select(RESULTS, connection, {"source": [source]} if source else None)
        rows = connection.execute(
            f"""
            WITH results AS (
                FROM ({stored}) WHERE run_id IS NOT NULL AND {named}
                QUALIFY row_number() OVER (
                    PARTITION BY source, table_name, check_name, run_id, scope ORDER BY evaluated_at DESC
                ) = 1
            ), runs AS (
                SELECT source, table_name, run_id, row_number() OVER (
                    PARTITION BY source, table_name ORDER BY min(evaluated_at) DESC
                ) AS place FROM results GROUP BY source, table_name, run_id
            )
            SELECT source, table_name, check_name, evaluated_at, run_id, passed, severity, scope, summary, facts
            FROM results JOIN runs USING (source, table_name, run_id) WHERE {limited}
            ORDER BY evaluated_at, source, table_name, check_name
            """
        ).fetchall()
    return [CheckedRun(*row) for row in rows]


def states(runs: Sequence[CheckedRun]) -> list[CheckState]:
    """The checks of some runs (oldest first): those that failed first, then warnings, then those that have failed most
    often.
    """
    by_check: dict[tuple[str, str, str], list[CheckedRun]] = {}
    for run in runs:
        by_check.setdefault((run.source, run.table, run.check), []).append(run)
    found = [_state(of_check) for of_check in by_check.values()]
    rank = ("failed", "warned", "passed").index
    return sorted(found, key=lambda state: (rank(state.newest.outcome), -state.not_passed))


def _state(runs: Sequence[CheckedRun]) -> CheckState:
    newest, since = runs[-1], runs[-1].at
    for run in reversed(runs):
        if run.outcome != newest.outcome:
            break
        since = run.at
    return CheckState(newest, len(runs), sum(not run.passed for run in runs), since)


def history_picture(runs: Sequence[CheckedRun]) -> str | None:
    """The checks of a table over its runs as a picture in Markdown: a line per check, a column per run. None for fewer
    than two runs, since there is nothing to compare.
    """
    order = list(dict.fromkeys(run.run_id for run in runs))[-RUNS_SHOWN:]
    if len(order) < 2:
        return None
    shown = [run for run in runs if run.run_id in order]
    return in_markdown(_svg(shown, order), f"checks over the last {len(order)} runs")


def _svg(runs: Sequence[CheckedRun], order: Sequence[str]) -> str:
    checks = sorted({run.check for run in runs})
    cells = {(run.check, run.run_id): run for run in runs}
    width, height = _MARGIN + _CELL * len(order) + 10, _HEAD + _CELL * len(checks) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="10"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="4" y="14">{runs[0].at:%Y-%m-%d %H:%M} to {runs[-1].at:%Y-%m-%d %H:%M} UTC, {len(order)} runs</text>',
    ]
    squares: dict[str, list[str]] = {}
    for number, check in enumerate(checks):
        top = _HEAD + _CELL * number
        lines.append(f'<text x="4" y="{top + _CELL - 3}">{escape(check[:36])}</text>')
        for place, run_id in enumerate(order):
            run = cells.get((check, run_id))
            colour = _COLOURS[run.outcome if run else "none"]
            squares.setdefault(colour, []).append(f"M{_MARGIN + _CELL * place} {top}h10v10h-10z")
    lines += [f'<path fill="{colour}" d="{"".join(each)}"/>' for colour, each in squares.items()]
    return "".join([*lines, "</svg>"])
