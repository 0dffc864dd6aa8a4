"""The asset that reconciles a source's daily bars with a second, independent series. Its page shows the distribution of
the deviations; its check lists those beyond the YAML's bounds.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.components.asset_specs import declared
from lakehouse.components.bars.figures import deviation_pictures
from lakehouse.components.checks import record_results
from lakehouse.components.metadata import in_markdown, records_table
from lakehouse.components.resources import LakeResource
from lakehouse.components.sources.run_tags import tagged_partitions
from lakehouse.derive.check_history import scope_of
from lakehouse.derive.held_back import hold_back
from lakehouse.domains.market.bars.source import BarSource
from lakehouse.domains.market.reconciliation.views import breaks_of, other_bases_of
from lakehouse.lake.lake import Lake

_WORST = 10
# A wrong basis or price is worse than a wrong volume; a session missing on one side has no deviation.
_ORDER = "kind = 'volume', abs(deviation_bp) DESC NULLS LAST, session DESC, instrument_id, field"


def reconciliation_asset(
    resolve: Callable[[], BarSource], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    """The asset `<source>/reconciliation` with its check; a blocking check holds back the marts."""
    source = resolve()
    bounds = source.config.reconciliation
    assert bounds is not None
    against = [source.name, bounds.against] if "." not in bounds.against else bounds.against.split(".")
    deps = [[source.name, "daily_bars"], against]
    if source.official_daily is not None:
        deps += [[source.name, table] for table in ("official_daily", "corporate_actions")]
    asset = dg.AssetKey([source.name, "reconciliation"])
    blocks = bounds.severity == "block"
    spec = dg.AssetCheckSpec(
        "reconciles",
        asset=asset,
        blocking=blocks,
        description=f"Daily bars agree with {'.'.join(against)}: open, high and low within {bounds.price_bp:g} basis "
        f"points, close within {bounds.close_bp:g}, volume ratio from {bounds.volume_min:g} to "
        f"{bounds.volume_max:g}.",
    )

    what = f"Daily bars reconciled with {'.'.join(against)}; the breaks are rows of lake.reconciliation_breaks."

    @dg.asset(
        **declared(source, "reconciliation", what, [], {"duckdb"})
        | {"deps": [list(key) for key in dict.fromkeys(map(tuple, deps))]},
        check_specs=[spec],
    )
    def reconciliation(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        opened, present = lake.open(), resolve()
        sessions = tagged_partitions(context.run.tags, opened, present, partitions)
        breaks, bases = _differences(opened, present, sessions)
        counts = {f"breaks_{kind}": count for kind, count in _kinds(breaks).items()}
        shown = [
            {name: value for name, value in found.items() if name not in ("source", "against")} for found in breaks
        ]
        worst = {"worst": dg.MetadataValue.md(records_table(shown[:_WORST]))} if shown else {}
        found_bases = {"other_bases": dg.MetadataValue.md(records_table(bases))} if bases else {}
        passed, summary = _summary(breaks, bases)
        if blocks:
            hold_back(
                opened,
                source.name,
                {(asset.path[-1], spec.name): (passed, summary)},
                sessions,
                lambda _, scope: _summary(*_differences(opened, present, scope)),
            )
        result = dg.AssetCheckResult(
            passed=passed,
            check_name=spec.name,
            asset_key=asset,
            severity=dg.AssetCheckSeverity.ERROR if blocks else dg.AssetCheckSeverity.WARN,
            description=in_markdown(summary),
            metadata={**counts, **worst, **found_bases},
        )
        record_results(opened, [result], context.run_id, scope_of(sessions))
        return dg.MaterializeResult(
            metadata={"breaks": len(breaks), **counts, **found_bases, **deviation_pictures(opened, present)},
            check_results=[result],
        )

    return reconciliation


def _differences(
    lake: Lake, source: BarSource, sessions: Sequence[date] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the breaks of the given sessions (None: all), and the series adjusted as of another day than recorded."""
    with lake.connect() as connection:
        breaks = connection.execute(f"FROM ({breaks_of(lake, connection, source, sessions)}) ORDER BY {_ORDER}")
        found = breaks.to_arrow_table().to_pylist()
        others = connection.execute(f"FROM ({other_bases_of(lake, connection, source)}) ORDER BY ALL")
        return found, others.to_arrow_table().to_pylist()


def _kinds(breaks: list[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(found["kind"] for found in breaks).items()))


def _summary(breaks: list[dict[str, Any]], bases: list[dict[str, Any]]) -> tuple[bool, str]:
    """Returns whether the two series agree, and a description of the findings."""
    said = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in _kinds(breaks).items())
    findings = [f"{len(breaks):,} breaks: {said}"] if breaks else []
    if bases:
        # Reads adjust prices by the recorded date.
        symbols = ", ".join(found["symbol"] or found["instrument_id"] for found in bases)
        findings.append(f"adjusted as of another day than recorded: {symbols}")
    return not findings, "; ".join(findings) or "nothing found"
