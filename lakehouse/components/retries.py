"""Shared by the assets that load: retries after transient faults, and metadata about the load."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg

from lakehouse.components.metadata import records_table
from lakehouse.errors import LakeUnavailable, SourceUnavailable
from lakehouse.ingest.dataset import Dataset
from lakehouse.ingest.load import LoadResult
from lakehouse.ingest.refused import refusal
from lakehouse.lake.lake import Lake
from lakehouse.printable import printable

_TRIES_AFTER_FAULT = 3
_PAUSE_S = 2.0


@contextmanager
def transient_faults_retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Requests a retry from Dagster if the source or the lake doesn't answer. Any other error would recur, so it fails
    the run at once.
    """
    try:
        yield
    except (SourceUnavailable, LakeUnavailable) as fault:
        raise dg.RetryRequested(
            max_retries=_TRIES_AFTER_FAULT, seconds_to_wait=_PAUSE_S * 2**context.retry_number
        ) from fault


def loaded_metadata(context: dg.AssetExecutionContext, result: LoadResult) -> dict[str, Any]:
    """Metadata about a load for its asset's page; also logs failed objects."""
    for name, error in result.errors.items():
        context.log.error(printable(f"{name}: {error}"))
    failed = [{"object": name, "error": error} for name, error in result.errors.items()]
    return {
        "rows_received": result.rows_received,
        "rows_quarantined": result.rows_quarantined,
        **{f"objects_{status}": count for status, count in result.objects.items()},
        "partitions_with_news": len(result.parts),
        **({"errors": dg.MetadataValue.md(records_table(failed))} if failed else {}),
    }


def refused_metadata(lake: Lake, dataset: Dataset, sessions: list[date] | None) -> dict[str, Any]:
    """Metadata about the rejected rows of the objects of `sessions` (None: all objects), with reasons."""
    found = refusal(lake, dataset, sessions)
    reasons = [{"reason": reason, "rows": rows} for reason, rows in found.reasons.items()]
    table = {"refused_reasons": dg.MetadataValue.md(records_table(reasons))} if reasons else {}
    return {"refused_pct": round(found.pct, 2), **table}


def report_shared_tables(context: dg.AssetExecutionContext, lake: Lake, result: LoadResult) -> None:
    """Reports to Dagster the shared tables that a load writes besides its own."""
    news = {
        "ingest_ledger": {"rows_received": result.rows_received},
        "quarantine": {"rows_quarantined": result.rows_quarantined},
    }
    for name, facts in news.items():
        version = lake.table(name).snapshot().version
        if version is not None:
            context.log_event(dg.AssetMaterialization(["lake", name], metadata={**facts, "table_version": version}))
