"""The pipeline's checks as Dagster asset checks: one step per table, one check per rule."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date

import dagster as dg

from lakehouse.components.metadata import in_markdown, records_table
from lakehouse.components.resources import LakeResource
from lakehouse.derive.check_history import CheckResult, record, scope_of
from lakehouse.derive.evaluation import Row, evaluated
from lakehouse.derive.held_back import hold_back
from lakehouse.derive.source import Check, Finding, Source
from lakehouse.governance.quality import RUNS_SHOWN, CheckedRun, checked_runs, history_picture
from lakehouse.lake.lake import Lake

_SEVERITY = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}


def table_checks(
    resolve: Callable[[], Source],
    description: str,
    table: str,
    sessions_of: Callable[[Mapping[str, str], Lake], list[date] | None],
    after: Collection[str] = (),
) -> dg.AssetChecksDefinition:
    """The checks of a table of a source.

    Args:
        resolve: makes the source from the settings at run time.
        description: the source's, as text.
        sessions_of: maps a run's tags to the sessions or days to check; None means the whole table.
        after: further tables of the source that the checks look at, so that they run once these are made.
    """
    source = resolve()
    checks = {check.name: check for check in source.checks if check.table == table}
    asset = dg.AssetKey([source.name, table])

    @dg.multi_asset_check(
        name=f"{source.name}_{table}_checks",
        description=f"Checks of {source.name}.{table} as it is stored.",
        specs=[
            dg.AssetCheckSpec(
                check.name,
                asset=asset,
                description=check.description,
                blocking=check.blocking,
                additional_deps=[dg.AssetKey([source.name, other]) for other in after],
            )
            for check in checks.values()
        ],
        can_subset=True,
    )
    def run_checks(context: dg.AssetCheckExecutionContext, lake: LakeResource) -> Iterator[dg.AssetCheckResult]:
        opened, present = lake.open(), resolve()
        sessions = sessions_of(context.run.tags, opened)
        names = {key.name for key in context.selected_asset_check_keys}
        selected = [check for name, check in checks.items() if name in names]
        findings, rows = evaluated(opened, present, table, selected, sessions, description)
        hold_back(
            opened,
            present.name,
            {(table, name): _outcome(found) for name, found in findings.items() if checks[name].blocking},
            sessions,
            lambda check, scope: _outcome(checks[check[1]].run(opened, present, scope)),
        )
        results = [check_result(checks[name], asset, finding) for name, finding in findings.items()]
        record_results(opened, results, context.run.run_id, scope_of(sessions), rows)
        yield from with_history(results, checked_runs(opened, present.name, table, RUNS_SHOWN))

    return run_checks


def record_results(
    lake: Lake, results: Iterable[dg.AssetCheckResult], run_id: str, scope: str, of_partitions: Sequence[Row] = ()
) -> None:
    """Keeps a run's results of checks of assets `<source>/<table>` in the lake, with the rows
    `of_partitions` that were evaluated for them.
    """
    kept = [
        CheckResult(
            source="/".join(result.asset_key.path[:-1]),
            table=result.asset_key.path[-1],
            check=result.check_name,
            passed=result.passed,
            severity="warn" if result.severity == dg.AssetCheckSeverity.WARN else "error",
            summary=(result.description or "").strip(),
            facts={name: number for name, value in result.metadata.items() if (number := _number(value)) is not None},
        )
        for result in results
        if result.asset_key is not None and result.check_name is not None
    ]
    record(lake, kept, run_id, scope, of_partitions)


def _number(value: object) -> float | None:
    plain = value.value if isinstance(value, dg.MetadataValue) else value
    return plain if isinstance(plain, int | float) and not isinstance(plain, bool) else None


def with_history(results: Iterable[dg.AssetCheckResult], runs: Iterable[CheckedRun]) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks of tables; the first of a table that did not pass, or its first of all, shows how the
    table's checks went in `runs`.
    """
    by_table: dict[tuple[str, str], list[CheckedRun]] = {}
    for run in runs:
        by_table.setdefault((run.source, run.table), []).append(run)
    for result in sorted(results, key=lambda result: result.passed):
        source, table = result.asset_key.path if result.asset_key else ("", "")
        picture = history_picture(by_table.pop((source, table), []))
        shown = {} if picture is None else {"history": dg.MetadataValue.md(picture)}
        yield result._replace(metadata={**result.metadata, **shown})


def _outcome(finding: Finding) -> tuple[bool, str]:
    return finding.passed, finding.summary


def check_result(check: Check, asset: dg.AssetKey, finding: Finding) -> dg.AssetCheckResult:
    """Converts a check's finding to Dagster's result."""
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check.name,
        passed=finding.passed,
        severity=_SEVERITY[check.severity],
        description=in_markdown(finding.summary),
        metadata={
            **finding.facts,
            **({"rows": dg.MetadataValue.md(records_table(finding.rows))} if finding.rows else {}),
        },
    )
